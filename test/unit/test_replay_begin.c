/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream begins with, beside what came after a cursor: the latest of each topic, or all from
 * the first event on; and which topics have ended by then. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "grant_rig.h"
#include "replay_rig.h"
#include "test/unit/tests_run.h"

static void publish(const char *name, uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id += 10)
        fake_publish(name, id);
}

/* --- replay=whole ----------------------------------------------------------------------------- */

START_TEST(test_the_whole_of_a_log_that_lacks_nothing_is_all_of_it)
{
    rig_want("a");
    rig_want("b");
    publish("a", 110, 130);
    fake_publish("b", 135);
    rig_run(CURSOR_WHOLE, 0);
    ck_page("110 120 130 135", true, 135);
    ck_assert_uint_eq(rig.replay.start, 109);
}
END_TEST

START_TEST(test_a_beginning_that_was_trimmed_is_told_first)
{
    rig_want("a");
    publish("a", 110, 150);
    fake_trim("a", 2);
    rig_run(CURSOR_WHOLE, 0);
    ck_page("(0,120]trimmed 130 140 150", true, 150);
    rig_run(CURSOR_ALL, 0);
    ck_page("130 140 150", true, 150);
}
END_TEST

/* Nobody who was cut off before the gap may be left without it. */
START_TEST(test_who_resumes_from_the_start_of_the_whole_is_told_of_the_gap)
{
    rig_want("a");
    rig_want("b"); /* never was: a cursor below the horizon would be told of a loss there */
    publish("a", 110, 150);
    fake_trim("a", 2);
    rig_run(CURSOR_WHOLE, 0);
    uint64_t start = rig.replay.start;
    ck_assert_uint_gt(start, 0);
    rig_run(CURSOR_ID, start);
    ck_page("(100,120]trimmed 130 140 150", true, 150);
    fake.horizon = 140;
    rig_run(CURSOR_WHOLE, 0);
    start = rig.replay.start;
    ck_assert_uint_lt(start, 120);
    ck_assert_uint_gt(start, 0);
}
END_TEST

START_TEST(test_beginnings_of_several_topics_are_told_as_one)
{
    rig_want("a");
    rig_want("b");
    rig_want("c");
    publish("a", 110, 150);
    publish("b", 115, 155);
    publish("c", 200, 210);
    fake_trim("a", 2);
    fake_trim("b", 4);
    rig_run(CURSOR_WHOLE, 0);
    ck_page("(0,145]trimmed! 130 140 150 155 200 210", true, 210);
    ck_assert_uint_lt(rig.replay.start, 120);
}
END_TEST

START_TEST(test_a_whole_whose_log_is_gone_is_told_as_expired)
{
    rig_want("a");
    rig_want("b");
    publish("a", 110, 150);
    fake_trim("a", 5);
    rig_run(CURSOR_WHOLE, 0);
    ck_page("(0,150]expired", true, 150);
    ck_assert_uint_lt(rig.replay.start, 150);
    fake_publish("a", 160); /* and it goes on */
    rig_run(CURSOR_WHOLE, 0);
    ck_page("(0,150]trimmed 160", true, 160);
    fake_prune("a");
    rig_run(CURSOR_WHOLE, 0);
    ck_page("", true, 160);
}
END_TEST

START_TEST(test_the_beginning_is_told_by_the_first_page_only)
{
    rig_want("a");
    publish("a", 110, 200);
    fake_trim("a", 2);
    rig_ask(CURSOR_WHOLE, 0);
    rig.replay.max_events = 3;
    replay_start(&rig.replay);
    ck_page("(0,120]trimmed 130 140 150", false, 150);
    rig_run(CURSOR_ID, 150);
    ck_page("160 170 180 190 200", true, 200);
}
END_TEST

START_TEST(test_the_first_event_may_have_expired_by_itself)
{
    rig_want("a");
    fake_publish("a", 110)->expired = true;
    fake_publish("a", 120);
    rig_run(CURSOR_WHOLE, 0);
    ck_page("120", true, 120);
    fake_trim("a", 1);
    rig_run(CURSOR_WHOLE, 0);
    ck_page("(0,110]trimmed 120", true, 120);
}
END_TEST

/* --- snapshots -------------------------------------------------------------------------------- */

START_TEST(test_a_snapshot_is_the_latest_of_each_topic_in_order)
{
    rig_want("a");
    rig_want("p.*");
    rig_want("none");
    publish("p.2", 110, 180);
    publish("a", 115, 135);
    publish("p.1", 111, 151);
    fake_publish("q", 190);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("135 151 180", true, 190);
    ck_assert_uint_eq(rig.replay.start, 134);
    ck_assert_uint_eq(fake.asked, 3); /* one entry of each */
}
END_TEST

START_TEST(test_a_snapshot_of_nothing_is_live_from_the_position)
{
    rig_want("a");
    fake_publish("b", 110);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("", true, 110);
    ck_assert_uint_eq(rig.replay.start, 110);
}
END_TEST

