/* SPDX-License-Identifier: Apache-2.0 */
/* What bus_outbox.c promises. The test is both workers; the store only notes whether it is paused.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/bus/bus_outbox.h"
#include "test/unit/tests_run.h"

enum { WORKERS = 2, BEHIND = 256 };

static struct bus_base base;
static struct inbox *inboxes[WORKERS];
static struct bus_outbox *outbox;
static bool paused;

static void op_pause(void *impl, bool on)
{
    (void)impl;
    paused = on;
}

static void on_ready(void *arg)
{
    (void)arg;
}

static void setup(void)
{
    static const struct store_ops ops = {.pause = op_pause};
    base.loop = ev_loop_new(EVFLAG_NOENV);
    base.metrics = metrics_new();
    base.store.ops = &ops;
    for (unsigned w = 0; w < WORKERS; w++)
        inboxes[w] = inbox_new(base.loop, on_ready, NULL);
    outbox = bus_outbox_new(&base, inboxes, WORKERS);
    paused = false;
}

static void teardown(void)
{
    struct inbox_item *item;
    bus_outbox_free(outbox);
    bus_outbox_free(NULL);
    for (unsigned w = 0; w < WORKERS; w++) {
        while ((item = inbox_pop(inboxes[w])))
            note_free((struct note *)item);
        inbox_free(inboxes[w]);
    }
    metrics_free(base.metrics);
    ev_loop_destroy(base.loop);
}

static struct event *event_of(uint64_t id, uint64_t prev)
{
    struct event_fields fields = {.id = id,
                                  .prev = prev,
                                  .has_prev = true,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("ns"),
                                  .topic = SLICE_LIT("topic")};
    return event_new(&fields, 0);
}

static void send(uint64_t id, uint64_t to)
{
    struct event *ev = event_of(id, 0);
    bus_outbox_send(outbox, ev, to);
    event_unref(ev);
}

static void post(unsigned worker, enum note_kind kind)
{
    struct note *note = mem_zero(1, sizeof(*note));
    note->kind = kind;
    bus_outbox_post(outbox, worker, note);
}

static void expect_note(unsigned worker, enum note_kind kind)
{
    struct note *note = (struct note *)inbox_pop(inboxes[worker]);
    ck_assert_ptr_nonnull(note);
    ck_assert_int_eq(note->kind, kind);
    note_free(note);
}

static void expect_events(unsigned worker, uint64_t first, size_t count)
{
    struct note_events *note = (struct note_events *)inbox_pop(inboxes[worker]);
    ck_assert_ptr_nonnull(note);
    ck_assert_int_eq(note->note.kind, NOTE_EVENTS);
    ck_assert_uint_eq(note->count, count);
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_eq(event_id(note->events[i]), first + i);
    note_free(&note->note);
}

START_TEST(test_a_note_follows_what_was_sent_before_it)
{
    send(1, 3);
    send(2, 1);
    post(0, NOTE_DRAIN);
    send(3, 1);
    expect_events(0, 1, 2);
    expect_note(0, NOTE_DRAIN);
    ck_assert_ptr_null(inbox_pop(inboxes[0]));
    ck_assert_ptr_null(inbox_pop(inboxes[1]));
    bus_outbox_flush(outbox);
    expect_events(0, 3, 1);
    expect_events(1, 1, 1);
}
END_TEST

START_TEST(test_a_full_batch_leaves_at_once)
{
    for (uint64_t id = 1; id <= NOTE_EVENTS_MAX; id++)
        send(id, 2);
    expect_events(1, 1, NOTE_EVENTS_MAX);
    bus_outbox_flush(outbox);
    ck_assert_ptr_null(inbox_pop(inboxes[1]));
}
END_TEST

START_TEST(test_a_gap_goes_to_every_worker_after_the_events)
{
    char topic[] = "topic";
    struct event *late = event_of(7, 0);
    struct note_gap like = {
        .topic = topic, .from = 6, .to = 7, .late = late, .reason = GAP_OVERFLOW};
    send(9, 2);
    bus_outbox_post_gap(outbox, "ns", &like);
    event_unref(late);
    expect_events(1, 9, 1);
    for (unsigned w = 0; w < WORKERS; w++) {
        struct note_gap *gap = (struct note_gap *)inbox_pop(inboxes[w]);
        ck_assert_int_eq(gap->note.kind, NOTE_GAP);
        ck_assert_str_eq(gap->ns, "ns");
        ck_assert_str_eq(gap->topic, "topic");
        ck_assert_ptr_null(gap->unless);
        ck_assert_uint_eq(event_id(gap->late), 7);
        note_free(&gap->note);
    }
}
END_TEST

START_TEST(test_the_store_pauses_while_a_worker_is_behind)
{
    for (unsigned i = 0; i < BEHIND; i++)
        post(1, NOTE_DRAIN);
    ck_assert(!bus_outbox_is_behind(outbox));
    post(1, NOTE_DRAIN);
    ck_assert(!paused && !bus_outbox_is_paused(outbox));
    bus_outbox_flush(outbox);
    ck_assert(paused && bus_outbox_is_paused(outbox) && bus_outbox_is_behind(outbox));
    expect_note(1, NOTE_DRAIN);
    ev_run(base.loop, EVRUN_ONCE);
    ck_assert(paused); /* not at once: half must be done */
    for (unsigned i = 0; i < BEHIND / 2; i++)
        expect_note(1, NOTE_DRAIN);
    while (paused)
        ev_run(base.loop, EVRUN_ONCE);
    ck_assert(!bus_outbox_is_paused(outbox) && !bus_outbox_is_behind(outbox));
}
END_TEST

