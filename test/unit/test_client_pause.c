/* SPDX-License-Identifier: Apache-2.0 */
/* A paused stream: docs/protocol.md, 4.8. Any order of it with all else: test_client_lanes.c. */
#include <check.h>
#include <string.h>

#include "client_rig.h"
#include "test/unit/tests_run.h"

enum { MAX_EVENTS = 8 };

static char prefix[] = "relay.";
static struct config config = {.control_prefix = prefix, .control_events = CONTROL_ON};
static struct client_limits limits = {
    .max_events = MAX_EVENTS, .max_bytes = 4000, .teller = {&config, CONTROL_ON}};
static struct client client;
static struct buf sent;

static void setup(void)
{
    limits.slow = SLOW_BLOCK;
    client_start(&client, NULL);
    client_read_begin(&client);
    ck_assert(client_page(&client, &limits, NULL, 0, 0, true));
}

static void teardown(void)
{
    client_reset(&client);
    buf_reset(&sent);
}

static enum client_push push_as(uint64_t id, enum lane_kind lane, enum topic_end end)
{
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("t"),
                                  .data = SLICE_LIT("x"),
                                  .lane = lane,
                                  .end = end};
    struct event *ev = event_new(&fields, 1);
    enum client_push pushed = client_push(&client, &limits, ev);
    event_unref(ev);
    return pushed;
}

static enum client_push push(uint64_t id, enum lane_kind lane)
{
    return push_as(id, lane, END_NONE);
}

/* Pauses, and gives it one event more than it may hold. */
static void rest(void)
{
    client_pause(&client);
    for (uint64_t id = 1; id <= MAX_EVENTS; id++)
        ck_assert_int_eq(push(id, LANE_BATCHED), CLIENT_PENDING);
    ck_assert_int_eq(push(MAX_EVENTS + 1, LANE_BATCHED), CLIENT_BEHIND);
    ck_assert(client.rests && client.state == CLIENT_REPLAY);
    ck_assert_uint_eq(outbox_events(&client.out), 0);
    ck_assert_uint_eq(client.cursor, 0);
}

START_TEST(test_what_waits_is_not_flushed_however_much_it_is)
{
    client_pause(&client);
    for (uint64_t id = 1; id <= MAX_EVENTS; id++)
        ck_assert_int_eq(push(id, LANE_BATCHED), CLIENT_PENDING);
    ck_assert(!client.out.is_due && !outbox_has_output(&client.out));
    ck_assert(!client_resume(&client)); /* the log need not be read */
    ck_assert_uint_eq(outbox_events(&client.out), MAX_EVENTS);
}
END_TEST

START_TEST(test_an_instant_takes_along_what_waits)
{
    client_pause(&client);
    ck_assert_int_eq(push(1, LANE_BATCHED), CLIENT_PENDING);
    ck_assert_int_eq(push(2, LANE_INSTANT), CLIENT_FLUSHED);
    ck_assert_uint_eq(client.out.queue.ring.count, 2);
    ck_assert(client.is_paused);
}
END_TEST

/* Also one that would drop events, or end the stream: for now nothing is lost. */
START_TEST(test_too_much_is_let_go_whatever_the_policy)
{
    limits.slow = (enum slow_policy)_i;
    rest();
    ck_assert_int_eq(push(20, LANE_BATCHED), CLIENT_SKIPPED);
    ck_assert_int_eq(push(21, LANE_COALESCED), CLIENT_SKIPPED);
    ck_assert(client.rests);
    ck_assert(client_resume(&client));
    ck_assert(!client.rests && !client.is_paused);
}
END_TEST

START_TEST(test_an_instant_wakes_one_that_rests_once)
{
    rest();
    ck_assert_int_eq(push(20, LANE_INSTANT), CLIENT_WOKEN);
    ck_assert_int_eq(push(21, LANE_INSTANT), CLIENT_SKIPPED); /* the read brings it */
    ck_assert(client.is_paused && !client.rests);
    ck_assert(!client_resume(&client)); /* it reads already */
}
END_TEST

START_TEST(test_so_does_what_ends_its_topic)
{
    rest();
    ck_assert_int_eq(push_as(20, LANE_BATCHED, END_DONE), CLIENT_WOKEN);
}
END_TEST

START_TEST(test_an_instant_that_does_not_fit_is_read_at_once)
{
    client_pause(&client);
    for (uint64_t id = 1; id <= MAX_EVENTS; id++)
        ck_assert_int_eq(push(id, LANE_BATCHED), CLIENT_PENDING);
    ck_assert_int_eq(push(20, LANE_INSTANT), CLIENT_BEHIND);
    ck_assert(!client.rests);
}
END_TEST

