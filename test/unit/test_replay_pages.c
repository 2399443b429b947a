/* SPDX-License-Identifier: Apache-2.0 */
/* The log of several topics, merged by id, in pages. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "grant_rig.h"
#include "replay_rig.h"
#include "test/unit/tests_run.h"

/* --- several topics -------------------------------------------------------------------------- */

START_TEST(test_topics_are_merged_by_id)
{
    rig_want("a");
    rig_want("b");
    rig_want("c");
    fake_publish("a", 110);
    fake_publish("c", 115);
    fake_publish("b", 120);
    fake_publish("a", 130);
    fake_publish("b", 135);
    rig_run(CURSOR_ID, 110);
    ck_page("115 120 130 135", true, 135);
}
END_TEST

START_TEST(test_an_event_on_two_topics_comes_once)
{
    rig_want("a");
    rig_want("b");
    rig_want("*"); /* and by a pattern as well */
    fake_publish("a", 110);
    fake_publish("b", 110);
    fake_publish("b", 120);
    rig_run(CURSOR_ID, 100);
    ck_page("110 120", true, 120);
}
END_TEST

START_TEST(test_a_pattern_reads_what_matches)
{
    rig_want("a.*");
    fake_publish("a.x", 110);
    fake_publish("b.x", 120);
    fake_publish("a.y", 130);
    fake_publish("a.y.z", 140);
    rig_run(CURSOR_ID, 100);
    ck_page("110 130", true, 140);
}
END_TEST

START_TEST(test_a_gap_that_ends_with_an_event_does_not_move_the_cursor)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake_publish("b", 120);
    fake_publish("b", 130);
    fake_trim("b", 1);
    rig_run(CURSOR_ID, 105);
    ck_page("(105,120]trimmed! 110 120 130", true, 130);
}
END_TEST

START_TEST(test_two_gaps_of_one_end_are_told_as_the_wider)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake_publish("b", 120);
    fake_publish("a", 130);
    fake_publish("b", 130);
    memmove(&fake.topics[0].entries[1], &fake.topics[0].entries[2], sizeof(struct fake_entry));
    fake.topics[0].count--;
    fake_trim("b", 1);
    rig_run(CURSOR_ID, 105);
    ck_page("(105,120]trimmed! 110 130", true, 130);
    ck_assert_ptr_null(rig.replay.items[1].topic);
}
END_TEST

/* --- pages ----------------------------------------------------------------------------------- */

START_TEST(test_a_page_ends_at_its_number_of_events)
{
    rig_want("a");
    for (uint64_t id = 101; id <= 110; id++)
        fake_publish("a", id);
    rig_ask(CURSOR_ID, 100);
    rig.replay.max_events = 4;
    replay_start(&rig.replay);
    ck_page("101 102 103 104", false, 104);
    rig_ask(CURSOR_ID, 104);
    rig.replay.max_events = 6;
    replay_start(&rig.replay);
    ck_assert_str_eq(rig_shown(), "105 106 107 108 109 110");
    ck_assert_uint_eq(rig.replay.end, 110);
}
END_TEST

START_TEST(test_a_page_ends_at_its_bytes_but_holds_at_least_one_event)
{
    rig_want("a");
    for (uint64_t id = 101; id <= 104; id++)
        fake_publish("a", id)->bytes = 500;
    rig_ask(CURSOR_ID, 100);
    rig.replay.max_bytes = 1200;
    replay_start(&rig.replay);
    ck_page("101 102", false, 102);
    rig_ask(CURSOR_ID, 102);
    rig.replay.max_bytes = 1;
    replay_start(&rig.replay);
    ck_page("103", false, 103);
}
END_TEST

START_TEST(test_a_page_never_passes_what_a_topic_may_still_bring)
{
    rig_want("a");
    rig_want("b");
    for (uint64_t id = 101; id <= 180; id++)
        fake_publish("a", id);
    fake_publish("b", 181);
    rig_ask(CURSOR_ID, 100);
    rig.replay.max_events = 70; /* more than a step reads of `a` */
    replay_start(&rig.replay);
    ck_assert(!rig.replay.final);
    ck_assert_uint_eq(rig.replay.count, 70);
    ck_assert_uint_eq(rig.replay.end, 170);
}
END_TEST

START_TEST(test_a_page_without_an_event_of_ours_is_read_past)
{
    rig_want("a");
    fake_publish("a", 101);
    for (uint64_t id = 102; id <= 140; id++)
        fake_publish("a", id)->foreign = true;
    struct fake_entry *last = fake_publish("a", 141);
    last->prev = 101;
    rig_run(CURSOR_ID, 101);
    ck_page("141", true, 141);
}
END_TEST

START_TEST(test_over_the_budget_the_rest_is_one_gap)
{
    rig_want("a");
    for (uint64_t id = 101; id <= 110; id++)
        fake_publish("a", id);
    rig_ask(CURSOR_ID, 100);
    rig.replay.budget = 3;
    replay_start(&rig.replay);
    ck_page("101 102 103 (103,110]overflow", true, 110);
    rig_ask(CURSOR_ID, 103);
    rig.replay.budget = 0;
    replay_start(&rig.replay);
    ck_page("(103,110]overflow", true, 110);
    rig_ask(CURSOR_ID, 100);
    rig.replay.budget = 10;
    replay_start(&rig.replay);
    ck_page("101 102 103 104 105 106 107 108 109 110", true, 110);
    rig_ask(CURSOR_ID, 110);
    rig.replay.budget = 0;
    replay_start(&rig.replay);
    ck_page("", true, 110);
}
END_TEST

