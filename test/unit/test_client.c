/* SPDX-License-Identifier: Apache-2.0 */
/* A stream's queue and states: bounded, in order, nothing twice, no hole between the log and what
 * is live. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client_rig.h"
#include "grant_rig.h"
#include "test/unit/tests_run.h"

static const struct client_limits limits = {
    .max_events = 4, .max_bytes = 400, .slow = SLOW_DISCONNECT};

/* Drops are counted, and not told. */
static const struct client_limits silent = {
    .max_events = 4, .max_bytes = 400, .teller = {.control = CONTROL_OFF}};

static struct client client;

static void setup(void)
{
    client_start(&client, NULL);
}

static void teardown(void)
{
    client_reset(&client);
}

static enum client_push push(struct client *c, uint64_t id)
{
    struct event *ev = event_make(id, NULL, "x");
    enum client_push result = client_push(c, &limits, ev);
    event_unref(ev);
    return result;
}

/* A page of the events @first to @last, complete up to @last. */
static bool page(struct client *c, uint64_t first, uint64_t last, bool final)
{
    struct event *events[16] = {NULL};
    size_t count = 0;
    for (uint64_t id = first; id <= last; id++)
        events[count++] = event_make(id, NULL, "x");
    bool live = client_page(c, &limits, events, count, last, final);
    for (size_t i = 0; i < count; i++)
        event_unref(events[i]);
    return live;
}

static void go_live(struct client *c)
{
    client_read_begin(c);
    ck_assert(client_page(c, &limits, NULL, 0, 0, true));
}

/* All ids on the wire, such as "1 2 3"; unsent bytes included. */
static const char *ids_sent(struct client *c)
{
    static char text[1024];
    struct buf out = {0};
    text[0] = '\0';
    client_drain(c, &out, 1000);
    buf_putc(&out, '\0');
    for (char *line = strtok(out.ptr, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "id: ", 4) == 0)
            strcat(strcat(text, text[0] ? " " : ""), line + 4);
    buf_reset(&out);
    return text;
}

START_TEST(test_live_events_are_queued_and_sent_as_they_are)
{
    struct buf out = {0};
    go_live(&client);
    struct event *ev = event_make(7, "tick", "a\nb");
    ck_assert_int_eq(client_push(&client, &limits, ev), CLIENT_QUEUED);
    ck_assert_uint_eq(client.out.bytes, event_frame(ev).len);
    event_unref(ev);
    client_drain(&client, &out, 1000);
    buf_putc(&out, '\0');
    ck_assert_str_eq(out.ptr, "id: 7\nevent: tick\ndata: a\ndata: b\n\n");
    ck_assert(!outbox_has_output(&client.out));
    ck_assert_uint_eq(client.out.bytes, 0);
    ck_assert_ptr_null(client.out.queue.slots);
    buf_reset(&out);
}
END_TEST

START_TEST(test_an_id_is_never_queued_twice)
{
    go_live(&client);
    ck_assert_int_eq(push(&client, 5), CLIENT_QUEUED);
    ck_assert_int_eq(push(&client, 5), CLIENT_SKIPPED);
    ck_assert_int_eq(push(&client, 4), CLIENT_SKIPPED);
    ck_assert_int_eq(push(&client, 6), CLIENT_QUEUED);
    ck_assert_str_eq(ids_sent(&client), "5 6");
    ck_assert_int_eq(push(&client, 6), CLIENT_SKIPPED);
}
END_TEST

START_TEST(test_push_over_the_event_limit_is_full)
{
    go_live(&client);
    for (uint64_t id = 1; id <= 4; id++)
        ck_assert_int_eq(push(&client, id), CLIENT_QUEUED);
    ck_assert_int_eq(push(&client, 5), CLIENT_FULL);
    ck_assert_uint_eq(client.out.queue.ring.count, 4);
    ck_assert_uint_eq(client.cursor, 4);
    ck_assert_str_eq(ids_sent(&client), "1 2 3 4");
    ck_assert_int_eq(push(&client, 5), CLIENT_QUEUED);
}
END_TEST

