/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream lets go when the events of its node take too much memory. Any order of it with all
 * else: test_client_lanes.c. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "client_rig.h"
#include "test/unit/tests_run.h"

enum { T0 = 1000000 }; /* an event with id N came at T0 + N */

static char prefix[] = "relay.";
static struct config config = {.control_prefix = prefix, .control_events = CONTROL_ON};
static struct client_limits limits = {
    .max_events = 1000, .max_bytes = 1000000, .teller = {&config, CONTROL_ON}};
static struct client client;
static struct buf sent;

static struct event *event_at(uint64_t id, enum topic_end end, bool logged)
{
    char data[16];
    snprintf(data, sizeof(data), "%llu", (unsigned long long)id);
    struct event_fields fields = {.id = id < 900 ? id : 0,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("t"),
                                  .data = slice_of(data),
                                  .end = end};
    return event_new(&fields, logged ? 0 : T0 + id);
}

static void push(uint64_t id)
{
    struct event *ev = event_at(id, END_NONE, false);
    ck_assert_int_eq(client_push(&client, &limits, ev), CLIENT_QUEUED);
    event_unref(ev);
}

/* A live stream with the events from 1 to @count. From 900 on they have no id. */
static void start(enum slow_policy policy, uint64_t count)
{
    limits.slow = policy;
    client_start(&client, NULL);
    client_read_begin(&client);
    ck_assert(client_page(&client, &limits, NULL, 0, 0, true));
    for (uint64_t id = 1; id <= count; id++)
        push(id);
}

static void stop(void)
{
    client_reset(&client);
    buf_reset(&sent);
}

static enum client_push relieve(uint64_t before_us, uint32_t expected)
{
    uint32_t gone;
    enum client_push pushed = client_relieve(&client, &limits, before_us, &gone);
    ck_assert_uint_eq(gone, expected);
    return pushed;
}

/* The socket takes a byte. */
static void begin_frame(void)
{
    struct iovec iov[1];
    ck_assert_int_eq(outbox_frames(&client.out, iov, 1, 1000), 1);
    buf_put(&sent, iov[0].iov_base, 1);
    outbox_sent(&client.out, 1);
}

static void expect_sent(const char *frames)
{
    client_settle(&client, &limits);
    client_drain(&client, &sent, 7);
    buf_putc(&sent, '\0');
    ck_assert_str_eq(sent.ptr, frames);
}

START_TEST(test_block_goes_back_to_the_log)
{
    start(SLOW_BLOCK, 5);
    begin_frame();
    ck_assert_uint_eq(client_oldest_us(&client, 7), T0 + 2);
    ck_assert_int_eq(relieve(T0 + 3, 4), CLIENT_BEHIND);
    ck_assert_int_eq(client.state, CLIENT_REPLAY);
    ck_assert(client.is_behind && !client.out.waits);
    ck_assert_uint_eq(client.cursor, 1);
    ck_assert_uint_eq(client.out.told, 1);
    expect_sent("id: 1\ndata: 1\n\n");
    ck_assert_uint_eq(client.out.bytes, 0);
    stop();
}
END_TEST

START_TEST(test_block_tells_what_no_log_has)
{
    start(SLOW_BLOCK, 1);
    push(900);
    push(2);
    push(901);
    ck_assert_int_eq(relieve(T0 + 2000, 4), CLIENT_BEHIND);
    ck_assert_uint_eq(client.cursor, 0);
    expect_sent("event: relay.dropped\ndata: {\"count\":2}\n\n");
    stop();
}
END_TEST

START_TEST(test_what_stands_before_a_block_with_an_id_stays_and_pins_nothing)
{
    start(SLOW_BLOCK, 2);
    client_put_control(&client, event_new_frame(7, SLICE_LIT("id: 7\n\n")));
    push(8);
    ck_assert_int_eq(relieve(T0 + 9, 1), CLIENT_BEHIND);
    ck_assert_uint_eq(client.cursor, 7);
    ck_assert_uint_eq(client_oldest_us(&client, 7), UINT64_MAX);
    ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_SKIPPED);
    expect_sent("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 7\n\n");
    stop();
}
END_TEST

/* A page has told of the end of a topic whose last event the filter left out: what it brought
 * before that comes before it, once. */
START_TEST(test_what_stands_before_the_end_of_a_topic_is_told_stays)
{
    start(SLOW_BLOCK, 2);
    client_put_control(&client, event_new_end_frame(END_DONE, SLICE_LIT("event: relay.end\n\n")));
    push(8);
    ck_assert_int_eq(relieve(T0 + 9, 1), CLIENT_BEHIND);
    ck_assert_uint_eq(client.cursor, 7);
    ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_SKIPPED);
    expect_sent("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nevent: relay.end\n\n");
    stop();
}
END_TEST

START_TEST(test_what_ends_a_topic_stays)
{
    static const enum slow_policy policies[] = {SLOW_BLOCK, SLOW_DROP_OLDEST, SLOW_DROP_NEWEST};
    for (size_t i = 0; i < 3; i++) {
        start(policies[i], 0);
        struct event *end = event_at(1, END_DONE, false);
        ck_assert_int_eq(client_push(&client, &limits, end), CLIENT_QUEUED);
        event_unref(end);
        ck_assert_uint_eq(client_oldest_us(&client, 7), UINT64_MAX);
        ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_SKIPPED);
        expect_sent("id: 1\ndata: 1\n\n");
        stop();
    }
}
END_TEST

