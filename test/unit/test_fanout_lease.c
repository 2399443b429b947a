/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that have a grant, on a real loop and a socket pair, with a bus that only keeps what it
 * is sent: how they are found, end, are renewed, and give their tickets back. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "relay/bus/bus.h"
#include "relay/fanout/fanout.h"
#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

enum { TAG = 0xabcd1234, START_ID = 1000 };

static const char hash[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/* In place of the bus of bus.c. */
struct bus {
    struct inbox *inbox;
};

struct inbox *bus_inbox(struct bus *bus)
{
    return bus->inbox;
}

int64_t bus_clock_offset_us(const struct bus *bus)
{
    (void)bus;
    return 0;
}

/* --- the rig ---------------------------------------------------------------------------------- */

/* One client's side. */
struct peer {
    struct stream *stream; /* NULL: it is over */
    struct note_read *read;
    int ours, its;
    struct buf got;
    bool ended; /* the stream wants to be over */
};

static struct ev_loop *loop;
static struct bus bus;
static struct metrics *metrics;
static struct node node;
static struct config *config;
static struct fanout *fanout;
static struct revoked *revoked;
static struct note_call *call; /* the last that the bus was sent */

static void on_bus(void *arg)
{
    (void)arg; /* the tests look */
}

static void on_end(void *connection)
{
    ((struct peer *)connection)->ended = true;
}

static void rig_start(const char *words)
{
    loop = ev_loop_new(EVFLAG_NOENV);
    bus.inbox = inbox_new(loop, on_bus, NULL);
    metrics = metrics_new();
    node = (struct node){
        .name = "n", .version = "0", .tag = TAG, .bus = &bus, .workers = 1, .metrics = &metrics};
    config = load_ok(words, "");
    fanout = fanout_new(loop, 0, &node, config, on_end);
    revoked = revoked_new();
    call = NULL;
}

static void take_notes(struct peer *peer)
{
    struct inbox_item *item;
    while ((item = inbox_pop(bus.inbox))) {
        struct note *note = (struct note *)item;
        if (note->kind == NOTE_READ && peer && ((struct note_read *)note)->owner == peer->stream) {
            peer->read = (struct note_read *)note;
        } else if (note->kind == NOTE_CALL) {
            note_call_free(call);
            call = (struct note_call *)note;
        } else {
            note_free(note);
        }
    }
}

static void rig_stop(void)
{
    take_notes(NULL);
    note_call_free(call);
    revoked_free(revoked);
    fanout_free(fanout);
    config_unref(config);
    metrics_free(metrics);
    inbox_free(bus.inbox);
    ev_loop_destroy(loop);
}

static void list_add(struct strings *list, const char *text)
{
    strings_add(list, slice_of(text));
}

/* A grant of subject @subject for @subscribe, with token id j-<subject> and key k1. */
static struct grant_fields fields_for(const char *ns, const char *subject, const char *subscribe)
{
    struct grant_fields fields = {.ns = slice_dup(slice_of(ns)),
                                  .issuer = slice_dup(SLICE_LIT("I")),
                                  .subject = slice_dup(slice_of(subject)),
                                  .kid = slice_dup(SLICE_LIT("k1")),
                                  .iat_s = 100};
    struct buf jti = {0};
    buf_printf(&jti, "j-%s", subject);
    fields.jti = buf_take(&jti, NULL);
    list_add(&fields.subscribe, subscribe);
    return fields;
}

static struct grant *grant_for(const char *ns, const char *subject, uint64_t exp_s)
{
    struct grant_fields fields = fields_for(ns, subject, "a.*");
    fields.exp_s = exp_s;
    return grant_new(&fields);
}

/* Takes the reference of @grant. */
static struct subscription_request request_for(struct grant *grant)
{
    struct subscription_request request = {
        .ns = slice_dup(grant ? slice_of(grant_fields(grant)->ns) : SLICE_LIT("t1")),
        .grant = grant};
    list_add(&request.topics, "a.x");
    return request;
}

/* Its preamble is still on its way. */
static void peer_open(struct peer *peer, struct subscription_request *request,
                      const struct stream_form *form)
{
    static const struct stream_form plain;
    int fds[2];
    *peer = (struct peer){0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    peer->ours = fds[0];
    peer->its = fds[1];
    peer->stream = fanout_open(fanout, peer, request, form ? form : &plain);
    take_notes(peer);
    ck_assert_ptr_nonnull(peer->read);
}

/* The log has nothing for it: it is live. */
static void peer_page(struct peer *peer)
{
    peer->read->events = mem_zero(1, sizeof(struct event *));
    peer->read->start = peer->read->end = START_ID;
    peer->read->final = true;
    fanout_take_page(fanout, peer->read);
    peer->read = NULL;
}

static void peer_connect(struct peer *peer, struct grant *grant)
{
    struct subscription_request request = request_for(grant);
    peer_open(peer, &request, NULL);
    fanout_start(peer->stream, peer->ours);
    peer_page(peer);
}

static void peer_read(struct peer *peer)
{
    char bytes[65536];
    ssize_t n;
    while ((n = recv(peer->its, bytes, sizeof(bytes), 0)) > 0)
        buf_put(&peer->got, bytes, (size_t)n);
}

static const char *peer_find(const struct peer *peer, const char *text)
{
    return peer->got.len ? memmem(peer->got.ptr, peer->got.len, text, strlen(text)) : NULL;
}

static bool peer_has(const struct peer *peer, const char *text)
{
    return peer_find(peer, text);
}

/* What is queued goes out. */
static void turn(struct peer *peer)
{
    ev_run(loop, EVRUN_NOWAIT);
    peer_read(peer);
}

/* Until it has been sent @text, or, NULL, until it has ended. */
static void wait_for(struct peer *peer, const char *text)
{
    while (text ? !peer_has(peer, text) : !peer->ended) {
        ev_run(loop, EVRUN_ONCE);
        peer_read(peer);
    }
}

static void peer_close(struct peer *peer)
{
    if (peer->stream)
        fanout_over(peer->stream);
    if (peer->read) /* the bus gives it back later */
        note_read_free(peer->read);
    close(peer->ours);
    close(peer->its);
    buf_reset(&peer->got);
    peer->stream = NULL;
    peer->read = NULL;
    take_notes(NULL);
}

static void expect_shutdown(const struct peer *peer, const char *reason)
{
    struct buf text = {0};
    buf_printf(&text, "event: relay.shutdown\ndata: {\"reason\":\"%s\"}\n\n", reason);
    ck_assert_uint_ge(peer->got.len, text.len);
    ck_assert_mem_eq(peer->got.ptr + peer->got.len - text.len, text.ptr, text.len);
    buf_reset(&text);
}

static bool is_open(const struct peer *peer)
{
    return peer->stream->client.state != CLIENT_CLOSING;
}

static uint64_t now_s(void)
{
    return clock_wall_us() / 1000000;
}

/* The connection id that relay.connected told, 32 characters. */
static struct slice told_id(const struct peer *peer)
{
    static const char member[] = "\"connection_id\":\"";
    const char *at = peer_find(peer, member);
    ck_assert_ptr_nonnull(at);
    return (struct slice){at + strlen(member), CONNECTION_ID_CHARS};
}

/* --- revocations ------------------------------------------------------------------------------ */

static void revoke_all(const char *ns, struct revoked_entry *entries, size_t count)
{
    struct note_revoked note = {.ns = slice_dup(slice_of(ns)), .entries = entries, .count = count};
    for (size_t i = 0; i < count; i++)
        entries[i].value = slice_dup(slice_of(entries[i].value)); /* as long as the note is */
    fanout_revoke(fanout, &note);
    for (size_t i = 0; i < count; i++)
        revoked_entry_reset(&entries[i]);
    free(note.ns);
}

static void revoke_one(const char *ns, enum revoked_kind kind, char *value)
{
    revoke_all(ns, &(struct revoked_entry){.kind = kind, .value = value, .before_s = 100}, 1);
}

START_TEST(test_a_subject_that_is_revoked_is_sent_why_and_ends)
{
    struct peer a, b, other, elsewhere, nobody;
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    peer_connect(&b, grant_for("t1", "42", 0));
    peer_connect(&other, grant_for("t1", "43", 0));
    peer_connect(&elsewhere, grant_for("t2", "42", 0));
    peer_connect(&nobody, NULL);
    revoke_one("t1", REVOKED_SUBJECT, "42");
    turn(&a);
    turn(&b);
    ck_assert(a.ended && b.ended);
    expect_shutdown(&a, "revoked");
    expect_shutdown(&b, "revoked");
    ck_assert(is_open(&other) && is_open(&elsewhere) && is_open(&nobody));
    ck_assert_uint_eq(metrics_total(&metrics, 1, M_CLOSED_REVOKED), 2);
    peer_close(&a);
    peer_close(&b);
    revoke_one("t1", REVOKED_SUBJECT, "42"); /* there is nobody any more */
    peer_close(&other);
    peer_close(&elsewhere);
    peer_close(&nobody);
    rig_stop();
}
END_TEST

START_TEST(test_a_token_issued_later_goes_on)
{
    struct peer a;
    struct grant_fields fields = fields_for("t1", "42", "a.*");
    rig_start("");
    fields.iat_s = 101; /* one second after what revoke_one() says */
    peer_connect(&a, grant_new(&fields));
    revoke_one("t1", REVOKED_SUBJECT, "42");
    ck_assert(is_open(&a));
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_token_ids_and_key_ids_end_what_they_name)
{
    struct peer a, b, c, elsewhere;
    struct revoked_entry entries[] = {{.kind = REVOKED_JTI, .value = "j-1"},
                                      {.kind = REVOKED_JTI, .value = "j-none"},
                                      {.kind = REVOKED_SUBJECT, .value = "2", .before_s = 100},
                                      {.kind = REVOKED_KID, .value = "k2"}};
    rig_start("");
    peer_connect(&a, grant_for("t1", "1", 0));
    peer_connect(&b, grant_for("t1", "2", 0));
    peer_connect(&c, grant_for("t1", "3", 0));
    peer_connect(&elsewhere, grant_for("t2", "1", 0));
    revoke_all("t1", entries, 4);
    ck_assert(!is_open(&a) && !is_open(&b) && is_open(&c) && is_open(&elsewhere));
    revoke_one("t1", REVOKED_KID, "k1");
    ck_assert(!is_open(&c) && is_open(&elsewhere));
    peer_close(&a);
    peer_close(&b);
    peer_close(&c);
    peer_close(&elsewhere);
    rig_stop();
}
END_TEST

/* More than one walk is made for. */
START_TEST(test_any_number_of_token_ids_is_looked_for)
{
    struct peer first, last, other;
    size_t count = REVOKED_MAX + 1;
    struct revoked_entry *entries = mem_zero(count, sizeof(*entries));
    rig_start("");
    peer_connect(&first, grant_for("t1", "0", 0));
    peer_connect(&last, grant_for("t1", "100000", 0));
    peer_connect(&other, grant_for("t1", "100001", 0));
    for (size_t i = 0; i < count; i++) {
        struct buf jti = {0};
        buf_printf(&jti, "j-%zu", i);
        entries[i] = (struct revoked_entry){.kind = REVOKED_JTI, .value = buf_take(&jti, NULL)};
    }
    fanout_revoke(fanout, &(struct note_revoked){.ns = "t1", .entries = entries, .count = count});
    ck_assert(!is_open(&first) && !is_open(&last) && is_open(&other));
    for (size_t i = 0; i < count; i++)
        revoked_entry_reset(&entries[i]);
    free(entries);
    peer_close(&first);
    peer_close(&last);
    peer_close(&other);
    rig_stop();
}
END_TEST

/* Redis is away: it has not been told anything yet, and a blank line would take its cursor. */
START_TEST(test_a_held_stream_that_is_revoked_gets_nothing)
{
    struct peer a;
    struct subscription_request request;
    rig_start("");
    request = request_for(grant_for("t1", "42", 0));
    peer_open(&a, &request, NULL);
    fanout_start(a.stream, a.ours);
    revoke_one("t1", REVOKED_SUBJECT, "42");
    ck_assert(atomic_load(&a.read->cancelled));
    peer_page(&a); /* it comes all the same */
    turn(&a);
    ck_assert(a.ended);
    ck_assert_uint_eq(a.got.len, 0);
    peer_close(&a);
    rig_stop();
}
END_TEST

static void publish_end(uint64_t id, const char *data, enum topic_end end)
{
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("t1"),
                                  .topic = SLICE_LIT("a.x"),
                                  .data = slice_of(data),
                                  .end = end};
    struct note_events *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_EVENTS;
    note->events[note->count++] = event_new(&fields, 0);
    fanout_take_events(fanout, note);
}

static void publish(uint64_t id, const char *data)
{
    publish_end(id, data, END_NONE);
}

/* The end comes live while the page is on its way, and is not among the types that it asked for. */
START_TEST(test_an_end_that_a_filter_leaves_out_is_told_with_its_id)
{
    struct peer a;
    struct subscription_request request;
    rig_start("");
    request = request_for(grant_for("t1", "42", 0));
    list_add(&request.types, "created");
    peer_open(&a, &request, NULL);
    fanout_start(a.stream, a.ours);
    publish_end(2000, "", END_DONE);
    peer_page(&a);
    turn(&a);
    ck_assert(peer_has(&a, "id: 2000\n\nevent: relay.end\n"));
    ck_assert(a.ended);
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_what_was_queued_before_is_sent)
{
    struct peer a;
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    publish(2000, "before");
    revoke_one("t1", REVOKED_SUBJECT, "42");
    publish(2001, "after");
    turn(&a);
    ck_assert(peer_has(&a, "data: before\n\n") && !peer_has(&a, "after"));
    expect_shutdown(&a, "revoked");
    peer_close(&a);
    rig_stop();
}
END_TEST

/* The socket of one who has stopped to read may be full for long: what is left is not for him. */
START_TEST(test_what_is_queued_for_a_blocked_socket_is_not_sent_any_more)
{
    struct peer a;
    static char large[200000];
    uint64_t id = 2000;
    rig_start("--io_uring off");
    memset(large, 'x', sizeof(large) - 1);
    peer_connect(&a, grant_for("t1", "42", 0));
    while (!a.stream->blocked) {
        publish(id++, large);
        ev_run(loop, EVRUN_NOWAIT);
    }
    publish(id, "the last");
    ck_assert_uint_gt(a.stream->client.out.queue.ring.count, 1);
    revoke_one("t1", REVOKED_SUBJECT, "42");
    while (!a.ended)
        turn(&a);
    ck_assert(!peer_has(&a, "the last"));
    expect_shutdown(&a, "revoked"); /* behind the frame that had begun */
    peer_close(&a);
    rig_stop();
}
END_TEST

/* --- time ------------------------------------------------------------------------------------- */

START_TEST(test_a_stream_ends_with_its_token)
{
    struct peer a, other;
    rig_start("--auth.leeway 0");
    peer_connect(&a, grant_for("t1", "42", now_s()));
    peer_connect(&other, grant_for("t1", "42", now_s() + 3600));
    wait_for(&a, NULL);
    expect_shutdown(&a, "token-expired");
    ck_assert(is_open(&other));
    ck_assert_uint_eq(metrics_total(&metrics, 1, M_CLOSED_EXPIRED), 1);
    peer_close(&a);
    peer_close(&other);
    rig_stop();
}
END_TEST

static size_t count_of(const struct peer *peer, const char *text)
{
    size_t count = 0;
    const char *at = peer->got.ptr, *end = at + peer->got.len;
    while (at < end && (at = memmem(at, (size_t)(end - at), text, strlen(text)))) {
        at += strlen(text);
        count++;
    }
    return count;
}

START_TEST(test_expiring_is_told_once_and_after_connected)
{
    struct peer a;
    struct subscription_request request;
    rig_start("--auth.notice 1h");
    request = request_for(grant_for("t1", "42", now_s() + 600));
    peer_open(&a, &request, NULL);
    fanout_start(a.stream, a.ours);
    uint64_t due = a.stream->timer.due_ms;
    while (clock_mono_ms() < due + 500) /* its timer fires, and it is still held */
        ev_run(loop, EVRUN_ONCE);
    peer_read(&a);
    ck_assert_uint_eq(a.got.len, 0);
    peer_page(&a);
    wait_for(&a, "event: relay.expiring\ndata: {\"in\":");
    ck_assert(peer_find(&a, "relay.connected") < peer_find(&a, "relay.expiring"));
    ck_assert(stream_lease(a.stream)->exp_told);
    due = a.stream->timer.due_ms;
    ck_assert_uint_gt(due, clock_mono_ms() + 1000); /* it does not come by at each tick any more */
    ck_assert_uint_eq(count_of(&a, "relay.expiring"), 1);
    ck_assert(is_open(&a));
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_without_control_events_it_just_ends)
{
    struct peer a;
    rig_start("--auth.leeway 0 --auth.notice 1h --control_events off");
    peer_connect(&a, grant_for("t1", "42", now_s() + 1));
    wait_for(&a, NULL);
    ck_assert(!peer_has(&a, "relay."));
    peer_close(&a);
    rig_stop();
}
END_TEST

/* --- the control channel ---------------------------------------------------------------------- */

static struct note_control control(const char *connection, const char *action, struct slice body)
{
    return (struct note_control){.note.kind = NOTE_CONTROL,
                                 .connection = slice_dup(slice_of(connection)),
                                 .action = slice_dup(slice_of(action)),
                                 .body = slice_dup(body)};
}

/* The status of the answer; *detail is its own. */
static unsigned ask(const struct peer *peer, const char *action, struct slice body, char **detail)
{
    char *connection = slice_dup(told_id(peer));
    struct note_control note = control(connection, action, body);
    fanout_control(fanout, &note, revoked);
    free(connection);
    free(note.connection);
    free(note.action);
    free(note.body);
    if (detail)
        *detail = note.detail;
    else
        free(note.detail);
    return note.status;
}

/* Takes the reference of @grant. */
static unsigned renew(const struct peer *peer, struct grant *grant, char **detail)
{
    struct buf body = {0};
    grant_put_json(&body, grant);
    grant_unref(grant);
    unsigned status = ask(peer, "renew", buf_slice(&body), detail);
    buf_reset(&body);
    return status;
}

static const struct grant_fields *fields_of(const struct peer *peer)
{
    return grant_fields(subscription_request(peer->stream->client.sub)->grant);
}

START_TEST(test_a_renewal_brings_a_new_end_and_no_byte_is_lost)
{
    struct peer a;
    uint64_t exp_s = now_s() + 600;
    rig_start("--auth.notice 1h");
    peer_connect(&a, grant_for("t1", "42", exp_s));
    wait_for(&a, "relay.expiring");
    publish(2000, "before");
    ck_assert_uint_eq(renew(&a, grant_for("t1", "42", exp_s + 300), NULL), 200);
    publish(2001, "after");
    ck_assert_uint_eq(fields_of(&a)->exp_s, exp_s + 300);
    ck_assert(!stream_lease(a.stream)->exp_told);
    while (count_of(&a, "relay.expiring") < 2) { /* of the new one, too */
        ev_run(loop, EVRUN_ONCE);
        peer_read(&a);
    }
    ck_assert(peer_has(&a, "data: before\n\n") && peer_has(&a, "data: after\n\n"));
    ck_assert(is_open(&a));
    revoke_one("t1", REVOKED_SUBJECT, "42"); /* it is still found by its subject */
    ck_assert(!is_open(&a));
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_another_subject_issuer_or_namespace_renews_nothing)
{
    struct peer a, anonymous;
    struct grant_fields fields = fields_for("t1", "42", "a.*"), none = {0};
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    turn(&a);
    free(fields.issuer);
    fields.issuer = slice_dup(SLICE_LIT("J"));
    ck_assert_uint_eq(renew(&a, grant_new(&fields), NULL), 403);
    ck_assert_uint_eq(renew(&a, grant_for("t1", "43", 0), NULL), 403);
    ck_assert_uint_eq(renew(&a, grant_for("t2", "42", 0), NULL), 403);
    ck_assert_uint_eq(ask(&a, "renew", SLICE_LIT("{\"sub\":"), NULL), 403);
    ck_assert_str_eq(fields_of(&a)->jti, "j-42");
    none.ns = slice_dup(SLICE_LIT("t1"));
    list_add(&none.subscribe, "a.*");
    peer_connect(&anonymous, grant_new(&none));
    turn(&anonymous);
    ck_assert_uint_eq(renew(&anonymous, grant_for("t1", "42", 0), NULL), 403);
    ck_assert(is_open(&a) && is_open(&anonymous));
    peer_close(&a);
    peer_close(&anonymous);
    rig_stop();
}
END_TEST

START_TEST(test_a_token_without_the_topics_leaves_the_old_one)
{
    struct peer a;
    struct grant_fields fields = fields_for("t1", "42", "b.>");
    char *detail;
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 7000000000));
    turn(&a);
    fields.exp_s = 8000000000;
    ck_assert_uint_eq(renew(&a, grant_new(&fields), &detail), 403);
    ck_assert_ptr_nonnull(strstr(detail, "a.x"));
    ck_assert_uint_eq(fields_of(&a)->exp_s, 7000000000);
    free(detail);
    peer_close(&a);
    rig_stop();
}
END_TEST