START_TEST(test_push_over_the_byte_limit_is_full)
{
    char data[301];
    memset(data, 'x', sizeof(data));
    data[300] = '\0';
    go_live(&client);
    struct event *first = event_make(1, NULL, data), *second = event_make(2, NULL, data);
    ck_assert_int_eq(client_push(&client, &limits, first), CLIENT_QUEUED);
    ck_assert_int_eq(client_push(&client, &limits, second), CLIENT_FULL);
    ck_assert_str_eq(ids_sent(&client), "1");
    ck_assert_int_eq(client_push(&client, &limits, second), CLIENT_QUEUED);
    event_unref(first);
    event_unref(second);
}
END_TEST

START_TEST(test_an_event_larger_than_the_limit_passes_an_empty_queue)
{
    char data[1001];
    memset(data, 'x', sizeof(data));
    data[1000] = '\0';
    struct event *ev = event_make(1, NULL, data);
    go_live(&client);
    ck_assert_int_eq(client_push(&client, &limits, ev), CLIENT_QUEUED);
    ck_assert_int_eq(push(&client, 2), CLIENT_FULL);
    event_unref(ev);
}
END_TEST

START_TEST(test_before_its_read_a_client_takes_only_what_has_no_id)
{
    ck_assert_int_eq(push(&client, 5), CLIENT_SKIPPED);
    ck_assert_int_eq(push(&client, 0), CLIENT_QUEUED);
    ck_assert_uint_eq(client.cursor, 0);
}
END_TEST

START_TEST(test_what_is_held_follows_the_page_that_meets_it)
{
    client_read_begin(&client);
    for (uint64_t id = 3; id <= 5; id++)
        ck_assert_int_eq(push(&client, id), CLIENT_HELD);
    ck_assert(page(&client, 2, 4, true));
    ck_assert_int_eq(client.state, CLIENT_LIVE);
    ck_assert_uint_eq(client.replayed, 3);
    ck_assert_str_eq(ids_sent(&client), "2 3 4 5");
    ck_assert_int_eq(push(&client, 5), CLIENT_SKIPPED);
    ck_assert_int_eq(push(&client, 6), CLIENT_QUEUED);
}
END_TEST

START_TEST(test_a_page_that_is_not_the_last_leaves_what_was_held_to_the_log)
{
    client_read_begin(&client);
    ck_assert_int_eq(push(&client, 9), CLIENT_HELD);
    ck_assert(!page(&client, 1, 3, false));
    ck_assert_int_eq(client.state, CLIENT_REPLAY);
    ck_assert_uint_eq(client.cursor, 3);
    ck_assert_uint_eq(client.held.ring.count, 0);
    ck_assert_int_eq(push(&client, 10), CLIENT_SKIPPED);
    ck_assert_int_eq(push(&client, 0), CLIENT_QUEUED);
    ck_assert_str_eq(ids_sent(&client), "1 2 3");
    client_read_begin(&client);
    ck_assert(page(&client, 9, 10, true));
    ck_assert_str_eq(ids_sent(&client), "9 10");
}
END_TEST

START_TEST(test_what_no_log_has_follows_the_page_that_is_not_the_last)
{
    struct buf out = {0};
    struct event *ephemeral = event_make(0, NULL, "ephemeral");
    client_read_begin(&client);
    ck_assert(!page(&client, 1, 1, false));
    ck_assert_str_eq(ids_sent(&client), "1");
    client_read_begin(&client);
    ck_assert_int_eq(client_push(&client, &limits, ephemeral), CLIENT_HELD);
    ck_assert_int_eq(push(&client, 9), CLIENT_HELD);
    ck_assert(!page(&client, 2, 2, false));
    client_drain(&client, &out, 1000);
    buf_putc(&out, '\0');
    ck_assert_str_eq(out.ptr, "id: 2\ndata: x\n\ndata: ephemeral\n\n");
    event_unref(ephemeral);
    buf_reset(&out);
}
END_TEST

