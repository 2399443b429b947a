/* SPDX-License-Identifier: Apache-2.0 */
/* The bus on its own thread with the memory store behind it; the tests are its workers. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "grant_rig.h"
#include "relay/core/client.h"
#include "relay/core/publication_fields.h"
#include "relay/memory/store_memory.h"
#include "rng.h"
#include "test/unit/tests_run.h"

enum { WORKERS = 2, TAG = 0x1234abcd };

/* A worker: its loop runs until a note has come. */
struct worker {
    struct ev_loop *loop;
    struct inbox *inbox;
};

static struct worker workers[WORKERS];
static struct inbox *inboxes[WORKERS];
static struct metrics *metrics;
static struct config *config;
static struct bus *bus;
static pthread_t thread;

static void on_ready(void *arg)
{
    ev_break(((struct worker *)arg)->loop, EVBREAK_ALL);
}

static void *run_bus(void *arg)
{
    bus_run(arg);
    return NULL;
}

/* What a test posts before run() comes in one turn of the loop. */
static void setup_still(void)
{
    char name[] = "sse-relay", option[] = "--redis",
         value[] = "memory:", kept[] = "--log.max_events", all[] = "10000";
    char *argv[] = {name, option, value, kept, all, NULL}, *none[] = {NULL}, *message = NULL;
    enum config_action action;
    ck_assert_int_eq(config_load(5, argv, none, &config, &action, &message), OK);
    metrics = metrics_new();
    for (unsigned w = 0; w < WORKERS; w++) {
        workers[w].loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
        workers[w].inbox = inboxes[w] = inbox_new(workers[w].loop, on_ready, &workers[w]);
    }
    bus = bus_new(config, inboxes, WORKERS, TAG, metrics, store_memory_new);
}

static void run(void)
{
    ck_assert_int_eq(pthread_create(&thread, NULL, run_bus, bus), 0);
}

static void setup(void)
{
    setup_still();
    run();
}

static void post(struct note *note, enum note_kind kind)
{
    note->kind = kind;
    inbox_push(bus_inbox(bus), &note->item);
}

static struct note *next_note(unsigned w)
{
    struct inbox_item *item;
    while (!(item = inbox_pop(inboxes[w])))
        ev_run(workers[w].loop, 0);
    return (struct note *)item;
}

static void teardown(void)
{
    struct inbox_item *item;
    post(mem_zero(1, sizeof(struct note)), NOTE_STOP);
    pthread_join(thread, NULL);
    bus_free(bus);
    for (unsigned w = 0; w < WORKERS; w++) {
        while ((item = inbox_pop(inboxes[w])))
            note_free((struct note *)item);
        inbox_free(inboxes[w]);
        ev_loop_destroy(workers[w].loop);
    }
    metrics_free(metrics);
    config_unref(config);
}

/* --- what workers ask ------------------------------------------------------------------------ */

static char *copy(const char *text)
{
    return mem_dup(text, strlen(text));
}

static void watch(unsigned w, const char *name, enum note_kind kind)
{
    struct note_name *note = mem_zero(1, sizeof(*note));
    note->worker = w;
    note->ns = copy("default");
    note->name = copy(name);
    post(&note->note, kind);
}

/* Takes the reference to @grant. */
static struct subscription *subscription_with(const char *name, struct grant *grant)
{
    struct subscription_request request = {.ns = copy("default"), .grant = grant};
    request.topics.items = mem_zero(1, sizeof(char *));
    request.topics.items[0] = copy(name);
    request.topics.count = 1;
    return subscription_new(&request);
}

static struct subscription *subscription_to(const char *name)
{
    return subscription_with(name, NULL);
}

static struct note_read *ask(unsigned w, struct subscription *sub, enum cursor_kind kind,
                             uint64_t cursor, uint32_t max_events)
{
    struct note_read *note = mem_zero(1, sizeof(*note));
    note->worker = w;
    note->sub = subscription_ref(sub);
    note->kind = kind;
    note->cursor = cursor;
    note->max_events = max_events;
    note->max_bytes = 1 << 20;
    note->budget = UINT64_MAX;
    post(&note->note, NOTE_READ);
    return note;
}

