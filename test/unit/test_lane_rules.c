/* SPDX-License-Identifier: Apache-2.0 */
/* `lanes`: how its rules are written, which of them counts, and what event gets a lane by them. */
#include <check.h>
#include <stdio.h>

#include "relay/bus/store.h"
#include "relay/core/lane_rules.h"
#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

/* "none": no rule is for the topic. */
static const char *lane_of(const struct config *c, const char *topic)
{
    enum lane_kind lane;
    return lane_rules_find(c, slice_of(topic), &lane) ? lane_name(lane) : "none";
}

START_TEST(test_the_first_rule_that_matches_counts)
{
    struct config *c = load_ok("--lanes a.b=instant,a.*=batched --lanes a.>=coalesced", "");
    ck_assert_str_eq(lane_of(c, "a.b"), "instant");
    ck_assert_str_eq(lane_of(c, "a.c"), "batched");
    ck_assert_str_eq(lane_of(c, "a.b.c"), "coalesced");
    ck_assert_str_eq(lane_of(c, "a"), "none");
    ck_assert_str_eq(lane_of(c, "b"), "none");
    config_unref(c);
    c = load_ok("", "SSE_RELAY_LANES=a.>=coalesced,a.b=instant");
    ck_assert_str_eq(lane_of(c, "a.b"), "coalesced");
    config_unref(c);
    c = load_ok("", "");
    ck_assert_str_eq(lane_of(c, "a.b"), "none");
    config_unref(c);
}
END_TEST

START_TEST(test_a_topic_may_hold_what_ends_it)
{
    struct config *c = load_ok("--lanes x=y=appended", "");
    ck_assert_str_eq(lane_of(c, "x=y"), "appended");
    ck_assert_str_eq(lane_of(c, "x"), "none");
    config_unref(c);
}
END_TEST

START_TEST(test_a_file_has_rules_as_objects_or_texts)
{
    struct config *c = load_file("{\"lanes\": [{\"topic\": \"prices.>\", \"priority\": "
                                 "\"coalesced\"}, \"log.*=batched\"]}");
    ck_assert_str_eq(lane_of(c, "prices.eu"), "coalesced");
    ck_assert_str_eq(lane_of(c, "log.a"), "batched");
    config_unref(c);
    c = load_file("{\"lanes\": \"a=batched,b=appended\"}");
    ck_assert_str_eq(lane_of(c, "b"), "appended");
    config_unref(c);
}
END_TEST

START_TEST(test_a_file_with_rules_that_are_none_is_refused)
{
    static const char *const wrong[] = {
        "[5]",
        "{\"a\": 1}",
        "[{\"topic\": \"a\"}]",
        "[{\"topic\": \"a\", \"priority\": 1}]",
        "[{\"topic\": \"a\", \"priority\": \"batched\", \"key\": \"x\"}]",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"lanes\": %s}", wrong[i]);
        expect_file_error(text, i < 2 ? "lanes (from /tmp/|objects with topic and priority"
                                      : "lanes in /tmp/|expected objects with topic and priority");
    }
    expect_file_error("{\"lanes\": [{\"topic\": \"a\", \"priority\": \"low\"}]}",
                      "lanes=a=low (from /tmp/|instant, batched, coalesced, appended");
    expect_file_error("{\"compress\": [{\"topic\": \"a\", \"priority\": \"batched\"}]}",
                      "compress (from /tmp/|expected an array of strings");
}
END_TEST

START_TEST(test_rules_change_with_a_reload)
{
    struct config *running = load_ok("--lanes a=batched", ""), *merged = NULL;
    struct config *fresh = load_ok("--lanes a=coalesced,b=appended", "");
    struct buf restart = {0}, why = {0};
    ck_assert_int_eq(config_merge_reload(running, fresh, &merged, &restart, &why), OK);
    ck_assert_uint_eq(restart.len, 0);
    ck_assert_str_eq(lane_of(running, "a"), "batched");
    config_unref(running);
    config_unref(fresh);
    ck_assert_str_eq(lane_of(merged, "a"), "coalesced");
    ck_assert_str_eq(lane_of(merged, "b"), "appended");
    config_unref(merged);
}
END_TEST