START_TEST(test_what_has_expired_is_not_the_latest)
{
    rig_want("a");
    rig_want("b");
    publish("a", 110, 130);
    fake_publish("a", 140)->expired = true;
    fake_publish("a", 150)->expired = true;
    fake_publish("b", 160)->expired = true;
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("130", true, 160);
}
END_TEST

static void publish_value(uint64_t id, const char *key, bool is_over)
{
    struct fake_entry *entry = fake_publish("a", id);
    entry->lane = LANE_COALESCED;
    entry->key = key;
    entry->ttl_ms = is_over;
}

START_TEST(test_nor_is_what_a_value_that_is_over_has_replaced)
{
    rig_want("a");
    publish_value(110, "y", false);
    publish_value(120, "x", false);
    publish_value(130, "x", true);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("110", true, 130);
    ck_assert_uint_eq(fake.asked, 1 + 32); /* from the end once more */
    publish_value(140, "y", true);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("", true, 140);
    publish_value(150, "x", false);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("150", true, 150);
}
END_TEST

START_TEST(test_a_value_that_is_over_is_read_but_is_none_of_the_last)
{
    rig_want("a");
    publish_value(110, "y", false);
    publish_value(120, "x", false);
    publish_value(130, "x", true);
    rig_run(CURSOR_LAST, 1);
    ck_page("120 130", true, 130);
    rig_ask(CURSOR_ID, 105);
    rig.replay.budget = 2;
    replay_start(&rig.replay);
    ck_page("110 120 130", true, 130);
}
END_TEST

START_TEST(test_the_latest_is_the_latest_that_is_wanted)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110)->type = "x";
    fake_publish("a", 120)->type = "y";
    fake_publish("b", 130)->type = "y";
    rig_want_type("x");
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("110", true, 130);
    rig_grant(grant_of("user", "42", NULL));
    fake_publish("a", 140)->match = "{\"user\":\"42\"}";
    fake_publish("b", 150)->match = "{\"user\":\"43\"}";
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("130 140", true, 150);
}
END_TEST

START_TEST(test_it_looks_at_the_last_32_entries)
{
    rig_want("a");
    fake_publish("a", 110)->type = "x";
    for (uint64_t id = 111; id < 111 + 31; id++)
        fake_publish("a", id)->foreign = id % 2;
    rig_want_type("x");
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("110", true, 141);
    ck_assert_uint_eq(fake.asked, 32);
    fake_publish("a", 142);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("", true, 142);
}
END_TEST

START_TEST(test_an_event_of_several_topics_is_given_once)
{
    rig_want("a");
    rig_want("b");
    publish("a", 110, 120);
    fake_publish("b", 120);
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("120", true, 120);
}
END_TEST

/* As many pages as it takes; the text of all of them. */
static const char *read_pages(uint32_t max_events, size_t max_bytes, unsigned *pages)
{
    static char text[1024];
    uint64_t cursor = 0;
    text[0] = '\0';
    *pages = 0;
    do {
        rig_ask(CURSOR_SNAPSHOT, cursor);
        rig.replay.max_events = max_events;
        rig.replay.max_bytes = max_bytes;
        rig.replay.batch = 2;
        replay_start(&rig.replay);
        ck_assert_int_eq(rig.result, OK);
        ck_assert_uint_le(rig.replay.count, max_events);
        strcat(strcat(text, text[0] ? " | " : ""), rig_shown());
        cursor = rig.replay.end;
        ++*pages;
    } while (!rig.replay.final);
    return text;
}

START_TEST(test_a_snapshot_comes_in_pages)
{
    unsigned pages;
    static const char *const names[] = {"t.c", "t.f", "t.a", "t.e", "t.b", "t.d"};
    rig_want(">");
    for (size_t i = 0; i < 6; i++)
        publish(names[i], 110 + i, 150 + i);
    ck_assert_str_eq(read_pages(4, 100000, &pages), "150 151 152 153 | 154 155");
    ck_assert_str_eq(read_pages(1, 100000, &pages), "150 | 151 | 152 | 153 | 154 | 155");
    ck_assert_str_eq(read_pages(6, 100000, &pages), "150 151 152 153 154 155");
    fake_topic_get("t.f")->entries[4].bytes = 1000; /* one that fills a page by itself */
    ck_assert_str_eq(read_pages(6, 200, &pages), "150 | 151 | 152 153 154 155");
}
END_TEST

START_TEST(test_a_topic_that_moves_between_pages_has_its_turn_again)
{
    rig_want(">");
    publish("a", 110, 110);
    publish("b", 120, 120);
    publish("c", 130, 130);
    rig_ask(CURSOR_SNAPSHOT, 0);
    rig.replay.max_events = 2;
    replay_start(&rig.replay);
    ck_page("110 120", false, 120);
    fake_publish("a", 140);
    fake_publish("c", 150);
    fake_publish("c", 160);
    rig_run(CURSOR_SNAPSHOT, 120);
    ck_page("140 160", true, 160);
}
END_TEST