static void add_roles(struct grant_fields *fields, const char *first, const char *second)
{
    grant_claims_add(&fields->roles, &fields->role_count, SLICE_LIT("/roles"), slice_of(first));
    if (second)
        grant_claims_add(&fields->roles, &fields->role_count, SLICE_LIT("/roles"),
                         slice_of(second));
}

/* The path has given the topics, and asked for a role: so the role counts, and the topics do not.
 */
START_TEST(test_where_the_path_grants_the_roles_must_stay)
{
    struct peer a;
    struct grant_fields old = fields_for("t1", "42", "else"), same = fields_for("t1", "42", "else"),
                        more = fields_for("t1", "42", "else"), less = fields_for("t1", "42", "a.*"),
                        none = fields_for("t1", "42", "a.*");
    rig_start("");
    add_roles(&old, "viewer", NULL);
    add_roles(&same, "viewer", NULL);
    add_roles(&more, "editor", "viewer");
    add_roles(&less, "editor", NULL);
    struct subscription_request request = request_for(grant_new(&old));
    request.route_grants = request.route_requires = true;
    peer_open(&a, &request, NULL);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    turn(&a);
    ck_assert_uint_eq(renew(&a, grant_new(&less), NULL), 403);
    ck_assert_uint_eq(renew(&a, grant_new(&none), NULL), 403);
    ck_assert_uint_eq(renew(&a, grant_new(&same), NULL), 200);
    ck_assert_uint_eq(renew(&a, grant_new(&more), NULL), 200);
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_a_token_that_was_revoked_on_the_way_renews_nothing)
{
    struct peer a;
    struct grant_fields fields = fields_for("t1", "42", "a.*");
    struct revoked_entry entry = {.kind = REVOKED_JTI, .value = "stolen"};
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    turn(&a);
    free(fields.jti);
    fields.jti = slice_dup(SLICE_LIT("stolen"));
    ck_assert_int_eq(revoked_add(revoked, SLICE_LIT("t1"), &entry), OK);
    ck_assert_uint_eq(renew(&a, grant_new(&fields), NULL), 403);
    ck_assert_str_eq(fields_of(&a)->jti, "j-42");
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_a_stream_of_a_ticket_is_renewed_by_its_subject)
{
    struct peer a;
    struct grant_fields fields = fields_for("t1", "42", "a.*");
    rig_start("");
    fields.from_ticket = true;
    peer_connect(&a, grant_new(&fields));
    turn(&a);
    ck_assert_uint_eq(renew(&a, grant_for("t1", "42", 0), NULL), 200);
    ck_assert(!fields_of(&a)->from_ticket);
    peer_close(&a);
    rig_stop();
}
END_TEST