START_TEST(test_drop_oldest_drops_what_is_older)
{
    start(SLOW_DROP_OLDEST, 5);
    begin_frame();
    ck_assert_int_eq(relieve(T0 + 4, 2), CLIENT_DROPPED);
    ck_assert_int_eq(client.state, CLIENT_LIVE);
    ck_assert_uint_eq(client_oldest_us(&client, 7), T0 + 4);
    ck_assert_uint_eq(outbox_take_counts(&client.out).dropped, 2);
    expect_sent("id: 1\ndata: 1\n\n"
                "id: 3\nevent: relay.dropped\ndata: {\"count\":2}\n\n"
                "id: 4\ndata: 4\n\nid: 5\ndata: 5\n\n");
    stop();
}
END_TEST

START_TEST(test_drop_newest_drops_the_later_half)
{
    start(SLOW_DROP_NEWEST, 6);
    begin_frame();
    ck_assert_int_eq(relieve(T0 + 2, 3), CLIENT_DROPPED);
    ck_assert_int_eq(relieve(T0 + 2, 1), CLIENT_DROPPED);
    push(7);
    expect_sent("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"
                "id: 6\nevent: relay.dropped\ndata: {\"count\":4}\n\n"
                "id: 7\ndata: 7\n\n");
    stop();
}
END_TEST

START_TEST(test_drop_newest_comes_to_an_end)
{
    start(SLOW_DROP_NEWEST, 3);
    ck_assert_int_eq(relieve(T0 + 9, 2), CLIENT_DROPPED);
    ck_assert_int_eq(relieve(T0 + 9, 1), CLIENT_DROPPED);
    ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_SKIPPED);
    expect_sent("id: 3\nevent: relay.dropped\ndata: {\"count\":3}\n\n");
    stop();
}
END_TEST

START_TEST(test_disconnect_ends)
{
    start(SLOW_DISCONNECT, 3);
    ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_FULL);
    stop();
}
END_TEST

START_TEST(test_what_came_from_the_log_comes_again_under_every_policy)
{
    for (int policy = SLOW_BLOCK; policy < SLOW_COUNT; policy++) {
        struct event *events[] = {event_at(1, END_NONE, true), event_at(2, END_NONE, true)};
        limits.slow = (enum slow_policy)policy;
        client_start(&client, NULL);
        client_read_begin(&client);
        client_page(&client, &limits, events, 2, 2, true);
        push(3);
        ck_assert_uint_eq(client_oldest_us(&client, 7), 7);
        ck_assert_int_eq(relieve(T0 + 9, 3), CLIENT_BEHIND);
        ck_assert_uint_eq(client.cursor, 0);
        event_unref(events[0]);
        event_unref(events[1]);
        stop();
    }
}
END_TEST

START_TEST(test_what_is_read_twice_counts_once)
{
    struct event *events[] = {event_at(1, END_NONE, true), event_at(2, END_NONE, true)};
    limits.slow = SLOW_BLOCK;
    client_start(&client, NULL);
    client_read_begin(&client);
    client_page(&client, &limits, events, 2, 2, false);
    ck_assert_uint_eq(client.replayed, 2);
    begin_frame();
    ck_assert_int_eq(relieve(T0, 1), CLIENT_BEHIND);
    ck_assert_uint_eq(client.replayed, 1);
    event_unref(events[0]);
    event_unref(events[1]);
    stop();
}
END_TEST

/* Its page begins where its queue ends. */
START_TEST(test_who_waits_for_a_page_lets_nothing_go)
{
    start(SLOW_BLOCK, 3);
    ck_assert_int_eq(relieve(T0 + 9, 3), CLIENT_BEHIND);
    client_read_begin(&client);
    ck_assert_uint_eq(client_oldest_us(&client, 7), UINT64_MAX);
    ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_SKIPPED);
    stop();
}
END_TEST

START_TEST(test_who_is_ending_lets_nothing_go)
{
    start(SLOW_DISCONNECT, 3);
    client_close(&client, true);
    ck_assert_uint_eq(client_oldest_us(&client, 7), UINT64_MAX);
    ck_assert_int_eq(relieve(T0 + 9, 0), CLIENT_SKIPPED);
    expect_sent("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n");
    stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("client_relief");
    tcase_add_test(tests, test_block_goes_back_to_the_log);
    tcase_add_test(tests, test_block_tells_what_no_log_has);
    tcase_add_test(tests, test_what_stands_before_a_block_with_an_id_stays_and_pins_nothing);
    tcase_add_test(tests, test_what_stands_before_the_end_of_a_topic_is_told_stays);
    tcase_add_test(tests, test_what_ends_a_topic_stays);
    tcase_add_test(tests, test_drop_oldest_drops_what_is_older);
    tcase_add_test(tests, test_drop_newest_drops_the_later_half);
    tcase_add_test(tests, test_drop_newest_comes_to_an_end);
    tcase_add_test(tests, test_disconnect_ends);
    tcase_add_test(tests, test_what_came_from_the_log_comes_again_under_every_policy);
    tcase_add_test(tests, test_what_is_read_twice_counts_once);
    tcase_add_test(tests, test_who_waits_for_a_page_lets_nothing_go);
    tcase_add_test(tests, test_who_is_ending_lets_nothing_go);
    return tests_run(tests);
}