START_TEST(test_it_knows_what_was_sent_and_what_pages_brought)
{
    struct event *sent = event_of(5, 4), *next = event_of(6, 5);
    ck_assert(!bus_outbox_has_sent(outbox, sent));
    bus_outbox_send(outbox, sent, 1);
    ck_assert(bus_outbox_has_sent(outbox, sent));
    ck_assert(!bus_outbox_has_sent(outbox, next));
    ck_assert(bus_outbox_has_sent_prev(outbox, next));
    ck_assert(!bus_outbox_has_sent_prev(outbox, sent));
    bus_outbox_add_read(outbox, sent);
    ck_assert(!bus_outbox_had_read(outbox, sent)); /* in this era */
    bus_outbox_begin_era(outbox);
    ck_assert(bus_outbox_had_read(outbox, sent));
    ck_assert(!bus_outbox_had_read(outbox, next));
    ck_assert_uint_eq(bus_outbox_era(outbox), 1);
    event_unref(sent);
    event_unref(next);
}
END_TEST

START_TEST(test_what_was_sent_is_forgotten_from_the_oldest_on)
{
    enum { SENT_MAX = 65536 };
    for (uint64_t id = 1; id <= SENT_MAX + 1; id++)
        send(id, 0);
    ck_assert(!bus_outbox_reaches(outbox, 1));
    ck_assert(bus_outbox_reaches(outbox, SENT_MAX / 2 + 1));
    struct event *first = event_of(1, 0), *last = event_of(SENT_MAX + 1, 0);
    ck_assert(!bus_outbox_has_sent(outbox, first) && bus_outbox_has_sent(outbox, last));
    event_unref(first);
    event_unref(last);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("bus_outbox");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_a_note_follows_what_was_sent_before_it);
    tcase_add_test(cases, test_a_full_batch_leaves_at_once);
    tcase_add_test(cases, test_a_gap_goes_to_every_worker_after_the_events);
    tcase_add_test(cases, test_the_store_pauses_while_a_worker_is_behind);
    tcase_add_test(cases, test_it_knows_what_was_sent_and_what_pages_brought);
    tcase_add_test(cases, test_what_was_sent_is_forgotten_from_the_oldest_on);
    return tests_run(cases);
}