static void expect_unknown(const char *connection, const char *action)
{
    static char *first;
    struct note_control note = control(connection, action, SLICE_LIT("{\"reason\":\"replaced\"}"));
    fanout_control(fanout, &note, revoked);
    ck_assert_uint_eq(note.status, 404);
    if (!first)
        first = slice_dup(slice_of(note.detail));
    ck_assert_str_eq(note.detail, first); /* always the same */
    free(note.connection);
    free(note.action);
    free(note.body);
    free(note.detail);
}

START_TEST(test_who_guesses_an_id_learns_nothing)
{
    static const size_t digits[] = {0, 7, 9, 10, 15, 16, 31}; /* of each part */
    struct peer a, nobody;
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    peer_connect(&nobody, NULL);
    turn(&a);
    turn(&nobody);
    for (size_t i = 0; i < sizeof(digits) / sizeof(digits[0]); i++) {
        char *id = slice_dup(told_id(&a));
        id[digits[i]] = id[digits[i]] == '5' ? '6' : '5';
        expect_unknown(id, "renew");
        expect_unknown(id, "end");
        free(id);
    }
    char *whole = slice_dup(told_id(&a)), *without = slice_dup(told_id(&nobody));
    expect_unknown("", "end");
    expect_unknown(without, "end");
    expect_unknown(whole, "other");
    ck_assert(is_open(&a) && is_open(&nobody));
    peer_close(&a);
    expect_unknown(whole, "end");
    free(whole);
    free(without);
    peer_close(&nobody);
    rig_stop();
}
END_TEST