START_TEST(test_a_snapshot_of_too_many_topics_is_told_and_live)
{
    rig_want(">");
    publish("a", 110, 110);
    publish("b", 120, 120);
    publish("c", 130, 130);
    rig_ask(CURSOR_SNAPSHOT, 0);
    rig.replay.snapshot_max = 2;
    replay_start(&rig.replay);
    ck_page("(0,130]overflow", true, 130);
    ck_assert_uint_eq(rig.replay.start, 0);
    ck_assert_uint_eq(fake.ranges, 0);
    rig_ask(CURSOR_SNAPSHOT, 0);
    rig.replay.snapshot_max = 3;
    replay_start(&rig.replay);
    ck_page("110 120 130", true, 130);
}
END_TEST

START_TEST(test_a_snapshot_starts_again_when_the_store_was_away)
{
    rig_want("a");
    publish("a", 110, 120);
    fake.away = true;
    rig_ask(CURSOR_SNAPSHOT, 0);
    replay_start(&rig.replay);
    ck_assert_int_eq(rig.result, ERR_AGAIN);
    fake.away = false;
    rig_run(CURSOR_SNAPSHOT, 0);
    ck_page("120", true, 120);
}
END_TEST

/* --- ends ------------------------------------------------------------------------------------- */

START_TEST(test_a_final_page_tells_what_has_ended)
{
    static const enum cursor_kind kinds[] = {CURSOR_NONE, CURSOR_ALL, CURSOR_WHOLE, CURSOR_SNAPSHOT,
                                             CURSOR_UNKNOWN};
    rig_want("b");
    rig_want("a");
    rig_want("c");
    rig_want("p.*");
    publish("a", 110, 120);
    publish("b", 130, 140);
    publish("c", 150, 150);
    publish("p.1", 160, 160);
    fake_topic_get("a")->end = END_DONE;
    fake_topic_get("b")->end = END_CANCELLED;
    fake_topic_get("p.1")->end = END_TIMEOUT; /* nobody asked for it by name */
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        rig_run(kinds[i], 0);
        ck_assert_msg(strcmp(rig_ends(), "a=120 end, b=140 cancelled") == 0, "%d: %s",
                      (int)kinds[i], rig_ends());
    }
    rig_run(CURSOR_ID, 160);
    ck_page("", true, 160);
    ck_assert_str_eq(rig_ends(), "a=120 end, b=140 cancelled");
    rig_run(CURSOR_LAST, 1);
    ck_assert_str_eq(rig_ends(), "a=120 end, b=140 cancelled");
    rig_run(CURSOR_ID, 999); /* not ours */
    ck_assert_str_eq(rig_ends(), "a=120 end, b=140 cancelled");
}
END_TEST

START_TEST(test_a_page_that_is_not_the_last_tells_of_no_end)
{
    rig_want("a");
    publish("a", 110, 150);
    fake_topic_get("a")->end = END_DONE;
    rig_ask(CURSOR_ALL, 0);
    rig.replay.max_events = 2;
    replay_start(&rig.replay);
    ck_page("110 120", false, 120);
    ck_assert_str_eq(rig_ends(), "");
    rig_run(CURSOR_ID, 120);
    ck_page("130 140 150", true, 150);
    ck_assert_str_eq(rig_ends(), "a=150 end");
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("replay_begin");
    tcase_add_checked_fixture(cases, rig_setup, rig_teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_the_whole_of_a_log_that_lacks_nothing_is_all_of_it);
    tcase_add_test(cases, test_a_beginning_that_was_trimmed_is_told_first);
    tcase_add_test(cases, test_who_resumes_from_the_start_of_the_whole_is_told_of_the_gap);
    tcase_add_test(cases, test_beginnings_of_several_topics_are_told_as_one);
    tcase_add_test(cases, test_a_whole_whose_log_is_gone_is_told_as_expired);
    tcase_add_test(cases, test_the_beginning_is_told_by_the_first_page_only);
    tcase_add_test(cases, test_the_first_event_may_have_expired_by_itself);
    tcase_add_test(cases, test_a_snapshot_is_the_latest_of_each_topic_in_order);
    tcase_add_test(cases, test_a_snapshot_of_nothing_is_live_from_the_position);
    tcase_add_test(cases, test_what_has_expired_is_not_the_latest);
    tcase_add_test(cases, test_nor_is_what_a_value_that_is_over_has_replaced);
    tcase_add_test(cases, test_a_value_that_is_over_is_read_but_is_none_of_the_last);
    tcase_add_test(cases, test_the_latest_is_the_latest_that_is_wanted);
    tcase_add_test(cases, test_it_looks_at_the_last_32_entries);
    tcase_add_test(cases, test_an_event_of_several_topics_is_given_once);
    tcase_add_test(cases, test_a_snapshot_comes_in_pages);
    tcase_add_test(cases, test_a_topic_that_moves_between_pages_has_its_turn_again);
    tcase_add_test(cases, test_a_snapshot_of_too_many_topics_is_told_and_live);
    tcase_add_test(cases, test_a_snapshot_starts_again_when_the_store_was_away);
    tcase_add_test(cases, test_a_final_page_tells_what_has_ended);
    tcase_add_test(cases, test_a_page_that_is_not_the_last_tells_of_no_end);
    return tests_run(cases);
}