/* Beside the page that fills the queue, or where so much came that not all was held. */
START_TEST(test_what_no_log_has_and_does_not_fit_is_counted_as_dropped)
{
    client_read_begin(&client);
    ck_assert(!page(&client, 1, 1, false));
    ck_assert_str_eq(ids_sent(&client), "1");
    client_read_begin(&client);
    ck_assert_int_eq(push(&client, 0), CLIENT_HELD);
    ck_assert(!page(&client, 2, 5, false));
    ck_assert_uint_eq(client.out.more->dropped, 1);
    client_settle(&client, &silent);
    ck_assert_str_eq(ids_sent(&client), "2 3 4 5");
    client_read_begin(&client);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(push(&client, i < 2 ? 0 : 10 + (uint64_t)i), CLIENT_HELD);
    ck_assert_int_eq(push(&client, 0), CLIENT_DROPPED);
    ck_assert_uint_eq(client.out.more->dropped, 4);
    client_settle(&client, &silent);
    ck_assert(!page(&client, 6, 6, true));
    ck_assert_str_eq(ids_sent(&client), "6");
}
END_TEST

/* Its stream is complete from then on, and not before. */
START_TEST(test_before_the_first_page_nothing_is_told_as_dropped)
{
    client_read_begin(&client);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(push(&client, 0), CLIENT_HELD);
    ck_assert_int_eq(push(&client, 0), CLIENT_SKIPPED);
    ck_assert(!outbox_has_output(&client.out));
}
END_TEST

START_TEST(test_overflow_of_the_hold_costs_another_read_and_no_event)
{
    client_read_begin(&client);
    for (uint64_t id = 2; id <= 5; id++)
        ck_assert_int_eq(push(&client, id), CLIENT_HELD);
    ck_assert_int_eq(push(&client, 6), CLIENT_SKIPPED);
    ck_assert_uint_eq(client.held.ring.count, 0);
    ck_assert_int_eq(push(&client, 7), CLIENT_SKIPPED);
    ck_assert(!page(&client, 1, 1, true));
    ck_assert_int_eq(client.state, CLIENT_REPLAY);
    ck_assert_str_eq(ids_sent(&client), "1");
    client_read_begin(&client);
    ck_assert_int_eq(push(&client, 8), CLIENT_HELD);
    ck_assert(page(&client, 2, 4, false) == false);
    ck_assert_str_eq(ids_sent(&client), "2 3 4");
    client_read_begin(&client);
    ck_assert(page(&client, 5, 8, true));
    ck_assert_str_eq(ids_sent(&client), "5 6 7 8");
}
END_TEST

START_TEST(test_the_hold_is_bounded_in_bytes_as_well)
{
    char data[301];
    memset(data, 'x', sizeof(data));
    data[300] = '\0';
    struct event *first = event_make(1, NULL, data), *second = event_make(2, NULL, data);
    client_read_begin(&client);
    ck_assert_int_eq(client_push(&client, &limits, first), CLIENT_HELD);
    ck_assert_int_eq(client_push(&client, &limits, second), CLIENT_SKIPPED);
    ck_assert(client.hold_overflow);
    ck_assert_uint_eq(client.held.ring.count, 0);
    event_unref(first);
    event_unref(second);
}
END_TEST

START_TEST(test_a_queue_without_room_for_the_held_reads_on)
{
    client_read_begin(&client);
    for (uint64_t id = 4; id <= 5; id++)
        ck_assert_int_eq(push(&client, id), CLIENT_HELD);
    ck_assert(!page(&client, 1, 3, true)); /* 3 and 2 are more than 4 */
    ck_assert_int_eq(client.state, CLIENT_REPLAY);
    ck_assert_str_eq(ids_sent(&client), "1 2 3");
    client_read_begin(&client);
    ck_assert(page(&client, 4, 5, true));
    ck_assert_str_eq(ids_sent(&client), "4 5");
}
END_TEST

