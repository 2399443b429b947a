/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream asks for of flow control: by its query, before its headers, before its path. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "relay/http/request.h"
#include "test/unit/client_rig.h"
#include "test/unit/tests_run.h"

static char *words[] = {(char *)(uintptr_t)"block", (char *)(uintptr_t)"drop-newest"};
static const struct config config = {.max_topics = 3,
                                     .heartbeat_ms = 15000,
                                     .snapshot_max = 3,
                                     .replay_max_events = 50,
                                     .queue_max_events = 256,
                                     .flush_min_ms = 100,
                                     .flush_max_ms = 5000,
                                     .slow_allowed = {words, 2}};

static struct request_pair pairs[8];
static struct request_view view;
static struct subscription_request r;
static struct problem problem;

static void setup(void)
{
    pairs[0] = (struct request_pair){SLICE_LIT("topic"), SLICE_LIT("a")};
    view = (struct request_view){.query = pairs, .query_count = 1};
    problem = (struct problem){0};
    r = (struct subscription_request){0};
}

static void teardown(void)
{
    buf_reset(&problem.detail);
    subscription_request_reset(&r);
}

static void ask(const char *name, const char *value)
{
    pairs[view.query_count++] = (struct request_pair){slice_of(name), slice_of(value)};
}

static void take(void)
{
    subscription_request_reset(&r);
    enum err e = request_parse_stream(&view, &config, 0, &r, &problem);
    ck_assert_msg(e == OK, "%.*s", (int)problem.detail.len, problem.detail.ptr);
}

static void expect_refused(const char *detail)
{
    ck_assert_int_eq(request_parse_stream(&view, &config, 0, &r, &problem), ERR_INVALID);
    ck_assert_uint_eq(problem.status, 400);
    ck_assert_msg(slice_is(buf_slice(&problem.detail), detail), "%.*s is not %s",
                  (int)problem.detail.len, problem.detail.ptr, detail);
}

static void expect_nothing_asked(void)
{
    ck_assert(!r.flow.has_slow && !r.flow.no_controls);
    ck_assert_uint_eq(r.flow.buffer, 0);
    ck_assert_uint_eq(r.flow.flush_ms, 0);
}

START_TEST(test_who_asks_for_nothing_has_what_is_configured)
{
    take();
    expect_nothing_asked();
}
END_TEST

START_TEST(test_the_query_asks)
{
    ask("slow", "drop-newest");
    ask("buffer", "256");
    ask("flush", "100ms");
    ask("control", "off");
    take();
    ck_assert(r.flow.has_slow && r.flow.no_controls);
    ck_assert_int_eq(r.flow.slow, SLOW_DROP_NEWEST);
    ck_assert_uint_eq(r.flow.buffer, 256);
    ck_assert_uint_eq(r.flow.flush_ms, 100);
}
END_TEST

START_TEST(test_headers_ask_and_the_query_wins)
{
    view.slow = SLICE_LIT("drop-newest");
    view.buffer = SLICE_LIT("7");
    take();
    ck_assert(r.flow.has_slow);
    ck_assert_int_eq(r.flow.slow, SLOW_DROP_NEWEST);
    ck_assert_uint_eq(r.flow.buffer, 7);
    ask("slow", "block");
    ask("buffer", "9");
    take();
    ck_assert(r.flow.has_slow);
    ck_assert_int_eq(r.flow.slow, SLOW_BLOCK);
    ck_assert_uint_eq(r.flow.buffer, 9);
}
END_TEST

/* What whoever runs the relay has written for a path: clients need not be allowed to ask for it. */
static struct flow_request path_flow(void)
{
    static const char *const said[][2] = {
        {"slow", "disconnect"}, {"buffer", "1000"}, {"flush", "20ms"}, {"control", "off"}};
    struct flow_request flow = {0};
    struct buf why = {0};
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
        ck_assert_int_eq(flow_request_set(&flow, said[i][0], slice_of(said[i][1]), NULL, &why), OK);
    ck_assert_uint_eq(why.len, 0);
    return flow;
}

START_TEST(test_a_path_has_its_own)
{
    struct flow_request flow = path_flow();
    take();
    flow_request_merge(&r.flow, &flow);
    ck_assert(r.flow.has_slow && r.flow.no_controls);
    ck_assert_int_eq(r.flow.slow, SLOW_DISCONNECT);
    ck_assert_uint_eq(r.flow.buffer, 1000);
    ck_assert_uint_eq(r.flow.flush_ms, 20);
}
END_TEST