START_TEST(test_what_it_rests_on_comes_from_the_log_and_it_is_paused_still)
{
    rest();
    ck_assert_int_eq(push(20, LANE_INSTANT), CLIENT_WOKEN);
    client_read_begin(&client);
    struct event *page[] = {event_make(1, NULL, "a"), event_make(20, NULL, "b")};
    ck_assert(client_page(&client, &limits, page, 2, 20, true));
    ck_assert_uint_eq(client.out.queue.ring.count, 2);
    client_drain(&client, &sent, 1000);
    ck_assert_int_eq(push(21, LANE_BATCHED), CLIENT_PENDING);
    event_unref(page[0]);
    event_unref(page[1]);
}
END_TEST

START_TEST(test_what_no_log_has_waits_or_wakes_like_all_else)
{
    rest();
    ck_assert_int_eq(push(0, LANE_BATCHED), CLIENT_HELD);
    ck_assert(client.rests && !outbox_has_output(&client.out));
    ck_assert_int_eq(push(0, LANE_INSTANT), CLIENT_QUEUED);
    ck_assert(client.is_paused && !client.rests);
    ck_assert_uint_eq(client.out.queue.ring.count, 2);
}
END_TEST

START_TEST(test_what_no_log_has_waits_for_the_end_of_the_pause)
{
    rest();
    for (unsigned i = 0; i < MAX_EVENTS; i++)
        ck_assert_int_eq(push(0, LANE_BATCHED), CLIENT_HELD);
    ck_assert(client_resume(&client));
    ck_assert_uint_eq(client.out.queue.ring.count, MAX_EVENTS);
}
END_TEST

/* Its own bound holds for it: then it is told as dropped. */
START_TEST(test_what_no_log_has_is_bounded_while_it_rests)
{
    rest();
    for (unsigned i = 0; i < MAX_EVENTS; i++)
        ck_assert_int_eq(push(0, LANE_BATCHED), CLIENT_HELD);
    ck_assert_int_eq(push(0, LANE_BATCHED), CLIENT_DROPPED);
    ck_assert_uint_eq(outbox_take_counts(&client.out).dropped, MAX_EVENTS + 1);
    ck_assert(client.rests && !client.held.ring.count);
}
END_TEST

/* A node with too much in memory: who only waits reads it later, and rests until then. */
START_TEST(test_relief)
{
    uint32_t gone;
    limits.slow = SLOW_DROP_OLDEST;
    client_pause(&client);
    ck_assert_int_eq(push(1, LANE_BATCHED), CLIENT_PENDING);
    ck_assert_int_eq(client_relieve(&client, &limits, 100, &gone), CLIENT_BEHIND);
    ck_assert(gone == 1 && client.rests);
}
END_TEST

START_TEST(test_relief_of_one_whose_socket_takes_nothing)
{
    uint32_t gone;
    client_pause(&client);
    ck_assert_int_eq(push(1, LANE_INSTANT), CLIENT_QUEUED);
    ck_assert_int_eq(push(2, LANE_BATCHED), CLIENT_PENDING);
    ck_assert_int_eq(client_relieve(&client, &limits, 100, &gone), CLIENT_BEHIND);
    ck_assert(gone == 2 && !client.rests); /* an instant is among it */
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("client_pause");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_what_waits_is_not_flushed_however_much_it_is);
    tcase_add_test(cases, test_an_instant_takes_along_what_waits);
    tcase_add_loop_test(cases, test_too_much_is_let_go_whatever_the_policy, 0, SLOW_COUNT);
    tcase_add_test(cases, test_an_instant_wakes_one_that_rests_once);
    tcase_add_test(cases, test_so_does_what_ends_its_topic);
    tcase_add_test(cases, test_an_instant_that_does_not_fit_is_read_at_once);
    tcase_add_test(cases, test_what_it_rests_on_comes_from_the_log_and_it_is_paused_still);
    tcase_add_test(cases, test_what_no_log_has_waits_or_wakes_like_all_else);
    tcase_add_test(cases, test_what_no_log_has_waits_for_the_end_of_the_pause);
    tcase_add_test(cases, test_what_no_log_has_is_bounded_while_it_rests);
    tcase_add_test(cases, test_relief);
    tcase_add_test(cases, test_relief_of_one_whose_socket_takes_nothing);
    return tests_run(cases);
}