/* One publication from names and values: "topic", "a", "data", "x", …, NULL. */
static struct publication publication_of(const char *const *args)
{
    struct publication p = {0};
    struct buf why = {0};
    for (size_t i = 0; args[i]; i += 2) {
        enum publication_field field = publication_field_find(slice_of(args[i]));
        ck_assert_int_ne(field, FIELD_COUNT);
        ck_assert_int_eq(publication_set(&p, field, slice_of(args[i + 1]), &why), OK);
    }
    return p;
}

static struct note_publish *publish_note(unsigned w, size_t count)
{
    struct note_publish *note = mem_zero(1, sizeof(*note));
    note->worker = w;
    note->request.ns = copy("default");
    note->request.items = mem_zero(count, sizeof(*note->request.items));
    note->request.count = count;
    return note;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void publish(unsigned w, const char *const *args)
{
    struct note_publish *note = publish_note(w, 1);
    note->request.items[0] = publication_of(args);
    post(&note->note, NOTE_PUBLISH);
}

static struct note *expect(unsigned w, enum note_kind kind)
{
    struct note *note = next_note(w);
    ck_assert_int_eq(note->kind, kind);
    return note;
}

/* Waits for the answer to a publish of one; the events before it are not looked at. */
static uint64_t published(unsigned w)
{
    struct note *note;
    while ((note = next_note(w))->kind != NOTE_PUBLISH)
        note_free(note);
    struct note_publish *answer = (struct note_publish *)note;
    ck_assert_uint_eq(answer->status, 200);
    uint64_t id = answer->ids[0];
    note_free(note);
    return id;
}

/* --- tests ----------------------------------------------------------------------------------- */

START_TEST(test_it_is_up_without_a_redis)
{
    struct subscription *sub = subscription_to("a");
    ck_assert_str_eq(bus_kind(bus), "memory");
    watch(0, "a", NOTE_WATCH);
    ask(0, sub, CURSOR_NONE, 0, 10);
    struct note_read *page = (struct note_read *)expect(0, NOTE_READ);
    ck_assert(bus_is_up(bus));
    ck_assert(page->final);
    ck_assert_uint_gt(page->start, 0);
    ck_assert_uint_eq(page->end, page->start);
    ck_assert_uint_eq(page->count, 0);
    ck_assert_ptr_nonnull(page->events);
    note_free(&page->note);
    subscription_unref(sub);
}
END_TEST

START_TEST(test_every_worker_gets_the_event_before_the_publisher_its_answer)
{
    watch(0, "a.b", NOTE_WATCH);
    watch(1, "a.*", NOTE_WATCH);
    publish(1, ARGS("topic", "a.b", "data", "x\ny", "event", "tick", "retry", "500"));
    for (unsigned w = 0; w < WORKERS; w++) {
        struct note_events *events = (struct note_events *)expect(w, NOTE_EVENTS);
        char frame[100];
        ck_assert_uint_eq(events->count, 1);
        struct event *ev = events->events[0];
        snprintf(frame, sizeof(frame), "id: %llu\nevent: tick\nretry: 500\ndata: x\ndata: y\n\n",
                 (unsigned long long)event_id(ev));
        ck_assert(slice_is(event_frame(ev), frame));
        ck_assert(slice_is(event_topic(ev), "a.b"));
        ck_assert_uint_gt(event_arrival_us(ev), 0);
        note_free(&events->note);
    }
    ck_assert_uint_gt(published(1), 0);
}
END_TEST

START_TEST(test_a_batch_gets_rising_ids_and_null_where_there_is_none)
{
    struct note_publish *note = publish_note(0, 5);
    note->request.items[0] = publication_of(ARGS("topic", "a", "data", "1", "once", "k"));
    note->request.items[1] = publication_of(ARGS("topic", "a", "topic", "b", "data", "2"));
    note->request.items[2] = publication_of(ARGS("topic", "a", "data", "3", "ephemeral", "1"));
    note->request.items[3] = publication_of(ARGS("topic", "a", "data", "4", "once", "k"));
    note->request.items[4] =
        publication_of(ARGS("topic", "b", "data", "5", "priority", "batched", "key", "x", "ttl",
                            "1000", "match", "{\"u\":\"1\"}"));
    post(&note->note, NOTE_PUBLISH);
    struct note_events *events = (struct note_events *)expect(0, NOTE_EVENTS);
    ck_assert_uint_eq(events->count, 5); /* the second twice, the fourth not at all */
    ck_assert_uint_eq(event_id(events->events[1]), event_id(events->events[2]));
    ck_assert_uint_eq(event_id(events->events[3]), 0);
    ck_assert_mem_eq(event_match(events->events[4]),
                     "u\0"
                     "1\0",
                     5);
    ck_assert(!event_has_match(events->events[0]));
    struct note_publish *answer = (struct note_publish *)expect(0, NOTE_PUBLISH);
    ck_assert_uint_eq(answer->status, 200);
    ck_assert_uint_lt(answer->ids[0], answer->ids[1]);
    ck_assert_uint_eq(answer->ids[2], 0);
    ck_assert_uint_eq(answer->ids[3], answer->ids[0]);
    ck_assert_uint_lt(answer->ids[1], answer->ids[4]);
    ck_assert_uint_eq(event_id(events->events[0]), answer->ids[0]);
    note_free(&events->note);
    note_free(&answer->note);
}
END_TEST

START_TEST(test_a_resume_reads_what_was_missed)
{
    struct subscription *sub = subscription_to("a");
    uint64_t ids[5];
    for (size_t i = 0; i < 5; i++) {
        publish(0, ARGS("topic", "a", "data", "x"));
        ids[i] = published(0);
    }
    watch(1, "a", NOTE_WATCH);
    ask(1, sub, CURSOR_ID, ids[1], 2);
    struct note *note;
    while ((note = next_note(1))->kind == NOTE_EVENTS)
        note_free(note);
    struct note_read *page = (struct note_read *)note;
    ck_assert_uint_eq(page->count, 2);
    ck_assert_uint_eq(event_id(page->events[0]), ids[2]);
    ck_assert_uint_eq(event_id(page->events[1]), ids[3]);
    ck_assert_uint_eq(event_arrival_us(page->events[0]), 0);
    ck_assert(!page->final);
    ck_assert_uint_eq(page->end, ids[3]);
    note_free(note);
    ask(1, sub, CURSOR_ID, ids[4] + 1000, 10);
    page = (struct note_read *)expect(1, NOTE_READ);
    ck_assert_uint_eq(page->count, 1);
    ck_assert_ptr_nonnull(memmem(event_frame(page->events[0]).ptr, event_frame(page->events[0]).len,
                                 "unknown-id", 10));
    note_free(&page->note);
    subscription_unref(sub);
}
END_TEST

START_TEST(test_publishing_waits_while_a_worker_is_behind)
{
    struct subscription *sub = subscription_to("a");
    struct note *note;
    watch(1, "a", NOTE_WATCH);
    for (unsigned i = 0; i < 300;
         i++) /* more than a worker may be behind, each answered by a note of its own */
        publish(0, ARGS("topic", "other", "data", "x"));
    ask(1, sub, CURSOR_NONE, 0, 10);
    while ((note = next_note(1))->kind != NOTE_READ)
        note_free(note);
    note_free(note);
    /* The turn that answered has seen that worker 0 is behind. */
    publish(1, ARGS("topic", "a", "data", "x"));
    publish(1, ARGS("topic", "a", "data", "y"));
    ask(1, sub, CURSOR_NONE, 0, 10);
    while ((note = next_note(1))->kind != NOTE_READ) {
        ck_assert_int_eq(note->kind, NOTE_EVENTS);
        note_free(note);
    }
    note_free(note);
    for (unsigned answers = 0; answers < 300;
         answers += note->kind == NOTE_PUBLISH, note_free(note))
        note = next_note(0);
    uint64_t first = published(1);
    ck_assert_uint_lt(first, published(1));
    subscription_unref(sub);
}
END_TEST

START_TEST(test_it_stops_with_work_left_to_do)
{
    struct subscription *sub = subscription_to("never watched");
    watch(1, "a", NOTE_WATCH);
    for (unsigned i = 0; i < 400; i++)
        publish(0, ARGS("topic", "a", "data", "x"));
    ask(0, sub, CURSOR_ALL, 0, 10);
    watch(1, "a", NOTE_UNWATCH);
    subscription_unref(sub);
}
END_TEST

/* --- tickets and revocations -------------------------------------------------------------------
 */

static void call(unsigned w, const char *function, const char *const *args)
{
    struct note_call *note = mem_zero(1, sizeof(*note));
    note->worker = w;
    note->function = function;
    note->ns = copy("default");
    for (size_t i = 0; args[i]; i++)
        strings_add(&note->args, slice_of(args[i]));
    post(&note->note, NOTE_CALL);
}

START_TEST(test_a_ticket_is_used_once_over_all_workers)
{
    static const char hash[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    unsigned taken = 0;
    call(0, "sse_ticket", ARGS(hash, "grant", "{}", "ttl", "30000", "until", "0"));
    struct note_call *answer = (struct note_call *)expect(0, NOTE_CALL);
    ck_assert_int_eq(answer->error, OK);
    note_free(&answer->note);
    for (unsigned w = 0; w < WORKERS; w++)
        call(w, "sse_ticket_take",
             ARGS(hash, "connection", w ? "1" : "0", "cursor", "0", "grace", "60000"));
    for (unsigned w = 0; w < WORKERS; w++) {
        answer = (struct note_call *)expect(w, NOTE_CALL);
        ck_assert_int_eq(answer->error, OK);
        taken += strcmp(answer->answer.items[0], "ok") == 0;
        note_free(&answer->note);
    }
    ck_assert_uint_eq(taken, 1);
}
END_TEST

START_TEST(test_a_revocation_is_told_to_all_before_it_is_answered)
{
    struct note_trust *trust = mem_zero(1, sizeof(*trust));
    trust->ns = copy("default");
    post(&trust->note, NOTE_TRUST);
    call(1, "sse_revoke", ARGS("sub", "42"));
    for (unsigned w = 0; w < WORKERS; w++) {
        struct note_revoked *note = (struct note_revoked *)expect(w, NOTE_REVOKED);
        ck_assert(note->loaded);
        ck_assert_uint_eq(note->count, 0);
        note_free(&note->note);
        note = (struct note_revoked *)expect(w, NOTE_REVOKED);
        ck_assert_uint_eq(note->count, 1);
        ck_assert_int_eq(note->entries[0].kind, REVOKED_SUBJECT);
        ck_assert_str_eq(note->entries[0].value, "42");
        ck_assert_uint_gt(note->entries[0].before_s, 0);
        note_free(&note->note);
    }
    struct note_call *answer = (struct note_call *)expect(1, NOTE_CALL);
    ck_assert_int_eq(answer->error, OK);
    note_free(&answer->note);
}
END_TEST

/* --- reads that share a flight -----------------------------------------------------------------
 */

static struct note_read *page_of(unsigned w, const struct note_read *asked)
{
    struct note *note;
    while ((note = next_note(w)) != &asked->note)
        note_free(note);
    return (struct note_read *)note;
}

START_TEST(test_the_end_of_one_stream_s_budget_is_not_that_of_others)
{
    struct subscription *sub = subscription_to("a");
    watch(0, "a", NOTE_WATCH);
    for (size_t i = 0; i < 5; i++)
        publish(1, ARGS("topic", "a", "data", "x"));
    struct note_read *poor = ask(0, sub, CURSOR_ID, 1, 2), *rich = ask(0, sub, CURSOR_ID, 1, 2);
    poor->budget = 2;
    run();
    page_of(0, poor);
    page_of(0, rich);
    ck_assert(!rich->final); /* no gap to its end */
    ck_assert_uint_eq(rich->end, event_id(rich->events[rich->count - 1]));
    note_free(&poor->note);
    note_free(&rich->note);
    subscription_unref(sub);
}
END_TEST

static struct note_read *next_page(unsigned w)
{
    struct note *note;
    while ((note = next_note(w))->kind != NOTE_READ)
        note_free(note);
    return (struct note_read *)note;
}

/* What of the page is for whom it was read: one event, with this data. */
static void expect_one(const struct note_read *page, const char *data)
{
    size_t found = 0;
    for (size_t i = 0; i < page->count; i++) {
        struct slice frame = event_frame(page->events[i]);
        if (!subscription_wants_event(page->sub, page->events[i]))
            continue;
        ck_assert_ptr_nonnull(memmem(frame.ptr, frame.len, data, strlen(data)));
        found++;
    }
    ck_assert_uint_eq(found, 1);
    ck_assert(page->final);
}

/* All ask in one turn: who has other claims has another last event, and who has the same shares the
 * read. */
START_TEST(test_the_last_ones_are_each_one_s_own)
{
    static const struct {
        const char *name, *value, *data;
    } readers[] = {{"user", "1", "data: 1\n"},    {"user", "2", "data: 2\n"},
                   {"user", "1", "data: 1\n"},    {"org", "1", "data: o\n"},
                   {"user", "1=", "data: all\n"}, {NULL, NULL, "data: all\n"}};
    enum { READERS = sizeof readers / sizeof *readers };
    const struct note_read *reads[READERS];
    watch(0, "a", NOTE_WATCH);
    publish(1, ARGS("topic", "a", "data", "all"));
    publish(1, ARGS("topic", "a", "data", "1", "match", "{\"user\":\"1\"}"));
    publish(1, ARGS("topic", "a", "data", "2", "match", "{\"user\":\"2\"}"));
    publish(1, ARGS("topic", "a", "data", "o", "match", "{\"org\":\"1\"}"));
    publish(1, ARGS("topic", "a", "data", "x", "match", "{\"other\":\"1\"}"));
    for (size_t i = 0; i < READERS; i++) {
        struct grant *grant =
            readers[i].name ? grant_of(readers[i].name, readers[i].value, NULL) : NULL;
        struct subscription *sub = subscription_with("a", grant);
        reads[i] = ask(0, sub, CURSOR_LAST, 1, 10);
        subscription_unref(sub);
    }
    run();
    for (size_t n = 0; n < READERS; n++) {
        struct note_read *page = next_page(0);
        size_t i = 0;
        while (reads[i] != page)
            i++;
        expect_one(page, readers[i].data);
        note_free(&page->note);
    }
    ck_assert_uint_eq(metrics_total(&metrics, 1, M_READS_LOG), 5);
}
END_TEST

/* --- the whole path: publishers, bus, clients that come and go ---------------------------------
 */

enum { PUBLICATIONS = 3000 };

static void *publish_many(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < PUBLICATIONS; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%u", i);
        publish(1, ARGS("topic", "a", "data", number));
        published(1);
    }
    return NULL;
}

/* One stream at a time, resumed with its last id whenever it is dropped. */
struct reader {
    struct rng rng;
    struct client client;
    struct subscription *sub;
    struct client_limits limits;
    uint64_t last;
    unsigned next; /* the number that must come */
    /* The client's read. Those of clients before it may come later: a read of higher cursor waits
     * for a flight that goes so far. */
    const struct note_read *read;
};

static void reader_ask(struct reader *r, enum cursor_kind kind)
{
    uint32_t events;
    size_t bytes;
    client_room(&r->client, &r->limits, &events, &bytes);
    client_read_begin(&r->client);
    r->read = ask(0, r->sub, kind, r->client.cursor, events);
}

static void reader_connect(struct reader *r)
{
    client_reset(&r->client);
    static const struct outbox_form plain;
    client_init(&r->client, r->sub, &plain);
    r->client.cursor = r->last;
    reader_ask(r, r->last ? CURSOR_ID : CURSOR_ALL);
}

static void reader_frame(struct reader *r, const struct iovec *frame)
{
    unsigned long long id;
    unsigned number;
    char text[100];
    snprintf(text, sizeof(text), "%.*s", (int)frame->iov_len, (const char *)frame->iov_base);
    ck_assert_int_eq(sscanf(text, "id: %llu\ndata: %u\n\n", &id, &number), 2);
    ck_assert_uint_gt(id, r->last);
    ck_assert_uint_eq(number, r->next);
    r->last = id;
    r->next++;
}

static void reader_drain(struct reader *r)
{
    struct iovec iov[8];
    int count = outbox_frames(&r->client.out, iov, 1 + (int)rng_below(&r->rng, 8), 1000);
    for (int i = 0; i < count; i++) {
        size_t len = iov[i].iov_len;
        reader_frame(r, &iov[i]);
        outbox_sent(&r->client.out, len);
    }
    if (r->client.state == CLIENT_REPLAY && !r->client.reading)
        reader_ask(r, CURSOR_ID);
}

static void reader_take(struct reader *r, struct note *note)
{
    if (note->kind == NOTE_READ) {
        struct note_read *page = (struct note_read *)note;
        if (page == r->read)
            client_page(&r->client, &r->limits, page->events, page->count, page->end, page->final);
    } else {
        struct note_events *events = (struct note_events *)note;
        for (size_t i = 0; i < events->count; i++)
            if (client_push(&r->client, &r->limits, events->events[i]) == CLIENT_FULL) {
                reader_connect(r);
                break;
            }
    }
    note_free(note);
}

START_TEST(test_a_stream_that_resumes_misses_nothing)
{
    struct reader r = {
        .rng = rng_seeded("bus"), .sub = subscription_to("a"), .limits = {20, 1 << 20}};
    pthread_t publisher;
    watch(0, "a", NOTE_WATCH);
    reader_connect(&r);
    ck_assert_int_eq(pthread_create(&publisher, NULL, publish_many, NULL), 0);
    while (r.next < PUBLICATIONS) {
        bool stuck = r.client.state == CLIENT_REPLAY && !r.client.reading;
        struct note *note = NULL;
        if (rng_below(&r.rng, 200) == 0)
            reader_connect(&r);
        else if (stuck || (outbox_has_output(&r.client.out) && rng_below(&r.rng, 2)))
            reader_drain(&r);
        else if (outbox_has_output(&r.client.out))
            note = (struct note *)inbox_pop(inboxes[0]);
        else
            note = next_note(0);
        if (note)
            reader_take(&r, note);
    }
    pthread_join(publisher, NULL);
    client_reset(&r.client);
    subscription_unref(r.sub);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("bus_memory");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_it_is_up_without_a_redis);
    tcase_add_test(cases, test_every_worker_gets_the_event_before_the_publisher_its_answer);
    tcase_add_test(cases, test_a_batch_gets_rising_ids_and_null_where_there_is_none);
    tcase_add_test(cases, test_a_resume_reads_what_was_missed);
    tcase_add_test(cases, test_publishing_waits_while_a_worker_is_behind);
    tcase_add_test(cases, test_it_stops_with_work_left_to_do);
    tcase_add_test(cases, test_a_ticket_is_used_once_over_all_workers);
    tcase_add_test(cases, test_a_revocation_is_told_to_all_before_it_is_answered);
    tcase_add_test(cases, test_a_stream_that_resumes_misses_nothing);
    TCase *shared = tcase_create("shared flights");
    tcase_add_checked_fixture(shared, setup_still, teardown);
    tcase_add_test(shared, test_the_end_of_one_stream_s_budget_is_not_that_of_others);
    tcase_add_test(shared, test_the_last_ones_are_each_one_s_own);
    return tests_run_all((TCase *const[]){cases, shared}, 2);
}