START_TEST(test_room_is_what_the_queue_has_left_and_never_nothing)
{
    uint32_t events;
    size_t bytes;
    client_room(&client, &limits, &events, &bytes);
    ck_assert_uint_eq(events, 4);
    ck_assert_uint_eq(bytes, 400);
    go_live(&client);
    for (uint64_t id = 1; id <= 4; id++)
        push(&client, id);
    client_room(&client, &limits, &events, &bytes);
    ck_assert_uint_eq(events, 1);
    ck_assert_uint_eq(bytes, 400 - client.out.bytes);
}
END_TEST

START_TEST(test_other_types_are_left_out_but_move_the_cursor)
{
    struct client typed;
    client_start(&typed, "tick");
    struct event *tick = event_make(1, "tick", "x"), *tock = event_make(2, "tock", "x");
    go_live(&typed);
    ck_assert_int_eq(client_push(&typed, &limits, tick), CLIENT_QUEUED);
    ck_assert_int_eq(client_push(&typed, &limits, tock), CLIENT_SKIPPED);
    ck_assert_int_eq(push(&typed, 3), CLIENT_SKIPPED); /* has no type */
    ck_assert_uint_eq(typed.cursor, 3);
    ck_assert_uint_eq(typed.out.told, 1);
    struct event *gap = event_new_frame(9, SLICE_LIT("id: 9\ndata: gap\n\n"));
    client_put_control(&typed, gap); /* control events pass */
    ck_assert_uint_eq(typed.out.told, 9);
    ck_assert_str_eq(ids_sent(&typed), "1 9");
    event_unref(tick);
    event_unref(tock);
    client_reset(&typed);
}
END_TEST

START_TEST(test_a_page_is_filtered_by_type)
{
    struct client typed;
    struct event *events[] = {event_make(1, "tick", "x"), event_make(2, "tock", "x"),
                              event_new_frame(3, SLICE_LIT("id: 3\ndata: gap\n\n")),
                              event_make(4, "tick", "x")};
    client_start(&typed, "tick");
    client_read_begin(&typed);
    ck_assert(client_page(&typed, &limits, events, 4, 6, true));
    ck_assert_uint_eq(typed.replayed, 2);
    ck_assert_uint_eq(typed.cursor, 6);
    ck_assert_str_eq(ids_sent(&typed), "1 3 4");
    for (size_t i = 0; i < 4; i++)
        event_unref(events[i]);
    client_reset(&typed);
}
END_TEST

static void expect_pushed(struct client *c, uint64_t id, const char *match,
                          enum client_push expected)
{
    struct event *ev = event_make_for(id, NULL, "x", match);
    ck_assert_int_eq(client_push(c, &limits, ev), expected);
    ck_assert_uint_eq(c->cursor, id); /* also past what is for others */
    event_unref(ev);
}

START_TEST(test_events_for_certain_claims_reach_those_who_have_them)
{
    struct grant *grant = grant_of("user", "42", NULL);
    struct client granted;
    client_start_with(&granted, NULL, grant);
    grant_unref(grant);
    go_live(&granted);
    expect_pushed(&granted, 1, "{\"user\":\"42\"}", CLIENT_QUEUED);
    expect_pushed(&granted, 2, "{\"user\":\"43\"}", CLIENT_SKIPPED);
    expect_pushed(&granted, 3, "{\"user\":42}", CLIENT_SKIPPED);
    expect_pushed(&granted, 4, NULL, CLIENT_QUEUED);
    ck_assert_str_eq(ids_sent(&granted), "1 4");
    client_reset(&granted);
    go_live(&client); /* without authentication */
    expect_pushed(&client, 1, "{\"user\":\"42\"}", CLIENT_SKIPPED);
    expect_pushed(&client, 2, NULL, CLIENT_QUEUED);
    ck_assert_str_eq(ids_sent(&client), "2");
}
END_TEST