START_TEST(test_a_stream_that_is_replaced_ends)
{
    struct peer a;
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    turn(&a);
    ck_assert_uint_eq(ask(&a, "end", SLICE_LIT("{\"reason\":\"whim\"}"), NULL), 403);
    ck_assert_uint_eq(ask(&a, "end", SLICE_LIT("[\"replaced\"]"), NULL), 403);
    ck_assert(is_open(&a));
    ck_assert_uint_eq(ask(&a, "end", SLICE_LIT("{\"reason\":\"replaced\"}"), NULL), 200);
    turn(&a);
    expect_shutdown(&a, "replaced");
    ck_assert_uint_eq(metrics_total(&metrics, 1, M_CLOSED_REPLACED), 1);
    ck_assert_uint_eq(ask(&a, "end", SLICE_LIT("{\"reason\":\"replaced\"}"), NULL), 404);
    peer_close(&a);
    rig_stop();
}
END_TEST

/* --- ids and tickets -------------------------------------------------------------------------- */

static void open_with_ticket(struct peer *peer, struct connection_id *id)
{
    struct subscription_request request = request_for(grant_for("t1", "42", 0));
    fanout_make_id(fanout, id);
    peer_open(peer, &request, &(struct stream_form){.id = id, .ticket = hash});
}

static void expect_given_back(const struct connection_id *id, const char *grace, const char *unused)
{
    struct buf text = {0};
    connection_id_put(&text, id);
    buf_putc(&text, '\0');
    ck_assert_ptr_nonnull(call);
    ck_assert_ptr_null(call->owner);
    ck_assert_str_eq(call->function, "sse_ticket_end");
    ck_assert_str_eq(call->ns, "t1");
    const char *const args[] = {hash, "connection", text.ptr, "grace", grace, "unused", unused};
    ck_assert_uint_eq(call->args.count, 7);
    for (size_t i = 0; i < 7; i++)
        ck_assert_str_eq(call->args.items[i], args[i]);
    buf_reset(&text);
}

