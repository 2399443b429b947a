/* SPDX-License-Identifier: Apache-2.0 */
/* Calls, ends, revocations and requests between nodes, over a store that does as it is told; the
 * bus runs in the test's own thread, one turn at a time. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hash.h"
#include "common/mem.h"
#include "relay/bus/bus.h"
#include "relay/kit/log.h"
#include "test/unit/tests_run.h"

enum { WORKERS = 2, TAG = 0x1234abcd, OPEN_MAX = 20000 };
static const double PATIENCE_S = 20.0;

static const char OWN[] = "1234abcd010000020123456789abcdef";     /* worker 1 of this node */
static const char OTHER[] = "0badcafe000000020123456789abcdef";   /* of another */
static const char NOWHERE[] = "1234abcd090000020123456789abcdef"; /* a worker that is not there */

/* --- the store -------------------------------------------------------------------------------- */

static struct ev_loop *loop;
static struct bus *bus;
static const struct store_events *events;
static struct store_name *names[OPEN_MAX]; /* watched */
static size_t name_count;
static struct store_call *calls[OPEN_MAX]; /* not answered yet */
static size_t call_count, calls_made, looks, opened;
static size_t dues, dues_before;          /* how often it was asked which topics are due */
static char told_tag[16], told_text[512]; /* the last message for another node */
static uint64_t hearers;                  /* of such messages */
static bool away;                         /* everything is refused */

static void op_nothing(void *impl)
{
    (void)impl;
}

static void op_configure(void *impl, struct config *config)
{
    (void)impl, (void)config;
}

static void op_watch(void *impl, struct store_name *name)
{
    (void)impl;
    ck_assert_uint_lt(name_count, OPEN_MAX);
    names[name_count++] = name;
}

static void op_unwatch(void *impl, struct store_name *name)
{
    (void)impl;
    for (size_t i = 0; i < name_count; i++)
        if (names[i] == name) {
            names[i] = names[--name_count];
            return;
        }
    ck_abort_msg("it was not watched");
}

static void op_rewatch(void *impl, struct store_name *name)
{
    (void)impl, (void)name;
}

static void op_open(void *impl, const char *ns, uint64_t seen, bool watched)
{
    (void)impl, (void)ns, (void)seen, (void)watched;
    opened++;
}

static void op_close(void *impl, const char *ns)
{
    (void)impl, (void)ns;
}

static void op_look(void *impl, struct store_look *look)
{
    (void)impl;
    looks++;
    look->position = look->upto = 1000;
    look->horizon = 1;
    if (look->names)
        store_look_settle(look);
    look->done(look, OK);
}

static void op_range(void *impl, struct store_range *range)
{
    (void)impl;
    range->entries = mem_zero(1, sizeof(*range->entries));
    range->done(range, OK);
}

static void op_publish(void *impl, struct note_publish *publish)
{
    (void)impl, (void)publish;
    ck_abort_msg("nothing is published here");
}

static void op_call(void *impl, struct store_call *call)
{
    (void)impl;
    if (strcmp(call->function, "sse_due") == 0) { /* no topic is */
        dues++;
        strings_add(&call->answer, SLICE_LIT("0"));
        call->done(call, OK);
        return;
    }
    calls_made++;
    if (away) {
        call->done(call, ERR_AGAIN);
        return;
    }
    ck_assert_uint_lt(call_count, OPEN_MAX);
    calls[call_count++] = call;
}

static void op_tell(void *impl, struct store_telling *telling)
{
    (void)impl;
    snprintf(told_tag, sizeof(told_tag), "%s", telling->tag);
    snprintf(told_text, sizeof(told_text), "%.*s", (int)telling->text.len, telling->text.ptr);
    telling->heard = hearers;
    telling->done(telling, away ? ERR_AGAIN : OK);
}

static void op_pause(void *impl, bool paused)
{
    (void)impl, (void)paused;
}

static uint64_t op_mark(void *impl)
{
    (void)impl;
    return 0;
}

static void op_free(void *impl)
{
    (void)impl;
    while (call_count) {
        struct store_call *call = calls[--call_count];
        call->done(call, ERR_CLOSED);
    }
}

static struct store store_make(struct ev_loop *its_loop, struct bus *its_bus,
                               const struct store_events *its_events, struct config *config,
                               struct metrics *metrics)
{
    static const struct store_ops ops = {.kind = "told",
                                         .start = op_nothing,
                                         .free = op_free,
                                         .configure = op_configure,
                                         .watch = op_watch,
                                         .unwatch = op_unwatch,
                                         .rewatch = op_rewatch,
                                         .open = op_open,
                                         .close = op_close,
                                         .look = op_look,
                                         .range = op_range,
                                         .publish = op_publish,
                                         .call = op_call,
                                         .tell = op_tell,
                                         .pause = op_pause,
                                         .hold = op_nothing,
                                         .mark = op_mark,
                                         .resume = op_nothing};
    (void)config, (void)metrics;
    loop = its_loop;
    bus = its_bus;
    events = its_events;
    return (struct store){&ops, &loop};
}