/* --- events ----------------------------------------------------------------------------------- */

static const struct {
    const char *topic;
    enum lane_kind said;
    bool has_said;
    enum topic_end end;
    int64_t retry_ms;
    uint64_t ttl_ms, twin;
    enum lane_kind lane;
} events[] = {
    {"c", LANE_INSTANT, false, END_NONE, -1, 0, 0, LANE_COALESCED},
    {"c", LANE_INSTANT, true, END_NONE, -1, 0, 0, LANE_INSTANT},
    {"c", LANE_BATCHED, true, END_NONE, -1, 0, 0, LANE_BATCHED},
    {"c", LANE_INSTANT, false, END_NONE, 5, 5, 0, LANE_COALESCED},
    {"c", LANE_INSTANT, false, END_NONE, -1, 0, 7, LANE_INSTANT}, /* on several topics */
    {"c", LANE_COALESCED, true, END_NONE, -1, 0, 7, LANE_BATCHED},
    {"a", LANE_INSTANT, false, END_NONE, -1, 0, 0, LANE_APPENDED},
    {"a", LANE_INSTANT, false, END_NONE, 0, 0, 0, LANE_BATCHED},
    {"a", LANE_INSTANT, false, END_NONE, -1, 1, 0, LANE_BATCHED},
    {"other", LANE_INSTANT, false, END_NONE, -1, 0, 0, LANE_INSTANT},
    {"other", LANE_APPENDED, true, END_NONE, -1, 0, 0, LANE_APPENDED},
    /* what a log or an envelope may hold all the same */
    {"other", LANE_APPENDED, true, END_NONE, -1, 5, 0, LANE_BATCHED},
    {"other", LANE_COALESCED, true, END_DONE, -1, 0, 0, LANE_BATCHED},
    {"c", LANE_INSTANT, false, END_DONE, -1, 0, 0, LANE_BATCHED},
    {"a", LANE_INSTANT, false, END_DONE, -1, 0, 0, LANE_BATCHED},
    {"a", LANE_INSTANT, true, END_DONE, -1, 0, 0, LANE_INSTANT},
};

START_TEST(test_what_lane_an_event_has)
{
    struct config *c = load_ok("--lanes c=coalesced,a=appended --events.type_from_topic on", "");
    struct event_fields fields = {.id = 9,
                                  .retry_ms = events[_i].retry_ms,
                                  .ttl_ms = events[_i].ttl_ms,
                                  .twin = events[_i].twin,
                                  .end = events[_i].end,
                                  .ns = SLICE_LIT("default"),
                                  .topic = slice_of(events[_i].topic),
                                  .data = SLICE_LIT("x"),
                                  .lane = events[_i].said,
                                  .has_lane = events[_i].has_said};
    struct event *ev = store_event(c, &fields, 0);
    ck_assert_str_eq(lane_name(event_lane(ev)), lane_name(events[_i].lane));
    ck_assert(slice_is(event_type(ev), events[_i].topic));
    event_unref(ev);
    config_unref(c);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("lane_rules");
    tcase_add_test(cases, test_the_first_rule_that_matches_counts);
    tcase_add_test(cases, test_a_topic_may_hold_what_ends_it);
    tcase_add_test(cases, test_a_file_has_rules_as_objects_or_texts);
    tcase_add_test(cases, test_a_file_with_rules_that_are_none_is_refused);
    tcase_add_test(cases, test_rules_change_with_a_reload);
    tcase_add_loop_test(cases, test_what_lane_an_event_has, 0, sizeof(events) / sizeof(events[0]));
    return tests_run(cases);
}