START_TEST(test_the_client_wins_over_its_path)
{
    struct flow_request flow = path_flow();
    view.slow = SLICE_LIT("block"); /* the first of all policies, which is 0 */
    view.buffer = SLICE_LIT("1");
    ask("flush", "5s");
    ask("control", "on");
    take();
    flow_request_merge(&r.flow, &flow);
    ck_assert(r.flow.has_slow && !r.flow.no_controls);
    ck_assert_int_eq(r.flow.slow, SLOW_BLOCK);
    ck_assert_uint_eq(r.flow.buffer, 1);
    ck_assert_uint_eq(r.flow.flush_ms, 5000);
}
END_TEST

START_TEST(test_a_path_is_held_to_the_ranges_of_the_options)
{
    static const char *const refused[][3] = {
        {"slow", "drop", "expected block or drop-oldest or drop-newest or disconnect"},
        {"buffer", "65537", "expected a number of events from 1 to 65536"},
        {"flush", "61s", "expected a duration such as 500ms, from 20ms to 60000ms"},
        {"control", "", "expected on or off"},
    };
    struct flow_request flow = {0};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct buf why = {0};
        ck_assert_int_eq(
            flow_request_set(&flow, refused[i][0], slice_of(refused[i][1]), NULL, &why),
            ERR_INVALID);
        ck_assert_msg(slice_is(buf_slice(&why), refused[i][2]), "%.*s", (int)why.len, why.ptr);
        buf_reset(&why);
    }
}
END_TEST

static const struct {
    const char *name, *value, *detail;
} wrong[] = {
    {"slow", "drop-oldest", "slow: expected block or drop-newest, not \"drop-oldest\""},
    {"slow", "nonsense", "slow: expected block or drop-newest, not \"nonsense\""},
    {"slow", "Block", "slow: expected block or drop-newest, not \"Block\""},
    {"slow", "", "slow: expected block or drop-newest, not \"\""},
    {"slow", NULL, "slow: expected block or drop-newest, not \"\""},
    {"buffer", "0", "buffer: expected a number of events from 1 to 256, not \"0\""},
    {"buffer", "257", "buffer: expected a number of events from 1 to 256, not \"257\""},
    {"buffer", "-1", "buffer: expected a number of events from 1 to 256, not \"-1\""},
    {"buffer", "01", "buffer: expected a number of events from 1 to 256, not \"01\""},
    {"buffer", "", "buffer: expected a number of events from 1 to 256, not \"\""},
    {"flush", "99ms",
     "flush: expected a duration such as 500ms, from 100ms to 5000ms, not \"99ms\""},
    {"flush", "6s", "flush: expected a duration such as 500ms, from 100ms to 5000ms, not \"6s\""},
    {"flush", "0", "flush: expected a duration such as 500ms, from 100ms to 5000ms, not \"0\""},
    {"flush", "100", "flush: expected a duration such as 500ms, from 100ms to 5000ms, not \"100\""},
    {"control", "id", "control: expected on or off, not \"id\""},
    {"control", "0", "control: expected on or off, not \"0\""},
    {"control", "", "control: expected on or off, not \"\""},
    {"finite", "yes", "finite: expected 1 or true, 0 or false, not \"yes\""},
    {"finite", "", "finite: expected 1 or true, 0 or false, not \"\""},
    {"snapshot", "2", "snapshot: expected 1 or true, 0 or false, not \"2\""},
    {"snapshot", "TRUE", "snapshot: expected 1 or true, 0 or false, not \"TRUE\""},
    {"format", "JSON", "format: expected json or plain, not \"JSON\""},
    {"format", "", "format: expected json or plain, not \"\""},
    {"type_from_topic", "on", "type_from_topic: expected 1 or true, 0 or false, not \"on\""},
    {"type_from_topic", NULL, "type_from_topic: expected 1 or true, 0 or false, not \"\""},
    {"replay", "Whole", "replay: expected all or a number from 0 to 50, or whole, not \"Whole\""},
    {"replay", "51", "replay: expected all or a number from 0 to 50, or whole, not \"51\""},
    {"replay", "", "replay: expected all or a number from 0 to 50, or whole, not \"\""},
};