START_TEST(test_the_id_that_was_made_before_is_the_one_that_is_told)
{
    struct peer a;
    struct connection_id id, told;
    rig_start("");
    open_with_ticket(&a, &id);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    turn(&a);
    ck_assert_int_eq(connection_id_parse(told_id(&a), &told), OK);
    ck_assert(told.tag == TAG && told.worker == 0);
    ck_assert(told.slot == id.slot && told.secret == id.secret);
    peer_close(&a);
    rig_stop();
}
END_TEST

START_TEST(test_a_ticket_whose_client_knows_an_id_has_been_used)
{
    struct peer a;
    struct connection_id id;
    rig_start("--ticket.reconnect_grace 90s");
    open_with_ticket(&a, &id);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    turn(&a);
    ck_assert_ptr_null(call);
    peer_close(&a);
    expect_given_back(&id, "90000", "0");
    rig_stop();
}
END_TEST

START_TEST(test_a_ticket_whose_client_knows_no_id_has_not)
{
    struct peer a;
    struct connection_id id;
    rig_start("--heartbeat 1s");
    open_with_ticket(&a, &id); /* libmicrohttpd has the socket */
    peer_page(&a);
    peer_close(&a);
    expect_given_back(&id, "60000", "1");

    open_with_ticket(&a, &id); /* the bus has not answered */
    fanout_start(a.stream, a.ours);
    wait_for(&a, ":\n"); /* which is no id */
    peer_close(&a);
    expect_given_back(&id, "60000", "1");

    open_with_ticket(&a, &id); /* it was to be told */
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    peer_close(&a);
    expect_given_back(&id, "60000", "1");

    open_with_ticket(&a, &id); /* its client came just in time to be sent away */
    fanout_start(a.stream, a.ours);
    revoke_one("t1", REVOKED_SUBJECT, "42");
    turn(&a);
    peer_close(&a);
    expect_given_back(&id, "60000", "1");
    rig_stop();
}
END_TEST

