/* SPDX-License-Identifier: Apache-2.0 */
/* What is over goes to no socket, wherever it was when its ttl passed; its absence is no gap, and
 * what a coalesced value has replaced does not come back. */
#include <check.h>
#include <string.h>
#include "client_rig.h"
#include "test/unit/tests_run.h"

enum { MAX_EVENTS = 8 };

static uint64_t now_us; /* ids are times, too */

static struct event_clock clock_now(void *arg)
{
    (void)arg;
    return (struct event_clock){.wall_us = now_us, .mono_us = now_us};
}

static const struct client_limits limits = {
    .max_events = MAX_EVENTS, .max_bytes = 4000, .slow = SLOW_DISCONNECT, .now = clock_now};

static struct client client;

static void setup(void)
{
    now_us = 1000000;
    client_start(&client, NULL);
}

static void teardown(void)
{
    client_reset(&client);
}

/* --- what it is given ------------------------------------------------------------------------- */

/* "7", "7b", "7c": an event 7 of this lane that is over 10 ms later; "7c-": it never is; "ec":
 * without id. Its data is the text. */
static struct event *event_of(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t id = 0;
    for (size_t i = 0; i < digits; i++)
        id = id * 10 + (uint64_t)(text[i] - '0');
    const char *lane = text + (digits ? digits : 1);
    bool lasts = text[strlen(text) - 1] == '-';
    struct event_fields fields = {.id = id ? 1000000 + id : 0,
                                  .retry_ms = -1,
                                  .ttl_ms = lasts ? 0 : 10,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("t"),
                                  .data = slice_of(text),
                                  .lane = *lane == 'c'   ? LANE_COALESCED
                                          : *lane == 'b' ? LANE_BATCHED
                                                         : LANE_INSTANT};
    return event_new(&fields, 1000000);
}

static enum client_push push(const char *text)
{
    struct event *ev = event_of(text);
    enum client_push pushed = client_push(&client, &limits, ev);
    event_unref(ev);
    return pushed;
}

static enum client_push push_late(const char *text)
{
    struct event *ev = event_of(text);
    enum client_push pushed = client_push_late(&client, &limits, ev);
    event_unref(ev);
    return pushed;
}

/* It comes live, and is over by then. */
static bool pass_over(const char *text)
{
    struct event *ev = event_of(text);
    bool missed = client_pass_over(&client, &limits, ev);
    event_unref(ev);
    return missed;
}