/* Answers the oldest call, with texts up to NULL. */
static void answer(enum err e, const char *const *texts)
{
    ck_assert_uint_gt(call_count, 0);
    struct store_call *call = calls[0];
    memmove(calls, calls + 1, --call_count * sizeof(calls[0]));
    for (size_t i = 0; texts[i]; i++)
        strings_add(&call->answer, slice_of(texts[i]));
    call->done(call, e);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NOTHING ((const char *const[]){NULL})

static void hear(struct store_name *name)
{
    name->heard = true;
    events->heard(bus, name);
}

static struct store_name *named(enum store_subject subject, const char *ns)
{
    for (size_t i = 0; i < name_count; i++)
        if (names[i]->subject == subject && strcmp(names[i]->ns, ns) == 0)
            return names[i];
    return NULL;
}

/* --- the rig ---------------------------------------------------------------------------------- */

static struct ev_loop *own_loop;
static struct inbox *inboxes[WORKERS];
static struct metrics *metrics;
static struct config *config;

static void on_inbox(void *arg)
{
    (void)arg;
}

static void setup(void)
{
    char name[] = "sse-relay", option[] = "--redis", value[] = "memory:", key[] = "--auth.key_file",
         file[] = "/dev/null", algs[] = "--auth.algs", alg[] = "HS256";
    char *argv[] = {name, option, value, key, file, algs, alg, NULL}, *none[] = {NULL};
    char *message = NULL;
    enum config_action action;
    hash_seed_init();
    log_setup(LOG_ERROR + 1, LOG_LOGFMT);
    ck_assert_int_eq(config_load(7, argv, none, &config, &action, &message), OK);
    metrics = metrics_new();
    own_loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    for (unsigned w = 0; w < WORKERS; w++)
        inboxes[w] = inbox_new(own_loop, on_inbox, NULL);
    name_count = call_count = calls_made = looks = opened = dues = dues_before = 0;
    told_text[0] = told_tag[0] = '\0';

    hearers = 1;
    away = false;
    bus_new(config, inboxes, WORKERS, TAG, metrics, store_make);
}

static void teardown(void)
{
    struct inbox_item *item;
    bus_free(bus);
    for (unsigned w = 0; w < WORKERS; w++) {
        while ((item = inbox_pop(inboxes[w])))
            note_free((struct note *)item);
        inbox_free(inboxes[w]);
    }
    ev_loop_destroy(own_loop);
    metrics_free(metrics);
    config_unref(config);
}

static void turn(void)
{
    ev_run(loop, EVRUN_NOWAIT);
}

static void post(struct note *note, enum note_kind kind)
{
    note->kind = kind;
    inbox_push(bus_inbox(bus), &note->item);
    turn();
}

/* What a worker has got, or NULL. */
static struct note *got(unsigned w)
{
    turn();
    return (struct note *)inbox_pop(inboxes[w]);
}

static struct note *expect(unsigned w, enum note_kind kind)
{
    double end = ev_time() + PATIENCE_S;
    struct note *note = got(w);
    while (!note) {
        ck_assert_msg(ev_time() < end, "it never came");
        note = got(w);
    }
    ck_assert_int_eq(note->kind, kind);
    return note;
}

static void expect_nothing(void)
{
    for (unsigned w = 0; w < WORKERS; w++)
        ck_assert_ptr_null(got(w));
}

/* Runs the loop until @ready says so. */
static void wait_for(bool (*ready)(void))
{
    double end = ev_time() + PATIENCE_S;
    while (!ready()) {
        ck_assert_msg(ev_time() < end, "it never came");
        ev_run(loop, EVRUN_ONCE);
    }
}

static char *copy(const char *text)
{
    return mem_dup(text, strlen(text));
}

static void up(enum store_loss loss)
{
    events->up(bus, loss);
    turn();
}

static void trust(const char *ns)
{
    struct note_trust *note = mem_zero(1, sizeof(*note));
    note->ns = copy(ns);
    post(&note->note, NOTE_TRUST);
}

/* Every worker is told the same. */
static void expect_revoked(const char *ns, size_t count, bool loaded, bool forgotten)
{
    for (unsigned w = 0; w < WORKERS; w++) {
        struct note_revoked *note = (struct note_revoked *)expect(w, NOTE_REVOKED);
        ck_assert_str_eq(note->ns, ns);
        ck_assert_uint_eq(note->count, count);
        ck_assert_int_eq(note->loaded, loaded);
        ck_assert_int_eq(note->forgotten, forgotten);
        note_free(&note->note);
    }
}

/* A namespace that is known, with nothing revoked in it. */
static void know(const char *ns)
{
    trust(ns);
    hear(named(STORE_REVOKED, ns));
    answer(OK, NOTHING);
    expect_revoked(ns, 0, true, false);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void watch(const char *ns, const char *topic)
{
    struct note_name *note = mem_zero(1, sizeof(*note));
    note->ns = copy(ns);
    note->name = copy(topic);
    post(&note->note, NOTE_WATCH);
}

static bool is_asked_again(void)
{
    return dues > dues_before;
}

/* Its last event may have come, with end_after, when nobody listened here; the round through all
 * namespaces, which opens them, is for those who did. */
START_TEST(test_whoever_comes_to_a_topic_has_it_asked_whether_it_is_due)
{
    up(STORE_MOVED);
    watch("t1", "a");
    wait_for(is_asked_again);
    size_t rounds = opened;
    dues_before = dues;
    watch("t1", "b");
    watch("t1", "c*");
    wait_for(is_asked_again);
    ck_assert_uint_eq(dues, dues_before + 1); /* for both */
    ck_assert_uint_eq(opened, rounds);
}
END_TEST

/* --- revocations ------------------------------------------------------------------------------ */

START_TEST(test_a_namespace_is_known_once_it_is_heard_and_loaded)
{
    up(STORE_MOVED);
    ck_assert(bus_is_up(bus));
    trust("t1");
    ck_assert_uint_eq(opened, 1); /* how long revocations are kept */
    trust("t1");
    ck_assert_uint_eq(calls_made, 0); /* what is told meanwhile would be missed */
    hear(named(STORE_REVOKED, "t1"));
    ck_assert_uint_eq(calls_made, 1);
    ck_assert_str_eq(calls[0]->function, "sse_revoked");
    ck_assert_str_eq(calls[0]->ns, "t1");
    expect_nothing();
    answer(OK, TEXTS("sub", "42", "100", "900", "kid", "k", "0", "0", "odd", "x", "0", "0"));
    for (unsigned w = 0; w < WORKERS; w++) {
        struct note_revoked *note = (struct note_revoked *)expect(w, NOTE_REVOKED);
        ck_assert_uint_eq(note->count, 2); /* the third says nothing that we know */
        ck_assert(!note->loaded);
        ck_assert_int_eq(note->entries[0].kind, REVOKED_SUBJECT);
        ck_assert_str_eq(note->entries[0].value, "42");
        ck_assert_uint_eq(note->entries[0].before_s, 100);
        ck_assert_uint_eq(note->entries[0].expires_s, 900);
        ck_assert_int_eq(note->entries[1].kind, REVOKED_KID);
        note_free(&note->note);
    }
    expect_revoked("t1", 0, true, false);
    trust("t1");
    ck_assert_uint_eq(calls_made, 1);
    expect_nothing();
}
END_TEST

START_TEST(test_what_is_told_goes_to_every_worker)
{
    up(STORE_MOVED);
    trust("t1");
    struct store_name *name = named(STORE_REVOKED, "t1");
    hear(name);
    events->told(bus, name,
                 SLICE_LIT("{\"kind\":\"jti\",\"value\":\"j\\u00e4\",\"before\":\"0\",\"expires\":"
                           "\"5\"}"));
    expect_revoked("t1", 1, false, false); /* even before it is known */
    static const char *const odd[] = {
        "",
        "[]",
        "{}",
        "{\"kind\":\"sub\",\"value\":\"a\",\"before\":\"x\",\"expires\":\"5\"}",
        "{\"kind\":\"sub\",\"value\":\"\",\"before\":\"0\",\"expires\":\"5\"}",
        "{\"kind\":\"sub\",\"value\":7,\"before\":\"0\",\"expires\":\"5\"}",
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        events->told(bus, name, slice_of(odd[i]));
    expect_nothing();
    ck_assert_uint_eq(metrics_total(&metrics, 1, M_DROPPED_INVALID), 6);
}
END_TEST

START_TEST(test_all_are_loaded_again_before_anything_else_of_the_log)
{
    watch("t1", "a");
    up(STORE_MOVED);
    hear(named(STORE_EVENTS, "t1"));
    know("t1");
    know("t2");
    events->down(bus);
    ck_assert(!bus_is_up(bus));
    struct subscription_request request = {.ns = copy("t1")};
    strings_add(&request.topics, SLICE_LIT("a"));
    struct note_read *read = mem_zero(1, sizeof(*read));
    read->sub = subscription_new(&request);
    read->max_events = 10;
    read->max_bytes = 1000;
    post(&read->note, NOTE_READ);
    size_t looks_before = looks, made = calls_made;
    up(STORE_BROKEN);
    ck_assert_uint_eq(calls_made, made + 2);
    answer(OK, TEXTS("jti", "j", "0", "9"));
    up(STORE_BROKEN); /* said again: it is under way */
    turn();
    ck_assert_uint_eq(calls_made, made + 2);
    ck_assert(!bus_is_up(bus));
    ck_assert_uint_eq(looks, looks_before);
    expect_revoked("t1", 1, false, false);
    expect_revoked("t1", 0, true, false);
    expect_nothing();
    answer(OK, NOTHING);
    turn();
    ck_assert(bus_is_up(bus));
    ck_assert_uint_gt(looks, looks_before);
    expect_revoked("t2", 0, true, false);
    note_free(expect(0, NOTE_READ));
}
END_TEST

START_TEST(test_nothing_was_missed_so_nothing_is_loaded)
{
    up(STORE_MOVED);
    know("t1");
    size_t made = calls_made;
    events->down(bus);
    up(STORE_WHOLE);
    ck_assert(bus_is_up(bus));
    ck_assert_uint_eq(calls_made, made);
}
END_TEST

START_TEST(test_a_load_that_began_before_the_break_is_not_believed_to_be_all)
{
    up(STORE_MOVED);
    know("t1");
    events->down(bus);
    up(STORE_BROKEN);
    events->down(bus); /* the load is still on its way */
    up(STORE_BROKEN);
    ck_assert_uint_eq(call_count, 1);
    answer(OK, TEXTS("jti", "j", "0", "9"));
    expect_revoked("t1", 1, false, false);
    ck_assert(!bus_is_up(bus));
    answer(OK, NOTHING);
    expect_revoked("t1", 0, true, false);
    ck_assert(bus_is_up(bus));
}
END_TEST

START_TEST(test_a_load_that_breaks_waits_for_the_store)
{
    up(STORE_MOVED);
    trust("t1");
    hear(named(STORE_REVOKED, "t1"));
    events->down(bus);
    answer(ERR_CLOSED, NOTHING);
    expect_nothing();
    ck_assert_uint_eq(call_count, 0);
    up(STORE_WHOLE);
    answer(OK, NOTHING);
    expect_revoked("t1", 0, true, false);
}
END_TEST

static bool is_up(void)
{
    return bus_is_up(bus);
}

START_TEST(test_a_namespace_that_cannot_be_loaded_holds_up_no_other)
{
    up(STORE_MOVED);
    know("t1");
    events->down(bus);
    away = true; /* and yet it says that it is up */
    up(STORE_BROKEN);
    ck_assert(!bus_is_up(bus));
    wait_for(is_up);
    expect_revoked("t1", 0, false, true);
    ck_assert_ptr_null(named(STORE_REVOKED, "t1"));
    away = false;
    know("t1"); /* asked anew */
}
END_TEST

START_TEST(test_one_that_redis_refuses_is_forgotten_at_once)
{
    up(STORE_MOVED);
    trust("t1");
    hear(named(STORE_REVOKED, "t1"));
    answer(ERR_DENIED, TEXTS("WRONGTYPE"));
    expect_nothing(); /* it was never known */
    ck_assert_ptr_null(named(STORE_REVOKED, "t1"));
    know("t1");
}
END_TEST

START_TEST(test_one_whose_channel_is_not_heard_is_not_known)
{
    up(STORE_MOVED);
    know("t1");
    events->down(bus);
    named(STORE_REVOKED, "t1")->heard = false; /* refused after the reconnect */
    up(STORE_BROKEN);
    answer(OK, NOTHING);
    expect_revoked("t1", 0, false, true);
    ck_assert(bus_is_up(bus));
    hear(named(STORE_REVOKED, "t1"));
    answer(OK, NOTHING);
    expect_revoked("t1", 0, true, false);
}
END_TEST

START_TEST(test_a_long_list_comes_in_bites)
{
    enum { ENTRIES = 10000 };
    up(STORE_MOVED);
    trust("t1");
    hear(named(STORE_REVOKED, "t1"));
    struct store_call *call = calls[--call_count];
    char value[16];
    for (unsigned i = 0; i < ENTRIES; i++) {
        snprintf(value, sizeof(value), "j%u", i);
        strings_add(&call->answer, SLICE_LIT("jti"));
        strings_add(&call->answer, slice_of(value));
        strings_add(&call->answer, SLICE_LIT("0"));
        strings_add(&call->answer, SLICE_LIT("0"));
    }
    call->done(call, OK);
    size_t sum = 0, notes = 0;
    struct note_revoked *note;
    while (!(note = (struct note_revoked *)expect(1, NOTE_REVOKED))->loaded) {
        sum += note->count;
        notes++;
        ck_assert_uint_le(note->count, 4096);
        note_free(&note->note);
    }
    note_free(&note->note);
    ck_assert_uint_eq(sum, ENTRIES);
    ck_assert_uint_eq(notes, 3);
}
END_TEST

START_TEST(test_beyond_the_bound_the_oldest_without_watchers_is_forgotten)
{
    enum { KNOWN_MAX = 10000 };
    char ns[16];
    struct inbox_item *item;
    struct note_name *watch = mem_zero(1, sizeof(*watch));
    watch->ns = copy("n0");
    watch->name = copy("a");
    post(&watch->note, NOTE_WATCH);
    up(STORE_MOVED);
    for (unsigned i = 0; i < KNOWN_MAX; i++) {
        snprintf(ns, sizeof(ns), "n%u", i);
        struct note_trust *note = mem_zero(1, sizeof(*note));
        note->ns = copy(ns);
        note->note.kind = NOTE_TRUST;
        inbox_push(bus_inbox(bus), &note->note.item);
        turn();
        hear(names[name_count - 1]);
        answer(OK, NOTHING);
    }
    for (unsigned w = 0; w < WORKERS; w++)
        while ((item = inbox_pop(inboxes[w])))
            note_free((struct note *)item);
    ck_assert_uint_eq(name_count, KNOWN_MAX + 3); /* the topic, and this node's two */
    trust("one more");
    expect_revoked("n1", 0, false, true); /* n0 is watched */
    ck_assert_ptr_nonnull(named(STORE_REVOKED, "n0"));
    ck_assert_uint_eq(name_count, KNOWN_MAX + 3);
}
END_TEST

/* --- calls ------------------------------------------------------------------------------------ */

static struct note_call *call_note(unsigned w)
{
    struct note_call *note = mem_zero(1, sizeof(*note));
    note->worker = w;
    note->function = "sse_ticket_take";
    note->ns = copy("t1");
    strings_add(&note->args, SLICE_LIT("hash"));
    return note;
}

static void expect_call(unsigned w, const struct note_call *note, enum err e)
{
    struct note *back = expect(w, NOTE_CALL);
    ck_assert_ptr_eq(back, &note->note);
    ck_assert_int_eq(note->error, e);
    note_free(back);
}

START_TEST(test_a_call_waits_until_the_store_is_up)
{
    struct note_call *note = call_note(1);
    post(&note->note, NOTE_CALL);
    ck_assert_uint_eq(calls_made, 0);
    up(STORE_MOVED);
    ck_assert_uint_eq(calls_made, 1);
    ck_assert_str_eq(calls[0]->args->items[0], "hash");
    answer(OK, TEXTS("ok", "{}", ""));
    ck_assert_uint_eq(note->answer.count, 3);
    ck_assert_str_eq(note->answer.items[1], "{}");
    expect_call(1, note, OK);
    expect_nothing();
}
END_TEST

START_TEST(test_a_call_that_was_cancelled_is_not_made)
{
    struct note_call *note = call_note(0);
    post(&note->note, NOTE_CALL);
    atomic_store(&note->cancelled, true);
    up(STORE_MOVED);
    ck_assert_uint_eq(calls_made, 0);
    expect_call(0, note, ERR_AGAIN);
}
END_TEST

START_TEST(test_a_call_whose_answer_was_lost_is_not_made_again)
{
    struct note_call *note = call_note(0), *refused = call_note(0);
    up(STORE_MOVED);
    post(&note->note, NOTE_CALL);
    answer(ERR_CLOSED, NOTHING);
    expect_call(0, note, ERR_AGAIN);
    post(&refused->note, NOTE_CALL);
    answer(ERR_DENIED, TEXTS("ERR sse_revoke: full"));
    ck_assert_str_eq(refused->answer.items[0], "ERR sse_revoke: full");
    expect_call(0, refused, ERR_DENIED);
    ck_assert_uint_eq(calls_made, 2);
}
END_TEST

static bool is_called(void)
{
    return call_count > 0;
}

static bool has_ended(void)
{
    return inbox_depth(inboxes[0]) > 0;
}

START_TEST(test_a_call_that_was_not_done_is_made_again_but_not_for_ever)
{
    struct note_call *note = call_note(0), *hopeless = call_note(0);
    away = true;
    up(STORE_MOVED);
    post(&note->note, NOTE_CALL);
    ck_assert_uint_eq(calls_made, 1);
    away = false;
    wait_for(is_called);
    answer(OK, TEXTS("OK"));
    expect_call(0, note, OK);
    away = true;
    post(&hopeless->note, NOTE_CALL);
    wait_for(has_ended);
    expect_call(0, hopeless, ERR_AGAIN);
}
END_TEST

START_TEST(test_too_many_calls_are_refused)
{
    enum { CALLS_MAX = 10000 };
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        struct note_call *note = call_note(1);
        note->note.kind = NOTE_CALL;
        inbox_push(bus_inbox(bus), &note->note.item);
    }
    struct note_call *last = call_note(0);
    for (int turns = 0; turns < 20; turns++)
        turn();
    expect_nothing();
    post(&last->note, NOTE_CALL);
    expect_call(0, last, ERR_AGAIN);
    ck_assert_uint_eq(calls_made, 0);
}
END_TEST

START_TEST(test_what_waits_at_the_end_goes_back)
{
    struct note_call *asked = call_note(0), *waiting = call_note(1);
    struct note_remote *remote = mem_zero(1, sizeof(*remote));
    up(STORE_MOVED);
    post(&asked->note, NOTE_CALL);
    events->down(bus);
    post(&waiting->note, NOTE_CALL);
    remote->connection = copy(OTHER);
    remote->action = "end";
    post(&remote->note, NOTE_REMOTE);
    trust("t1");
    struct note_call *late = call_note(1); /* not taken any more */
    late->note.kind = NOTE_CALL;
    inbox_push(bus_inbox(bus), &late->note.item);
    unsigned back[WORKERS] = {0};
    bus_free(bus);
    for (unsigned w = 0; w < WORKERS; w++) {
        struct inbox_item *item;
        while ((item = inbox_pop(inboxes[w]))) {
            back[w]++;
            note_free((struct note *)item);
        }
    }
    ck_assert_uint_eq(back[0], 2);
    ck_assert_uint_eq(back[1], 2);
    bus_new(config, inboxes, WORKERS, TAG, metrics, store_make); /* for the teardown */
}
END_TEST

/* --- streams of any node ---------------------------------------------------------------------- */

static struct note_remote *remote_note(const char *connection)
{
    struct note_remote *note = mem_zero(1, sizeof(*note));
    note->connection = copy(connection);
    note->action = "renew";
    note->body = copy("{\"ns\":\"t1\"}");
    return note;
}

static void expect_remote(const struct note_remote *note, unsigned status, const char *detail)
{
    struct note *back = expect(0, NOTE_REMOTE);
    ck_assert_ptr_eq(back, &note->note);
    ck_assert_uint_eq(note->status, status);
    if (detail)
        ck_assert_str_eq(note->detail, detail);
    note_free(back);
}

START_TEST(test_the_node_s_own_channel_is_listened_to)
{
    ck_assert_ptr_nonnull(named(STORE_NODE, "1234abcd"));
    ck_assert_uint_eq(name_count, 1);
}
END_TEST

START_TEST(test_a_stream_of_this_node_answers_for_itself)
{
    struct note_remote *note = remote_note(OWN);
    post(&note->note, NOTE_REMOTE);
    struct note_control *control = (struct note_control *)expect(1, NOTE_CONTROL);
    ck_assert_ptr_null(control->from);
    ck_assert_str_eq(control->connection, OWN);
    ck_assert_str_eq(control->action, "renew");
    ck_assert_str_eq(control->body, "{\"ns\":\"t1\"}");
    control->status = 403;
    control->detail = copy("another subject");
    post(&control->note, NOTE_CONTROL);
    expect_remote(note, 403, "another subject");
    ck_assert_str_eq(told_text, "");
}
END_TEST

START_TEST(test_another_node_is_asked_and_answers)
{
    struct store_name *node = named(STORE_NODE, "1234abcd");
    struct note_remote *note = remote_note(OTHER);
    up(STORE_MOVED);
    post(&note->note, NOTE_REMOTE);
    ck_assert_str_eq(told_tag, "0badcafe");
    ck_assert_str_eq(told_text, "{\"id\":\"1\",\"from\":\"1234abcd\",\"connection\":"
                                "\"0badcafe000000020123456789abcdef\",\"action\":\"renew\","
                                "\"body\":\"{\\\"ns\\\":\\\"t1\\\"}\"}");
    events->told(bus, node, SLICE_LIT("{\"answer\":\"2\",\"status\":200}"));
    expect_nothing(); /* nobody has asked that */
    events->told(bus, node, SLICE_LIT("{\"answer\":\"1\",\"status\":200}"));
    expect_remote(note, 200, NULL);
    events->told(bus, node, SLICE_LIT("{\"answer\":\"1\",\"status\":403}"));
    expect_nothing();
}
END_TEST

START_TEST(test_what_another_node_asks_goes_to_the_worker_and_back)
{
    struct store_name *node = named(STORE_NODE, "1234abcd");
    events->told(bus, node,
                 SLICE_LIT("{\"id\":\"77\",\"from\":\"0badcafe\",\"connection\":"
                           "\"1234abcd010000020123456789abcdef\",\"action\":\"end\",\"body\":"
                           "\"{}\"}"));
    struct note_control *control = (struct note_control *)expect(1, NOTE_CONTROL);
    ck_assert_str_eq(control->from, "0badcafe");
    ck_assert_uint_eq(control->request, 77);
    ck_assert_str_eq(control->action, "end");
    control->status = 404;
    control->detail = copy("it is \"gone\"");
    post(&control->note, NOTE_CONTROL);
    ck_assert_str_eq(told_tag, "0badcafe");
    ck_assert_str_eq(told_text,
                     "{\"answer\":\"77\",\"status\":404,\"detail\":\"it is \\\"gone\\\"\"}");
    events->told(bus, node,
                 SLICE_LIT("{\"id\":\"78\",\"from\":\"0badcafe\",\"connection\":"
                           "\"1234abcd090000020123456789abcdef\",\"action\":\"end\",\"body\":"
                           "\"{}\"}"));
    ck_assert_ptr_nonnull(strstr(told_text, "\"answer\":\"78\",\"status\":404"));
    expect_nothing();
}
END_TEST

START_TEST(test_messages_that_are_not_right_are_passed_over)
{
    static const char *const odd[] = {
        "",
        "{}",
        "[1]",
        "{\"answer\":1,\"status\":200}",
        "{\"answer\":\"1\"}",
        "{\"answer\":\"1\",\"status\":\"200\"}",
        "{\"answer\":\"1\",\"status\":1e300}",
        /* no tag, another's connection, no action */
        "{\"id\":\"1\",\"from\":\"x\",\"connection\":\"1234abcd010000020123456789abcdef\","
        "\"action\":\"end\",\"body\":\"\"}",
        "{\"id\":\"1\",\"from\":\"0badcafe\",\"connection\":\"0badcafe010000020123456789abcdef\","
        "\"action\":\"end\",\"body\":\"\"}",
        "{\"id\":\"1\",\"from\":\"0badcafe\",\"connection\":\"1234abcd010000020123456789abcdef\","
        "\"body\":\"\"}",
        "{\"id\":\"1\",\"from\":\"0badcafe\",\"connection\":\"1234abcd010000020123456789abcdef\","
        "\"action\":\"an action of great length\",\"body\":\"\"}",
    };
    size_t count = sizeof(odd) / sizeof(odd[0]);
    for (size_t i = 0; i < count; i++)
        events->told(bus, named(STORE_NODE, "1234abcd"), slice_of(odd[i]));
    ck_assert_uint_eq(metrics_total(&metrics, 1, M_DROPPED_INVALID), count);
    expect_nothing();
    ck_assert_str_eq(told_text, "");
}
END_TEST

START_TEST(test_nobody_hears_or_redis_is_away)
{
    static const char *const gone[] = {NOWHERE, "", "1234", "1234ABCD010000020123456789abcdef"};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
        struct note_remote *note = remote_note(gone[i]);
        post(&note->note, NOTE_REMOTE);
        expect_remote(note, 404, NULL);
    }
    struct note_remote *unheard = remote_note(OTHER), *unsent = remote_note(OTHER);
    hearers = 0;
    post(&unheard->note, NOTE_REMOTE);
    expect_remote(unheard, 404, NULL);
    away = true;
    post(&unsent->note, NOTE_REMOTE);
    expect_remote(unsent, 503, NULL);
}
END_TEST

/* A node that was heard is connecting anew, perhaps: what is said again it hears, or it is gone. */
START_TEST(test_who_was_heard_is_asked_again)
{
    struct note_remote *first = remote_note(OTHER), *again = remote_note(OTHER);
    post(&first->note, NOTE_REMOTE);
    hearers = 0;
    post(&again->note, NOTE_REMOTE);
    expect_nothing();
    hearers = (uint64_t)_i;
    wait_for(has_ended);
    expect_remote(first, 504, NULL);
    while (!has_ended())
        wait_for(has_ended);
    expect_remote(again, _i ? 504 : 404, NULL);
}
END_TEST

START_TEST(test_no_answer_is_an_answer_in_the_end)
{
    struct note_remote *note = remote_note(OTHER), *own = remote_note(OWN);
    post(&note->note, NOTE_REMOTE);
    post(&own->note, NOTE_REMOTE);
    wait_for(has_ended);
    expect_remote(note, 504, NULL);
    while (!has_ended())
        wait_for(has_ended);
    expect_remote(own, 504, NULL);
    struct note *late = expect(1, NOTE_CONTROL);
    post(late, NOTE_CONTROL); /* too late: nobody waits for it */
    expect_nothing();
}
END_TEST

static void other_node_asks(unsigned number)
{
    char text[200];
    snprintf(text, sizeof(text),
             "{\"id\":\"%u\",\"from\":\"0badcafe\",\"connection\":\"%s\",\"action\":\"end\","
             "\"body\":\"\"}",
             number, OWN);
    events->told(bus, named(STORE_NODE, "1234abcd"), slice_of(text));
}

START_TEST(test_requests_are_bounded_both_ways)
{
    enum { MAX = 1000 };
    for (unsigned i = 0; i < MAX; i++) {
        struct note_remote *note = remote_note(OTHER);
        note->worker = 1;
        post(&note->note, NOTE_REMOTE);
    }
    struct note_remote *note = remote_note(OTHER);
    post(&note->note, NOTE_REMOTE);
    expect_remote(note, 503, NULL);
    told_text[0] = '\0';
    for (unsigned i = 0; i < MAX; i++)
        other_node_asks(i);
    ck_assert_str_eq(told_text, "");
    other_node_asks(MAX);
    ck_assert_ptr_nonnull(strstr(told_text, "\"answer\":\"1000\",\"status\":503"));
    post(expect(1, NOTE_CONTROL), NOTE_CONTROL); /* one is answered: there is room for one */
    told_text[0] = '\0';
    other_node_asks(MAX + 1);
    ck_assert_str_eq(told_text, "");
    other_node_asks(MAX + 2);
    ck_assert_ptr_nonnull(strstr(told_text, "\"answer\":\"1002\",\"status\":503"));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("bus_auth");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_whoever_comes_to_a_topic_has_it_asked_whether_it_is_due);
    tcase_add_test(tests, test_a_namespace_is_known_once_it_is_heard_and_loaded);
    tcase_add_test(tests, test_what_is_told_goes_to_every_worker);
    tcase_add_test(tests, test_all_are_loaded_again_before_anything_else_of_the_log);
    tcase_add_test(tests, test_nothing_was_missed_so_nothing_is_loaded);
    tcase_add_test(tests, test_a_load_that_began_before_the_break_is_not_believed_to_be_all);
    tcase_add_test(tests, test_a_load_that_breaks_waits_for_the_store);
    tcase_add_test(tests, test_a_namespace_that_cannot_be_loaded_holds_up_no_other);
    tcase_add_test(tests, test_one_that_redis_refuses_is_forgotten_at_once);
    tcase_add_test(tests, test_one_whose_channel_is_not_heard_is_not_known);
    tcase_add_test(tests, test_a_long_list_comes_in_bites);
    tcase_add_test(tests, test_beyond_the_bound_the_oldest_without_watchers_is_forgotten);
    tcase_add_test(tests, test_a_call_waits_until_the_store_is_up);
    tcase_add_test(tests, test_a_call_that_was_cancelled_is_not_made);
    tcase_add_test(tests, test_a_call_whose_answer_was_lost_is_not_made_again);
    tcase_add_test(tests, test_a_call_that_was_not_done_is_made_again_but_not_for_ever);
    tcase_add_test(tests, test_too_many_calls_are_refused);
    tcase_add_test(tests, test_what_waits_at_the_end_goes_back);
    tcase_add_test(tests, test_the_node_s_own_channel_is_listened_to);
    tcase_add_test(tests, test_a_stream_of_this_node_answers_for_itself);
    tcase_add_test(tests, test_another_node_is_asked_and_answers);
    tcase_add_test(tests, test_what_another_node_asks_goes_to_the_worker_and_back);
    tcase_add_test(tests, test_messages_that_are_not_right_are_passed_over);
    tcase_add_test(tests, test_nobody_hears_or_redis_is_away);
    tcase_add_loop_test(tests, test_who_was_heard_is_asked_again, 0, 2);
    tcase_add_test(tests, test_no_answer_is_an_answer_in_the_end);
    tcase_add_test(tests, test_requests_are_bounded_both_ways);
    return tests_run(tests);
}