/* Then the first block that has an id tells it. */
START_TEST(test_a_ticket_without_control_events_has_been_used_with_the_first_id)
{
    struct peer a;
    struct connection_id id;
    rig_start("--control_events off --heartbeat 1s --ticket.reconnect_grace 0");
    open_with_ticket(&a, &id);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    wait_for(&a, ":\n");
    peer_close(&a);
    expect_given_back(&id, "0", "1");

    open_with_ticket(&a, &id);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    publish(2000, "x");
    turn(&a);
    ck_assert(peer_has(&a, "id: 2000\n"));
    peer_close(&a);
    expect_given_back(&id, "0", "0");
    rig_stop();
}
END_TEST

/* The frame that tells it may be behind others, and be dropped, or be the one that has begun. */
START_TEST(test_an_id_is_known_when_its_frame_is_whole)
{
    struct peer a;
    struct connection_id id;
    static char large[500000];
    rig_start("--io_uring off");
    memset(large, 'x', sizeof(large) - 1);
    open_with_ticket(&a, &id);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    publish(2000, large);
    ev_run(loop, EVRUN_NOWAIT);
    ck_assert(a.stream->blocked); /* in the event, behind relay.connected */
    ck_assert_uint_gt(a.stream->client.out.queue.ring.count, 0);
    peer_close(&a);
    expect_given_back(&id, "60000", "0");
    rig_stop();
}
END_TEST