START_TEST(test_what_may_not_be_asked_for)
{
    ask(wrong[_i].name, wrong[_i].value);
    expect_refused(wrong[_i].detail);
}
END_TEST

START_TEST(test_headers_are_checked_also_where_the_query_wins)
{
    ask("slow", "block");
    ask("buffer", "1");
    view.slow = SLICE_LIT("x");
    expect_refused("slow: expected block or drop-newest, not \"x\"");
    view.slow = SLICE_LIT("block");
    view.buffer = SLICE_LIT("");
    expect_refused("buffer: expected a number of events from 1 to 256, not \"\"");
}
END_TEST

START_TEST(test_each_stands_once)
{
    static const char *const twice[][2] = {
        {"slow", "block"},   {"buffer", "1"},     {"flush", "1s"},
        {"control", "off"},  {"finite", "1"},     {"snapshot", "0"},
        {"replay", "whole"}, {"format", "plain"}, {"type_from_topic", "0"}};
    char detail[64];
    ask(twice[_i][0], twice[_i][1]);
    ask(twice[_i][0], twice[_i][1]);
    snprintf(detail, sizeof(detail), "%s: stands twice in the query, expected once", twice[_i][0]);
    expect_refused(detail);
}
END_TEST

START_TEST(test_a_relay_may_leave_no_choice)
{
    struct config strict = config;
    strict.slow_allowed.count = 0;
    ask("slow", "block");
    ck_assert_int_eq(request_parse_stream(&view, &strict, 0, &r, &problem), ERR_INVALID);
    ck_assert(slice_is(buf_slice(&problem.detail),
                       "slow: expected none, as slow.allowed is empty, not \"block\""));
}
END_TEST

/* --- how events are shown --------------------------------------------------------------------- */

static const struct {
    const char *format, *naming; /* of the query … */
    struct format_request path;  /* … of the path … */
    bool configured;             /* … and events.type_from_topic */
    unsigned want;
} formats[] = {
    {NULL, NULL, {0}, false, EVENT_PLAIN},
    {NULL, NULL, {0}, true, EVENT_PLAIN},
    {"json", NULL, {0}, false, EVENT_AS_JSON},
    {"plain", "0", {0}, false, EVENT_PLAIN},
    {NULL, "1", {0}, false, EVENT_SWAPS_TYPE},
    {NULL, "true", {0}, true, EVENT_PLAIN},
    {"json", "false", {0}, true, EVENT_AS_JSON | EVENT_SWAPS_TYPE},
    {NULL, NULL, {true, true, true, true}, false, EVENT_AS_JSON | EVENT_SWAPS_TYPE},
    {NULL, NULL, {true, true, true, true}, true, EVENT_AS_JSON},
    {"plain", "0", {true, true, true, true}, false, EVENT_PLAIN},
    {"json", NULL, {true, false, true, false}, true, EVENT_AS_JSON | EVENT_SWAPS_TYPE},
    {NULL, "0", {true, true, false, false}, true, EVENT_AS_JSON | EVENT_SWAPS_TYPE},
};

START_TEST(test_the_client_wins_over_its_path_and_that_over_the_option)
{
    if (formats[_i].format)
        ask("format", formats[_i].format);
    if (formats[_i].naming)
        ask("type_from_topic", formats[_i].naming);
    take();
    format_request_merge(&r.format, &formats[_i].path);
    ck_assert_uint_eq(format_request_settle(&r.format, formats[_i].configured), formats[_i].want);
}
END_TEST

/* --- and what becomes of it ------------------------------------------------------------------- */

START_TEST(test_a_renewed_subscription_has_asked_for_the_same)
{
    ask("slow", "drop-newest");
    ask("buffer", "3");
    ask("flush", "1s");
    ask("control", "off");
    take();
    struct subscription *sub = subscription_new(&r), *again = subscription_renewed(sub, NULL);
    subscription_unref(sub);
    const struct subscription_request *asked = subscription_request(again);
    ck_assert(asked->flow.has_slow && asked->flow.slow == SLOW_DROP_NEWEST &&
              asked->flow.no_controls);
    ck_assert_uint_eq(asked->flow.buffer, 3);
    ck_assert_uint_eq(asked->flow.flush_ms, 1000);
    subscription_unref(again);
}
END_TEST