/* Renewed while the page was read: by then it is for others. */
START_TEST(test_what_is_held_is_judged_again)
{
    struct grant *before = grant_of("user", "42", NULL), *after = grant_of("user", "43", NULL);
    struct client granted;
    client_start_with(&granted, NULL, before);
    client_read_begin(&granted);
    struct event *ev = event_make_for(1, NULL, "x", "{\"user\":\"42\"}"),
                 *all = event_make(2, NULL, "x");
    ck_assert_int_eq(client_push(&granted, &limits, ev), CLIENT_HELD);
    ck_assert_int_eq(client_push(&granted, &limits, all), CLIENT_HELD);
    struct subscription *renewed = subscription_renewed(granted.sub, after);
    subscription_unref(granted.sub);
    granted.sub = renewed;
    ck_assert(client_page(&granted, &limits, NULL, 0, 0, true));
    ck_assert_str_eq(ids_sent(&granted), "2");
    event_unref(ev);
    event_unref(all);
    grant_unref(before);
    grant_unref(after);
    client_reset(&granted);
}
END_TEST

START_TEST(test_what_is_for_others_takes_no_room)
{
    struct grant *grant = grant_of("user", "42", NULL);
    struct client granted;
    struct event *foreign = event_make_for(9, NULL, "x", "{\"user\":\"43\"}"),
                 *page_events[] = {event_make_for(3, NULL, "x", "{\"user\":\"42\"}"), foreign};
    client_start_with(&granted, NULL, grant);
    grant_unref(grant);
    client_read_begin(&granted);
    for (int i = 0; i < 20; i++) /* the hold has four places */
        ck_assert_int_eq(client_push(&granted, &limits, foreign), CLIENT_SKIPPED);
    ck_assert(client_page(&granted, &limits, page_events, 2, 9, true));
    ck_assert_uint_eq(granted.replayed, 1);
    ck_assert_str_eq(ids_sent(&granted), "3");
    event_unref(page_events[0]);
    event_unref(foreign);
    client_reset(&granted);
}
END_TEST

START_TEST(test_a_control_frame_is_queued_whatever_the_limits)
{
    go_live(&client);
    for (uint64_t id = 1; id <= 4; id++)
        push(&client, id);
    client_put_control(&client, event_new_frame(0, SLICE_LIT(":\n")));
    ck_assert_uint_eq(client.out.queue.ring.count, 5);
    ck_assert_uint_eq(client.cursor, 4);
    ck_assert_str_eq(ids_sent(&client), "1 2 3 4");
}
END_TEST

/* With control events off a gap may have nothing to send; it must not stand in the queue as
 * something to write. */
START_TEST(test_a_frame_without_bytes_is_no_output)
{
    struct event *events[] = {event_make(1, NULL, "x"), event_new_frame(0, SLICE_LIT(""))};
    go_live(&client);
    client_put_control(&client, event_new_frame(0, SLICE_LIT("")));
    ck_assert(!outbox_has_output(&client.out));
    client.state = CLIENT_OPENING;
    client_read_begin(&client);
    ck_assert(client_page(&client, &limits, events, 2, 5, true));
    ck_assert_uint_eq(client.out.queue.ring.count, 1);
    ck_assert_str_eq(ids_sent(&client), "1");
    event_unref(events[0]);
    event_unref(events[1]);
}
END_TEST

static const char *sent(struct client *c)
{
    static char text[400];
    struct buf out = {0};
    client_drain(c, &out, 1000);
    snprintf(text, sizeof(text), "%.*s", (int)out.len, out.len ? out.ptr : "");
    buf_reset(&out);
    return text;
}

static void push_ephemeral(struct client *c)
{
    struct event *ev = event_make(0, NULL, "e");
    ck_assert_int_eq(client_push(c, &limits, ev), CLIENT_QUEUED);
    event_unref(ev);
}

/* An EventSource whose first block has no id forgets the one that it came with. */
START_TEST(test_an_id_that_was_not_sent_goes_with_the_next_block)
{
    go_live(&client);
    client_stand_at(&client, 5);
    ck_assert(!outbox_has_output(&client.out));
    client_put_control(&client, event_new_frame(0, SLICE_LIT(":\n"))); /* no block */
    push_ephemeral(&client);
    push_ephemeral(&client);
    ck_assert_str_eq(sent(&client), ":\nid: 5\ndata: e\n\ndata: e\n\n");
    ck_assert_uint_eq(client.out.bytes, 0);
}
END_TEST