START_TEST(test_what_is_for_others_counts_for_no_budget)
{
    rig_want("a");
    rig_grant(grant_of("user", "42", NULL));
    for (uint64_t id = 101; id <= 110; id++)
        fake_publish("a", id)->match = id % 2 ? "{\"user\":\"42\"}" : "{\"user\":\"43\"}";
    rig_ask(CURSOR_ID, 100);
    rig.replay.budget = 5;
    replay_start(&rig.replay);
    ck_page("101 102 103 104 105 106 107 108 109 110", true, 110);
    rig_ask(CURSOR_ID, 100);
    rig.replay.budget = 2;
    replay_start(&rig.replay);
    ck_page("101 102 103 104 (104,110]overflow", true, 110);
    rig_ask(CURSOR_ID, 109);
    rig.replay.budget = 0;
    replay_start(&rig.replay);
    ck_page("110", true, 110);
}
END_TEST

START_TEST(test_the_last_are_the_last_that_are_for_somebody)
{
    rig_want("a");
    for (uint64_t id = 101; id <= 110; id++)
        fake_publish("a", id)->match = id > 104 ? "{\"user\":\"43\"}" : "{\"user\":\"42\"}";
    fake_publish("a", 111)->match = "{\"user\":42}";
    rig_grant(grant_of("user", "42", NULL));
    rig_ask(CURSOR_LAST, 2);
    replay_start(&rig.replay);
    ck_page("103 104 105 106 107 108 109 110 111", true, 111);
    rig_grant(grant_of("user", "43", NULL));
    rig_ask(CURSOR_LAST, 2);
    replay_start(&rig.replay);
    ck_page("109 110 111", true, 111);
}
END_TEST

START_TEST(test_all_is_paged_from_its_first_event)
{
    rig_want("a");
    for (uint64_t id = 101; id <= 106; id++)
        fake_publish("a", id);
    rig_ask(CURSOR_ALL, 0);
    rig.replay.max_events = 4;
    replay_start(&rig.replay);
    ck_page("101 102 103 104", false, 104);
    ck_assert_uint_eq(rig.replay.start, 100);
    rig_ask(CURSOR_LAST, 5);
    rig.replay.max_events = 2;
    replay_start(&rig.replay);
    ck_page("102 103", false, 103);
    ck_assert_uint_eq(rig.replay.start, 101);
}
END_TEST

/* --- the store's moods ----------------------------------------------------------------------- */

START_TEST(test_a_store_that_went_away_is_told)
{
    rig_want("a");
    fake.away = true;
    rig_ask(CURSOR_ID, 100);
    replay_start(&rig.replay);
    ck_assert_uint_eq(rig.done, 1);
    ck_assert_int_eq(rig.result, ERR_AGAIN);
}
END_TEST

START_TEST(test_all_ranges_are_waited_for_and_one_failure_is_all)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110);
    fake_publish("b", 120);
    fake.slow = true;
    rig_ask(CURSOR_ID, 100);
    replay_start(&rig.replay);
    ck_assert_uint_eq(fake.waiting_count, 2);
    fake_answer(fake.waiting[0]);
    ck_assert_uint_eq(rig.done, 0);
    if (_i == 0) {
        fake_answer(fake.waiting[1]);
        ck_assert_int_eq(rig.result, OK);
        ck_page("110 120", true, 120);
    } else {
        fake.waiting[1]->done(fake.waiting[1], ERR_AGAIN);
        ck_assert_int_eq(rig.result, ERR_AGAIN);
        ck_assert_uint_eq(rig.replay.count, 0);
    }
    ck_assert_uint_eq(rig.done, 1);
}
END_TEST

/* What may be held of events that a page has no room for is bounded by that. */
START_TEST(test_topics_are_read_a_few_at_a_time)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    rig_want("*");
    for (size_t i = 0; i < 5; i++)
        fake_publish(names[i], 110 + 10 * i);
    fake.slow = true;
    rig_ask(CURSOR_ID, 100);
    rig.replay.batch = 2;
    rig.replay.max_events = 3;
    replay_start(&rig.replay);
    for (size_t answered = 0; answered < 5; answered++) {
        ck_assert_uint_eq(rig.done, 0);
        ck_assert_uint_eq(fake.waiting_count, answered % 2   ? answered + 1
                                              : answered < 4 ? answered + 2
                                                             : 5);
        fake_answer(fake.waiting[answered]);
    }
    ck_assert_uint_eq(rig.done, 1);
    ck_page("110 120 130", false, 130);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("replay_pages");
    tcase_add_checked_fixture(cases, rig_setup, rig_teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_topics_are_merged_by_id);
    tcase_add_test(cases, test_an_event_on_two_topics_comes_once);
    tcase_add_test(cases, test_a_pattern_reads_what_matches);
    tcase_add_test(cases, test_a_gap_that_ends_with_an_event_does_not_move_the_cursor);
    tcase_add_test(cases, test_two_gaps_of_one_end_are_told_as_the_wider);
    tcase_add_test(cases, test_a_page_ends_at_its_number_of_events);
    tcase_add_test(cases, test_a_page_ends_at_its_bytes_but_holds_at_least_one_event);
    tcase_add_test(cases, test_a_page_never_passes_what_a_topic_may_still_bring);
    tcase_add_test(cases, test_a_page_without_an_event_of_ours_is_read_past);
    tcase_add_test(cases, test_over_the_budget_the_rest_is_one_gap);
    tcase_add_test(cases, test_what_is_for_others_counts_for_no_budget);
    tcase_add_test(cases, test_the_last_are_the_last_that_are_for_somebody);
    tcase_add_test(cases, test_all_is_paged_from_its_first_event);
    tcase_add_test(cases, test_a_store_that_went_away_is_told);
    tcase_add_loop_test(cases, test_all_ranges_are_waited_for_and_one_failure_is_all, 0, 2);
    tcase_add_test(cases, test_topics_are_read_a_few_at_a_time);
    return tests_run(cases);
}