START_TEST(test_who_asks_for_less_room_is_full_earlier)
{
    static const struct client_limits limits = {.max_events = 256, .max_bytes = 1 << 20};
    struct outbox_form form = {0};
    struct client client;
    ask("buffer", "4");
    pairs[0].value = SLICE_LIT("t");
    take();
    struct subscription *sub = subscription_new(&r);
    client_init(&client, sub, &form);
    subscription_unref(sub);
    ck_assert(client_page(&client, &limits, NULL, 0, 0, true));
    ck_assert(client_fullness(&client, &limits) == 0.);
    for (uint64_t id = 1; id <= 3; id++) {
        struct event *ev = event_make(id, NULL, "x");
        ck_assert_int_eq(client_push(&client, &limits, ev), CLIENT_QUEUED);
        event_unref(ev);
        ck_assert(client_fullness(&client, &limits) == (double)id / 4.);
    }
    /* The node's bound holds where it is the lower one, and so does that of bytes. */
    struct client_limits lower = {.max_events = 3, .max_bytes = 1 << 20};
    ck_assert(client_fullness(&client, &lower) == 1.);
    lower = (struct client_limits){.max_events = 256, .max_bytes = client.out.bytes};
    ck_assert(client_fullness(&client, &lower) == 1.);
    client_reset(&client);
}
END_TEST

START_TEST(test_control_is_what_the_stream_asks_for_or_as_configured)
{
    for (unsigned control = CONTROL_ON; control <= CONTROL_OFF; control++) {
        struct subscription_request on = {.ns = strdup("n"), .flow = {.has_control = true}};
        struct subscription_request off = {.ns = strdup("n"), .flow = {.no_controls = true}};
        struct subscription_request none = {.ns = strdup("n")};
        struct subscription *told = subscription_new(&on), *untold = subscription_new(&off);
        struct subscription *silent = subscription_new(&none);
        ck_assert_int_eq(subscription_control(told, (enum config_control)control), CONTROL_ON);
        ck_assert_int_eq(subscription_control(untold, (enum config_control)control), CONTROL_OFF);
        ck_assert_uint_eq(subscription_control(silent, (enum config_control)control), control);
        subscription_unref(told);
        subscription_unref(untold);
        subscription_unref(silent);
    }
}
END_TEST

/* 0 and 1 of finite and snapshot, and what goes with what. */
static const struct {
    const char *finite, *snapshot;
    bool is_finite, is_snapshot;
} flags[] = {
    {NULL, NULL, false, false}, {"1", "1", true, true},  {"true", "true", true, true},
    {"0", "1", false, true},    {"1", "0", true, false}, {"false", "false", false, false},
};

START_TEST(test_flags)
{
    if (flags[_i].finite)
        ask("finite", flags[_i].finite);
    if (flags[_i].snapshot)
        ask("snapshot", flags[_i].snapshot);
    take();
    ck_assert_int_eq(r.finite, flags[_i].is_finite);
    ck_assert_int_eq(r.cursor == CURSOR_SNAPSHOT, flags[_i].is_snapshot);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("request_flow");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_who_asks_for_nothing_has_what_is_configured);
    tcase_add_test(cases, test_the_query_asks);
    tcase_add_test(cases, test_headers_ask_and_the_query_wins);
    tcase_add_test(cases, test_a_path_has_its_own);
    tcase_add_test(cases, test_the_client_wins_over_its_path);
    tcase_add_test(cases, test_a_path_is_held_to_the_ranges_of_the_options);
    tcase_add_loop_test(cases, test_what_may_not_be_asked_for, 0, sizeof(wrong) / sizeof(wrong[0]));
    tcase_add_test(cases, test_headers_are_checked_also_where_the_query_wins);
    tcase_add_loop_test(cases, test_each_stands_once, 0, 9);
    tcase_add_test(cases, test_a_relay_may_leave_no_choice);
    tcase_add_loop_test(cases, test_the_client_wins_over_its_path_and_that_over_the_option, 0,
                        sizeof(formats) / sizeof(formats[0]));
    tcase_add_test(cases, test_a_renewed_subscription_has_asked_for_the_same);
    tcase_add_test(cases, test_who_asks_for_less_room_is_full_earlier);
    tcase_add_test(cases, test_control_is_what_the_stream_asks_for_or_as_configured);
    tcase_add_loop_test(cases, test_flags, 0, sizeof(flags) / sizeof(flags[0]));
    return tests_run(cases);
}