START_TEST(test_an_event_brings_its_own_id_where_one_was_not_sent)
{
    go_live(&client);
    client_stand_at(&client, 5);
    push(&client, 7);
    push_ephemeral(&client);
    ck_assert_str_eq(sent(&client), "id: 7\ndata: x\n\ndata: e\n\n");
    ck_assert_int_eq(push(&client, 5), CLIENT_SKIPPED);
}
END_TEST

START_TEST(test_a_client_that_stands_at_an_id_is_given_nothing_before_it)
{
    struct event *late = event_make(4, NULL, "x");
    go_live(&client);
    client_stand_at(&client, 5);
    ck_assert_int_eq(push(&client, 5), CLIENT_SKIPPED);
    ck_assert_int_eq(client_push_late(&client, &limits, late), CLIENT_SKIPPED);
    event_unref(late);
}
END_TEST

/* It is never dropped, and a late one is no exception. */
START_TEST(test_a_late_end_passes_a_full_queue)
{
    static const struct client_limits drops = {
        .max_events = 2, .max_bytes = 400, .slow = SLOW_DROP_NEWEST};
    struct event_fields fields = {.id = 4,
                                  .retry_ms = -1,
                                  .end = END_DONE,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("t"),
                                  .data = SLICE_LIT("over")};
    struct event *late = event_make(3, NULL, "x"), *end = event_new(&fields, 0);
    go_live(&client);
    push_ephemeral(&client);
    push_ephemeral(&client);
    ck_assert_int_eq(client_push_late(&client, &drops, late), CLIENT_SKIPPED);
    ck_assert_int_eq(client_push_late(&client, &drops, end), CLIENT_QUEUED);
    ck_assert_str_eq(sent(&client), "data: e\n\ndata: e\n\nid: 4\ndata: over\n\n");
    event_unref(late);
    event_unref(end);
}
END_TEST

START_TEST(test_a_gap_that_is_not_told_moves_the_cursor_with_the_next_block)
{
    go_live(&client);
    push(&client, 1);
    client_put_control(&client, event_new_frame(6, SLICE_LIT("")));
    ck_assert_int_eq(push(&client, 6), CLIENT_SKIPPED);
    push_ephemeral(&client);
    ck_assert_str_eq(sent(&client), "id: 1\ndata: x\n\nid: 6\ndata: e\n\n");
}
END_TEST

START_TEST(test_a_position_is_told_once_and_may_be_zero)
{
    go_live(&client);
    client_stand_at(&client, 0);
    client_put_position(&client);
    push_ephemeral(&client);
    ck_assert_str_eq(sent(&client), "id: 0\n\ndata: e\n\n");
    client_stand_at(&client, 9);
    client_put_position(&client);
    ck_assert_str_eq(sent(&client), "id: 9\n\n");
    ck_assert_uint_eq(client.out.told, 9);
}
END_TEST

START_TEST(test_partial_sends_go_on_where_they_stopped)
{
    struct buf whole = {0}, pieces = {0};
    size_t events = 0;
    struct iovec iov[8];
    go_live(&client);
    for (uint64_t id = 1; id <= 3; id++) {
        struct event *ev = event_make(id, NULL, "some data");
        buf_put_slice(&whole, event_frame(ev));
        client_push(&client, &limits, ev);
        event_unref(ev);
    }
    client_put_control(&client, event_new_frame(0, SLICE_LIT(":\n")));
    buf_puts(&whole, ":\n");
    while (outbox_has_output(&client.out)) {
        size_t len = 0, step = (size_t)_i;
        int count = outbox_frames(&client.out, iov, 8, 1000);
        struct buf view = {0};
        for (int i = 0; i < count; i++)
            buf_put(&view, iov[i].iov_base, iov[i].iov_len);
        len = view.len < step ? view.len : step;
        buf_put(&pieces, view.ptr, len);
        buf_reset(&view);
        events += outbox_sent(&client.out, len);
    }
    ck_assert_uint_eq(events, 3);
    ck_assert_uint_eq(client.out.head_sent, 0);
    ck_assert(slice_eq(buf_slice(&whole), buf_slice(&pieces)));
    buf_reset(&whole);
    buf_reset(&pieces);
}
END_TEST