START_TEST(test_a_drain_gives_tickets_back)
{
    struct peer a;
    struct connection_id id;
    rig_start("--drain 0");
    open_with_ticket(&a, &id);
    fanout_start(a.stream, a.ours);
    peer_page(&a);
    turn(&a);
    fanout_drain(fanout);
    wait_for(&a, NULL);
    expect_shutdown(&a, "drain");
    peer_close(&a);
    expect_given_back(&id, "60000", "0");
    rig_stop();
}
END_TEST

/* --- the census ------------------------------------------------------------------------------- */

START_TEST(test_a_census_of_one_namespace)
{
    struct peer a, b;
    struct census *one = census_new(), *all = census_new();
    struct buf json = {0};
    rig_start("");
    peer_connect(&a, grant_for("t1", "42", 0));
    peer_connect(&b, grant_for("t2", "42", 0));
    fanout_count(fanout, one, SLICE_LIT("t1"));
    fanout_count(fanout, one, SLICE_LIT("t3"));
    census_put_json(one, &json);
    ck_assert(slice_is(buf_slice(&json), "[{\"ns\":\"t1\",\"topic\":\"a.x\",\"subscribers\":1}]"));
    buf_clear(&json);
    fanout_count(fanout, all, SLICE_NONE);
    census_put_json(all, &json);
    ck_assert_ptr_nonnull(memmem(json.ptr, json.len, "\"t1\"", 4));
    ck_assert_ptr_nonnull(memmem(json.ptr, json.len, "\"t2\"", 4));
    buf_reset(&json);
    census_free(one);
    census_free(all);
    peer_close(&a);
    peer_close(&b);
    rig_stop();
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("fanout_lease");
    hash_seed_init();
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_a_subject_that_is_revoked_is_sent_why_and_ends);
    tcase_add_test(cases, test_a_token_issued_later_goes_on);
    tcase_add_test(cases, test_token_ids_and_key_ids_end_what_they_name);
    tcase_add_test(cases, test_any_number_of_token_ids_is_looked_for);
    tcase_add_test(cases, test_a_held_stream_that_is_revoked_gets_nothing);
    tcase_add_test(cases, test_what_was_queued_before_is_sent);
    tcase_add_test(cases, test_what_is_queued_for_a_blocked_socket_is_not_sent_any_more);
    tcase_add_test(cases, test_a_stream_ends_with_its_token);
    tcase_add_test(cases, test_expiring_is_told_once_and_after_connected);
    tcase_add_test(cases, test_without_control_events_it_just_ends);
    tcase_add_test(cases, test_a_renewal_brings_a_new_end_and_no_byte_is_lost);
    tcase_add_test(cases, test_another_subject_issuer_or_namespace_renews_nothing);
    tcase_add_test(cases, test_a_token_without_the_topics_leaves_the_old_one);
    tcase_add_test(cases, test_where_the_path_grants_the_roles_must_stay);
    tcase_add_test(cases, test_a_token_that_was_revoked_on_the_way_renews_nothing);
    tcase_add_test(cases, test_a_stream_of_a_ticket_is_renewed_by_its_subject);
    tcase_add_test(cases, test_who_guesses_an_id_learns_nothing);
    tcase_add_test(cases, test_a_stream_that_is_replaced_ends);
    tcase_add_test(cases, test_the_id_that_was_made_before_is_the_one_that_is_told);
    tcase_add_test(cases, test_a_ticket_whose_client_knows_an_id_has_been_used);
    tcase_add_test(cases, test_a_ticket_whose_client_knows_no_id_has_not);
    tcase_add_test(cases, test_a_ticket_without_control_events_has_been_used_with_the_first_id);
    tcase_add_test(cases, test_an_id_is_known_when_its_frame_is_whole);
    tcase_add_test(cases, test_an_end_that_a_filter_leaves_out_is_told_with_its_id);
    tcase_add_test(cases, test_a_drain_gives_tickets_back);
    tcase_add_test(cases, test_a_census_of_one_namespace);
    return tests_run(cases);
}
