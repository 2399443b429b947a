/* SPDX-License-Identifier: Apache-2.0 */
/* What every store has in common: the list of topics of a look, and how events are made. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "relay/bus/store.h"
#include "rng.h"
#include "test/unit/tests_run.h"

static char *names[32];
static struct strings wanted = {names, 0};
static struct store_look look;

static void ask(const char *const *list, bool moved_only)
{
    wanted.count = 0;
    while (list[wanted.count]) {
        names[wanted.count] = (char *)(uintptr_t)list[wanted.count];
        wanted.count++;
    }
    look = (struct store_look){.ns = "default", .names = &wanted, .moved_only = moved_only};
}

static void found(const char *topic, uint64_t last)
{
    store_look_add(&look, slice_of(topic), last, END_NONE);
}

/* "a=1! b=2": name, last id, ! where it was asked for by name. */
static const char *settled(void)
{
    static char text[1024];
    size_t len = 0;
    text[0] = '\0';
    store_look_settle(&look);
    for (size_t i = 0; i < look.count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%llu%s", i ? " " : "",
                                look.topics[i].name, (unsigned long long)look.topics[i].last,
                                look.topics[i].exact ? "!" : "");
    store_look_reset(&look);
    return text;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(test_names_that_were_not_found_are_added)
{
    ask(LIST("b", "a"), false);
    ck_assert_str_eq(settled(), "a=0! b=0!");
    ask(LIST("b", "a"), false);
    found("b", 7);
    ck_assert_str_eq(settled(), "a=0! b=7!");
}
END_TEST

START_TEST(test_patterns_alone_ask_for_no_topic)
{
    ask(LIST("a.*", ">"), false);
    ck_assert_str_eq(settled(), "");
}
END_TEST

START_TEST(test_what_no_name_wants_is_dropped)
{
    ask(LIST("a.*", "c"), false);
    found("a.x", 1);
    found("a.x.y", 2);
    found("ab", 3);
    found("c", 4);
    found("c.d", 5);
    ck_assert_str_eq(settled(), "a.x=1 c=4!");
}
END_TEST

START_TEST(test_a_topic_stands_once_with_its_id)
{
    ask(LIST("a", ">", "*"), false);
    found("a", 3); /* as a name, and again as a match */
    found("a", 3);
    found("b", 5);
    found("b", 5);
    ck_assert_str_eq(settled(), "a=3! b=5");
}
END_TEST

START_TEST(test_moved_only_adds_nothing)
{
    ask(LIST("a", "b", "x.*"), true);
    found("b", 9);
    found("c", 10);
    found("x.1", 11);
    ck_assert_str_eq(settled(), "b=9! x.1=11");
}
END_TEST

START_TEST(test_no_names_want_nothing)
{
    wanted.count = 0;
    look = (struct store_look){.ns = "default", .names = &wanted};
    found("a", 1);
    ck_assert_str_eq(settled(), "");
}
END_TEST

START_TEST(test_a_thousand_topics_come_out_sorted)
{
    struct rng rng = rng_seeded("look");
    char topic[16];
    ask(LIST("t.*"), true);
    for (int i = 0; i < 1000; i++) {
        snprintf(topic, sizeof(topic), "t.%03zu", rng_below(&rng, 500));
        found(topic, 1);
    }
    store_look_settle(&look);
    ck_assert_uint_le(look.count, 500);
    for (size_t i = 1; i < look.count; i++)
        ck_assert_int_lt(strcmp(look.topics[i - 1].name, look.topics[i].name), 0);
    store_look_reset(&look);
    ck_assert_ptr_null(look.topics);
    store_look_reset(&look);
}
END_TEST

/* Few are tried one by one, many are looked up. */
START_TEST(test_many_patterns_match_as_few_do)
{
    static const char *const many[] = {
        "p1.*", "p2.*",  "p3.*",  "p4.*",  "p5.*",  "p6.*",  "p7.*",  "p8.*",  "p9.*", "p10.*",
        "x",    "p11.*", "p12.*", "p13.*", "p14.*", "p15.*", "p16.*", "p16.*", "q.>",  NULL};
    ask(many, true);
    found("x", 1);
    found("y", 2);
    found("p16.a", 3);
    found("p16.a.b", 4);
    found("p17.a", 5);
    found("q.a.b", 6);
    ck_assert_str_eq(settled(), "p16.a=3 q.a.b=6 x=1!");
}
END_TEST

START_TEST(test_an_event_without_type_may_take_its_topics_name)
{
    struct config config = {.events_type_from_topic = _i & 1};
    struct event_fields fields = {.retry_ms = -1,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("a.b"),
                                  .type = _i & 2 ? SLICE_LIT("tick") : SLICE_NONE,
                                  .data = SLICE_LIT("x")};
    struct event *ev = store_event(&config, &fields, 77);
    const char *type = _i & 2 ? "tick" : _i & 1 ? "a.b" : NULL;
    ck_assert(slice_eq(event_type(ev), slice_of(type)));
    ck_assert_uint_eq(event_arrival_us(ev), 77);
    ck_assert_int_eq(event_is_untyped(ev), !(_i & 2));
    event_unref(ev);
}
END_TEST

START_TEST(test_a_topic_that_is_a_reserved_type_stands_for_none)
{
    static char prefix[] = "x-";
    static const char *const topics[] = {"relay.a", "x-a"};
    struct config config = {.events_type_from_topic = _i & 1, .control_prefix = prefix};
    struct event_fields fields = {
        .retry_ms = -1, .topic = slice_of(topics[_i / 2]), .data = SLICE_LIT("x")};
    struct event *ev = store_event(&config, &fields, 0);
    ck_assert(!event_is_untyped(ev) && !event_type(ev).ptr);
    event_unref(ev);
}
END_TEST

START_TEST(test_types_that_are_counted_have_a_slot)
{
    static char *types[] = {(char *)(uintptr_t)"tick", (char *)(uintptr_t)"a.b"};
    static const struct {
        const char *type;
        bool from_topic;
        unsigned slot;
    } events[] = {{"tick", false, 1},
                  {"a.b", false, 2},
                  {"tack", false, 0},
                  {NULL, false, 0},
                  {NULL, true, 2}};
    struct config config = {.events_type_from_topic = events[_i].from_topic,
                            .metrics_types = {types, 2}};
    struct event_fields fields = {.retry_ms = -1,
                                  .topic = SLICE_LIT("a.b"),
                                  .type = slice_of(events[_i].type),
                                  .data = SLICE_LIT("x")};
    struct event *ev = store_event(&config, &fields, 0), *copy = event_new_with_id(ev, 7);
    ck_assert_uint_eq(event_type_slot(ev), events[_i].slot);
    ck_assert_uint_eq(event_type_slot(copy), events[_i].slot);
    event_unref(copy);
    event_unref(ev);
}
END_TEST

/* The lane of an event of topic `p.a` by rules that make it coalesced. */
static enum lane_kind lane_of(const struct event_fields *fields)
{
    static char rule[] = "p.>=coalesced", prefix[] = "relay.";
    static char *rules[] = {rule};
    struct config_lane lane_rule = {SLICE_LIT("p.>"), LANE_COALESCED};
    const struct config config = {
        .lanes = {rules, 1}, .lane_rules = &lane_rule, .control_prefix = prefix};
    struct event_fields named = *fields;
    named.retry_ms = -1;
    named.ns = SLICE_LIT("default");
    named.topic = SLICE_LIT("p.a");
    named.data = SLICE_LIT("x");
    struct event *ev = store_event(&config, &named, 0);
    enum lane_kind lane = event_lane(ev);
    event_unref(ev);
    return lane;
}

START_TEST(test_a_rule_is_for_what_has_no_priority_and_may_be_merged)
{
    ck_assert_int_eq(lane_of(&(struct event_fields){.id = 1}), LANE_COALESCED);
    ck_assert_int_eq(lane_of(&(struct event_fields){.id = 1, .has_lane = true}), LANE_INSTANT);
    ck_assert_int_eq(lane_of(&(struct event_fields){.id = 1, .end = END_DONE}), LANE_BATCHED);
    /* A copy of one that is on several topics; the other says so itself, whoever sent it. */
    ck_assert_int_eq(lane_of(&(struct event_fields){.twin = 7}), LANE_INSTANT);
    ck_assert_int_eq(
        lane_of(&(struct event_fields){.twin = 7, .has_lane = true, .lane = LANE_COALESCED}),
        LANE_BATCHED);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("store");
    tcase_add_test(cases, test_names_that_were_not_found_are_added);
    tcase_add_test(cases, test_patterns_alone_ask_for_no_topic);
    tcase_add_test(cases, test_what_no_name_wants_is_dropped);
    tcase_add_test(cases, test_a_topic_stands_once_with_its_id);
    tcase_add_test(cases, test_moved_only_adds_nothing);
    tcase_add_test(cases, test_no_names_want_nothing);
    tcase_add_test(cases, test_a_thousand_topics_come_out_sorted);
    tcase_add_test(cases, test_many_patterns_match_as_few_do);
    tcase_add_loop_test(cases, test_an_event_without_type_may_take_its_topics_name, 0, 4);
    tcase_add_loop_test(cases, test_a_topic_that_is_a_reserved_type_stands_for_none, 0, 4);
    tcase_add_loop_test(cases, test_types_that_are_counted_have_a_slot, 0, 5);
    tcase_add_test(cases, test_a_rule_is_for_what_has_no_priority_and_may_be_merged);
    return tests_run(cases);
}