START_TEST(test_frames_are_offered_up_to_the_bounds)
{
    struct iovec iov[8];
    go_live(&client);
    for (uint64_t id = 1; id <= 4; id++)
        push(&client, id);
    ck_assert_int_eq(outbox_frames(&client.out, iov, 8, 10000), 4);
    ck_assert_int_eq(outbox_frames(&client.out, iov, 2, 10000), 2);
    ck_assert_int_eq(outbox_frames(&client.out, iov, 8, 1),
                     1); /* a frame is never cut by the bound alone */
    ck_assert_int_eq(outbox_frames(&client.out, iov, 8, iov[0].iov_len + 1), 2);
}
END_TEST

START_TEST(test_close_keeping_sends_all_that_is_queued)
{
    go_live(&client);
    for (uint64_t id = 1; id <= 3; id++)
        push(&client, id);
    ck_assert_uint_eq(client_close(&client, true), 0);
    ck_assert_int_eq(push(&client, 4), CLIENT_SKIPPED);
    ck_assert_str_eq(ids_sent(&client), "1 2 3");
}
END_TEST

START_TEST(test_close_dropping_ends_between_two_events)
{
    struct iovec iov[8];
    struct buf out = {0};
    go_live(&client);
    for (uint64_t id = 1; id <= 3; id++)
        push(&client, id);
    client_put_control(&client, event_new_frame(0, SLICE_LIT(":\n")));
    outbox_frames(&client.out, iov, 8, 1000);
    buf_put(&out, iov[0].iov_base, 5);
    outbox_sent(&client.out, 5);
    ck_assert_uint_eq(client_close(&client, false), 2); /* the heartbeat is no event */
    ck_assert_uint_eq(client.out.queue.ring.count, 1);
    client_drain(&client, &out, 3);
    buf_putc(&out, '\0');
    ck_assert_str_eq(out.ptr, "id: 1\ndata: x\n\n");
    ck_assert_uint_eq(client.out.bytes, 0);
    buf_reset(&out);
}
END_TEST

START_TEST(test_close_dropping_drops_all_that_was_not_begun)
{
    go_live(&client);
    for (uint64_t id = 1; id <= 3; id++)
        push(&client, id);
    ck_assert_uint_eq(client_close(&client, false), 3);
    ck_assert(!outbox_has_output(&client.out));
    ck_assert_uint_eq(client.out.bytes, 0);
}
END_TEST

START_TEST(test_close_while_reading_forgets_what_was_held)
{
    client_read_begin(&client);
    ck_assert_int_eq(push(&client, 1), CLIENT_HELD);
    client_close(&client, true);
    ck_assert_uint_eq(client.held.ring.count, 0);
    ck_assert(!client.reading);
    ck_assert(!outbox_has_output(&client.out));
}
END_TEST

static struct event_clock a_second_later(void *arg)
{
    (void)arg;
    return (struct event_clock){.wall_us = 1000000 + 5000};
}