static bool page(const char *texts, uint64_t cursor, bool final)
{
    struct event *events[16] = {NULL};
    char copy[128], *rest = NULL;
    size_t count = 0;
    ck_assert_uint_lt(strlen(texts), sizeof(copy));
    strcpy(copy, texts);
    for (char *at = strtok_r(copy, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
        events[count++] = event_of(at);
    bool live = client_page(&client, &limits, events, count, 1000000 + cursor, final);
    for (size_t i = 0; i < count; i++)
        event_unref(events[i]);
    return live;
}

static void go_live(void)
{
    client_read_begin(&client);
    ck_assert(page("", 0, true));
}

static void all_over(void)
{
    now_us += 11000;
}

/* --- what it sends ---------------------------------------------------------------------------- */

static void before_a_write(void)
{
    client_settle(&client, &limits);
    if (client.out.has_ttl) {
        struct event_clock now = clock_now(NULL);
        outbox_expire(&client.out, &now, 16);
    }
}

static void take_data(const struct buf *out, char *text, size_t cap)
{
    struct slice all = {out->ptr, out->len};
    for (size_t i = 0; i + 6 <= all.len; i++) {
        if (memcmp(all.ptr + i, "data: ", 6) != 0)
            continue;
        size_t len = strlen(text), end = i + 6;
        while (end < all.len && all.ptr[end] != '\n')
            end++;
        ck_assert_uint_lt(len + end - i, cap);
        if (len)
            text[len++] = ' ';
        memcpy(text + len, all.ptr + i + 6, end - i - 6);
        text[len + end - i - 6] = '\0';
    }
}

/* The data of all that is sent from now on, as "1 3b". */
static const char *sent(void)
{
    static char text[256];
    struct buf out = {0};
    text[0] = '\0';
    before_a_write();
    client_drain(&client, &out, 1000);
    take_data(&out, text, sizeof(text));
    buf_reset(&out);
    return text;
}

static const char *flushed(void)
{
    client_commit(&client);
    return sent();
}

static void ck_expired(uint64_t count)
{
    struct outbox_counts counts = outbox_take_counts(&client.out);
    ck_assert_uint_eq(counts.expired, count);
    ck_assert_uint_eq(counts.dropped, 0);
}

static uint32_t pending(void)
{
    return outbox_pending(&client.out)->count;
}

/* --- queued ----------------------------------------------------------------------------------- */

START_TEST(test_what_is_queued_goes_while_it_is_not_over)
{
    go_live();
    ck_assert_int_eq(push("1"), CLIENT_QUEUED);
    now_us = 1000000 + 1 + 10000; /* as old as it may be */
    ck_assert_str_eq(sent(), "1");
    ck_expired(0);
}
END_TEST

START_TEST(test_what_is_over_in_the_queue_does_not_go)
{
    go_live();
    push("1");
    push("2-");
    push("3");
    now_us = 1000000 + 1 + 10000 + 1;
    ck_assert_str_eq(sent(), "2- 3");
    push("4");
    all_over();
    ck_assert_str_eq(sent(), "");
    ck_expired(2);
    ck_assert_uint_eq(client.out.bytes, 0);
}
END_TEST

START_TEST(test_what_the_socket_has_begun_is_finished)
{
    struct buf out = {0};
    struct iovec iov[2];
    char text[32] = "";
    go_live();
    push("1");
    push("2");
    ck_assert_int_eq(outbox_frames(&client.out, iov, 1, 1000), 1);
    buf_put(&out, iov[0].iov_base, 3);
    outbox_sent(&client.out, 3);
    all_over();
    before_a_write();
    client_drain(&client, &out, 1000);
    take_data(&out, text, sizeof(text));
    ck_assert_str_eq(text, "1");
    ck_expired(1);
    buf_reset(&out);
}
END_TEST

START_TEST(test_without_an_id_it_ages_from_its_arrival)
{
    go_live();
    push("e");
    push("e-");
    now_us = 1000000 + 10000;
    ck_assert_str_eq(sent(), "e e-");
    push("e");
    push("e-");
    now_us++;
    ck_assert_str_eq(sent(), "e-");
    ck_expired(1);
}
END_TEST

START_TEST(test_who_keeps_ids_of_its_own_keeps_the_one_that_went_with_it)
{
    struct buf out = {0};
    go_live();
    client_stand_at(&client, 1000000);
    push("1");
    push("e-");
    all_over();
    before_a_write();
    client_drain(&client, &out, 1000);
    buf_put(&out, "", 1);
    ck_assert_ptr_nonnull(strstr(out.ptr, "id: 1000001\n"));
    ck_assert_ptr_nonnull(strstr(out.ptr, "data: e-\n"));
    buf_reset(&out);
}
END_TEST

START_TEST(test_its_place_in_the_ids_stays)
{
    go_live();
    push("1");
    all_over();
    ck_assert_str_eq(sent(), "");
    ck_assert_int_eq(push("1-"), CLIENT_SKIPPED);
    ck_assert_uint_eq(client_position(&client), 1000001);
}
END_TEST

/* --- pending ---------------------------------------------------------------------------------- */

START_TEST(test_what_is_over_while_pending_does_not_go)
{
    go_live();
    ck_assert_int_eq(push("1b"), CLIENT_PENDING);
    push("2b-");
    push("eb");
    all_over();
    ck_assert_str_eq(flushed(), "2b-");
    ck_expired(2);
}
END_TEST

START_TEST(test_what_is_over_while_pending_takes_no_room)
{
    go_live();
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(push((const char *[]){"1b", "2b", "3b-"}[i]), CLIENT_PENDING);
    all_over();
    /* It would have gone now, as a turn's events would not have fitted any more. */
    ck_assert_int_eq(push("4b-"), CLIENT_PENDING);
    ck_assert_uint_eq(pending(), 2);
    ck_expired(2);
    ck_assert_str_eq(flushed(), "3b- 4b-");
}
END_TEST

START_TEST(test_a_full_outbox_lets_go_what_is_over_of_what_is_pending)
{
    go_live();
    push("1-"); /* the socket is not free, so nothing is committed */
    for (int i = 0; i < MAX_EVENTS - 1; i++)
        ck_assert_int_eq(push("eb"), CLIENT_PENDING);
    all_over();
    ck_assert_int_eq(push("2b-"), CLIENT_PENDING);
    ck_expired(MAX_EVENTS - 1);
    ck_assert_str_eq(flushed(), "1- 2b-");
}
END_TEST

START_TEST(test_where_nothing_is_pending_any_more_nothing_is_due)
{
    go_live();
    push("1-");
    for (int i = 0; i < MAX_EVENTS / 2; i++)
        push("eb");
    ck_assert(client.out.is_due);
    all_over();
    struct event_clock now = clock_now(NULL);
    ck_assert_uint_eq(outbox_expire_pending(&client.out, &now), MAX_EVENTS / 2);
    ck_assert(!client.out.waits && !client.out.is_due);
    ck_assert_ptr_null(outbox_pending(&client.out)->items);
    ck_assert_int_eq(push("2b-"), CLIENT_PENDING);
}
END_TEST

/* --- coalesced -------------------------------------------------------------------------------- */

START_TEST(test_a_value_that_is_over_when_it_comes_replaces_what_is_pending)
{
    go_live();
    push("1c-");
    push("2b-");
    all_over();
    ck_assert(pass_over("3c"));
    ck_assert_str_eq(flushed(), "2b-");
    ck_assert_uint_eq(outbox_take_counts(&client.out).merged, 1);
    ck_assert_uint_eq(client.cursor, 1000003);
}
END_TEST

START_TEST(test_it_replaces_the_only_one_that_is_pending)
{
    go_live();
    push("1-");
    push("2c-");
    client.out.is_due = true; /* a flush found the queue not empty */
    all_over();
    ck_assert(pass_over("3c"));
    ck_assert(!client.out.waits && !client.out.is_due);
    ck_assert_str_eq(flushed(), "1-");
}
END_TEST

START_TEST(test_a_value_that_is_over_while_pending_brings_none_back)
{
    go_live();
    push("1c-");
    push("2c");
    all_over();
    ck_assert_str_eq(flushed(), "");
    ck_expired(1);
}
END_TEST

START_TEST(test_a_value_that_comes_late_and_is_over_replaces_older_ones_only)
{
    struct event *late = event_of("2c");
    go_live();
    push("1c-");
    all_over();
    client_pass_over_late(&client, late);
    ck_assert_uint_eq(pending(), 0);
    push("3c-");
    client_pass_over_late(&client, late);
    ck_assert_str_eq(flushed(), "3c-");
    event_unref(late);
}
END_TEST

START_TEST(test_what_came_late_may_be_over_in_its_turn)
{
    go_live();
    push("3b-");
    ck_assert_int_eq(push_late("2b"), CLIENT_PENDING);
    all_over();
    ck_assert_str_eq(flushed(), "3b-");
    ck_expired(1);
}
END_TEST

START_TEST(test_a_full_outbox_lets_go_what_is_over_for_one_that_comes_late)
{
    go_live();
    push("1-");
    for (int i = 0; i < MAX_EVENTS - 2; i++)
        push("eb");
    ck_assert_int_eq(push("3b-"), CLIENT_PENDING);
    all_over();
    ck_assert_int_eq(push_late("2b-"), CLIENT_PENDING);
    ck_assert_str_eq(flushed(), "1- 2b- 3b-");
    ck_expired(MAX_EVENTS - 2);
}
END_TEST

/* --- the log ---------------------------------------------------------------------------------- */

START_TEST(test_a_page_may_wait_until_some_of_it_is_over)
{
    client_read_begin(&client);
    ck_assert(page("1 2- 3", 3, true));
    all_over();
    ck_assert_str_eq(sent(), "2-");
    ck_expired(2);
    ck_assert_uint_eq(client_position(&client), 1000003);
}
END_TEST

START_TEST(test_a_value_of_a_page_that_is_over_replaces_those_before_it)
{
    client_read_begin(&client);
    all_over();
    ck_assert(page("1c- 2- 3c 4-", 4, true));
    ck_assert_uint_eq(client.out.queue.ring.count, 2);
    ck_assert_str_eq(sent(), "2- 4-");
    ck_expired(1);
}
END_TEST

START_TEST(test_a_value_that_goes_on_later_is_sent)
{
    client_read_begin(&client);
    all_over();
    ck_assert(page("1c- 2c 3c-", 3, true));
    ck_assert_str_eq(sent(), "3c-");
}
END_TEST

START_TEST(test_a_held_value_that_is_over_when_it_comes_replaces_what_is_held)
{
    client_read_begin(&client);
    ck_assert_int_eq(push("2c-"), CLIENT_HELD);
    all_over();
    ck_assert(!pass_over("3c"));
    ck_assert_uint_eq(client.held.ring.count, 2);
    ck_assert(page("1-", 1, true));
    ck_assert_str_eq(flushed(), "1-");
    ck_expired(1); /* once, though it was seen twice */
}
END_TEST

START_TEST(test_a_held_value_may_be_over_by_the_time_that_it_follows)
{
    client_read_begin(&client);
    push("2c-");
    push("3c");
    push("4b-");
    all_over();
    ck_assert(page("1-", 1, true));
    ck_assert_uint_eq(pending(), 1);
    ck_assert_str_eq(flushed(), "1- 4b-");
    ck_expired(1);
}
END_TEST

START_TEST(test_what_is_over_while_it_reads_is_left_to_the_log)
{
    client_read_begin(&client);
    all_over();
    ck_assert(!pass_over("2")); /* the page may have brought it in time */
    ck_assert(pass_over("e"));
    ck_assert_uint_eq(client.held.ring.count, 0);
    ck_assert(page("1- 2", 2, true));
    ck_assert_str_eq(sent(), "1-");
    ck_expired(1);
}
END_TEST

START_TEST(test_what_can_not_be_held_is_read)
{
    client_read_begin(&client);
    for (int i = 0; i < MAX_EVENTS; i++)
        ck_assert_int_eq(push("eb-"), CLIENT_HELD);
    all_over();
    ck_assert(!pass_over("3c"));
    ck_assert(client.hold_overflow);
    ck_assert(!page("1-", 1, true));
    client_read_begin(&client);
    ck_assert(page("2c- 3c", 3, true));
    ck_assert_str_eq(sent(), "1-");
}
END_TEST

START_TEST(test_who_is_complete_or_closing_misses_nothing)
{
    go_live();
    push("3-");
    all_over();
    ck_assert(!pass_over("2"));
    client_close(&client, true);
    ck_assert(!pass_over("4"));
}
END_TEST

START_TEST(test_what_is_not_wanted_replaces_nothing_and_is_not_missed)
{
    client_reset(&client);
    client_start(&client, "other");
    go_live();
    all_over();
    ck_assert(!pass_over("1c"));
    ck_assert_uint_eq(client.cursor, 1000001);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("client ttl");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_what_is_queued_goes_while_it_is_not_over);
    tcase_add_test(cases, test_what_is_over_in_the_queue_does_not_go);
    tcase_add_test(cases, test_what_the_socket_has_begun_is_finished);
    tcase_add_test(cases, test_without_an_id_it_ages_from_its_arrival);
    tcase_add_test(cases, test_who_keeps_ids_of_its_own_keeps_the_one_that_went_with_it);
    tcase_add_test(cases, test_its_place_in_the_ids_stays);
    tcase_add_test(cases, test_what_is_over_while_pending_does_not_go);
    tcase_add_test(cases, test_what_is_over_while_pending_takes_no_room);
    tcase_add_test(cases, test_a_full_outbox_lets_go_what_is_over_of_what_is_pending);
    tcase_add_test(cases, test_where_nothing_is_pending_any_more_nothing_is_due);
    tcase_add_test(cases, test_a_value_that_is_over_when_it_comes_replaces_what_is_pending);
    tcase_add_test(cases, test_it_replaces_the_only_one_that_is_pending);
    tcase_add_test(cases, test_a_value_that_is_over_while_pending_brings_none_back);
    tcase_add_test(cases, test_a_value_that_comes_late_and_is_over_replaces_older_ones_only);
    tcase_add_test(cases, test_what_came_late_may_be_over_in_its_turn);
    tcase_add_test(cases, test_a_full_outbox_lets_go_what_is_over_for_one_that_comes_late);
    tcase_add_test(cases, test_a_page_may_wait_until_some_of_it_is_over);
    tcase_add_test(cases, test_a_value_of_a_page_that_is_over_replaces_those_before_it);
    tcase_add_test(cases, test_a_value_that_goes_on_later_is_sent);
    tcase_add_test(cases, test_a_held_value_that_is_over_when_it_comes_replaces_what_is_held);
    tcase_add_test(cases, test_a_held_value_may_be_over_by_the_time_that_it_follows);
    tcase_add_test(cases, test_what_is_over_while_it_reads_is_left_to_the_log);
    tcase_add_test(cases, test_what_can_not_be_held_is_read);
    tcase_add_test(cases, test_who_is_complete_or_closing_misses_nothing);
    tcase_add_test(cases, test_what_is_not_wanted_replaces_nothing_and_is_not_missed);
    return tests_run(cases);
}