START_TEST(test_what_is_over_makes_room_and_is_counted)
{
    const struct client_limits timed = {
        .max_events = 4, .max_bytes = 400, .slow = SLOW_DISCONNECT, .now = a_second_later};
    client_page(&client, &timed, NULL, 0, 0, true);
    for (uint64_t id = 1; id <= 4; id++) {
        const struct event_fields fields = {.id = id,
                                            .retry_ms = -1,
                                            .ttl_ms = id == 4 ? 60000 : 1000,
                                            .ns = SLICE_LIT("default"),
                                            .topic = SLICE_LIT("t"),
                                            .data = SLICE_LIT("x")};
        struct event *ev = event_new(&fields, 0);
        ck_assert_int_eq(client_push(&client, &timed, ev), CLIENT_QUEUED);
        event_unref(ev);
    }
    struct event *fifth = event_make(5, NULL, "x");
    ck_assert_int_eq(client_push(&client, &timed, fifth), CLIENT_QUEUED);
    event_unref(fifth);
    ck_assert_uint_eq(client.out.queue.ring.count, 2);
    struct outbox_counts counts = outbox_take_counts(&client.out);
    ck_assert_uint_eq(counts.expired, 3);
    ck_assert_uint_eq(counts.dropped, 0);
    counts = outbox_take_counts(&client.out);
    ck_assert_uint_eq(counts.expired, 0);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("client");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_live_events_are_queued_and_sent_as_they_are);
    tcase_add_test(cases, test_an_id_is_never_queued_twice);
    tcase_add_test(cases, test_push_over_the_event_limit_is_full);
    tcase_add_test(cases, test_push_over_the_byte_limit_is_full);
    tcase_add_test(cases, test_an_event_larger_than_the_limit_passes_an_empty_queue);
    tcase_add_test(cases, test_before_its_read_a_client_takes_only_what_has_no_id);
    tcase_add_test(cases, test_what_is_held_follows_the_page_that_meets_it);
    tcase_add_test(cases, test_a_page_that_is_not_the_last_leaves_what_was_held_to_the_log);
    tcase_add_test(cases, test_what_no_log_has_follows_the_page_that_is_not_the_last);
    tcase_add_test(cases, test_what_no_log_has_and_does_not_fit_is_counted_as_dropped);
    tcase_add_test(cases, test_before_the_first_page_nothing_is_told_as_dropped);
    tcase_add_test(cases, test_overflow_of_the_hold_costs_another_read_and_no_event);
    tcase_add_test(cases, test_the_hold_is_bounded_in_bytes_as_well);
    tcase_add_test(cases, test_a_queue_without_room_for_the_held_reads_on);
    tcase_add_test(cases, test_room_is_what_the_queue_has_left_and_never_nothing);
    tcase_add_test(cases, test_other_types_are_left_out_but_move_the_cursor);
    tcase_add_test(cases, test_a_page_is_filtered_by_type);
    tcase_add_test(cases, test_events_for_certain_claims_reach_those_who_have_them);
    tcase_add_test(cases, test_what_is_held_is_judged_again);
    tcase_add_test(cases, test_what_is_for_others_takes_no_room);
    tcase_add_test(cases, test_a_control_frame_is_queued_whatever_the_limits);
    tcase_add_test(cases, test_a_frame_without_bytes_is_no_output);
    tcase_add_test(cases, test_an_id_that_was_not_sent_goes_with_the_next_block);
    tcase_add_test(cases, test_an_event_brings_its_own_id_where_one_was_not_sent);
    tcase_add_test(cases, test_a_client_that_stands_at_an_id_is_given_nothing_before_it);
    tcase_add_test(cases, test_a_late_end_passes_a_full_queue);
    tcase_add_test(cases, test_a_gap_that_is_not_told_moves_the_cursor_with_the_next_block);
    tcase_add_test(cases, test_a_position_is_told_once_and_may_be_zero);
    tcase_add_loop_test(cases, test_partial_sends_go_on_where_they_stopped, 1, 30);
    tcase_add_test(cases, test_frames_are_offered_up_to_the_bounds);
    tcase_add_test(cases, test_close_keeping_sends_all_that_is_queued);
    tcase_add_test(cases, test_close_dropping_ends_between_two_events);
    tcase_add_test(cases, test_close_dropping_drops_all_that_was_not_begun);
    tcase_add_test(cases, test_close_while_reading_forgets_what_was_held);
    tcase_add_test(cases, test_what_is_over_makes_room_and_is_counted);
    return tests_run(cases);
}
