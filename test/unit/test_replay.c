/* SPDX-License-Identifier: Apache-2.0 */
/* What is read after a cursor, and how every loss is told by a gap that is exact. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "replay_rig.h"
#include "test/unit/tests_run.h"

/* --- one topic ------------------------------------------------------------------------------- */

START_TEST(test_live_only_starts_at_the_position)
{
    rig_want("a");
    fake_publish("a", 110);
    rig_run(CURSOR_NONE, 0);
    ck_page("", true, 110);
    ck_assert_uint_eq(rig.replay.start, 110);
    ck_assert_uint_eq(fake.ranges, 0);
}
END_TEST

START_TEST(test_what_came_after_the_cursor_is_read)
{
    rig_want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        fake_publish("a", id);
    fake_publish("b", 160);
    rig_run(CURSOR_ID, 120);
    ck_page("130 140 150", true, 160);
    ck_assert_uint_eq(rig.replay.start, 120);
    rig_run(CURSOR_ID, 150);
    ck_page("", true, 160);
    rig_run(CURSOR_ID, 160);
    ck_page("", true, 160);
}
END_TEST

START_TEST(test_a_trimmed_log_is_told_exactly)
{
    rig_want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        fake_publish("a", id);
    fake_trim("a", 3);
    rig_run(CURSOR_ID, 115);
    ck_page("(115,130]trimmed 140 150", true, 150);
    rig_run(CURSOR_ID, 130); /* had all that was trimmed */
    ck_page("140 150", true, 150);
    rig_run(CURSOR_ID, 120);
    ck_page("(120,130]trimmed 140 150", true, 150);
}
END_TEST

START_TEST(test_a_hole_inside_the_log_is_told)
{
    rig_want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        fake_publish("a", id);
    memmove(&fake.topics[0].entries[2], &fake.topics[0].entries[3], 2 * sizeof(struct fake_entry));
    fake.topics[0].count--; /* 130 was deleted */
    rig_run(CURSOR_ID, 105);
    ck_page("110 120 (120,130]trimmed 140 150", true, 150);
    rig_run(CURSOR_ALL, 0);
    ck_page("110 120 (120,130]trimmed 140 150", true, 150);
}
END_TEST

START_TEST(test_an_expired_log_is_told_from_a_silent_topic)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110);
    fake_publish("b", 120);
    fake_trim("a", 1);
    rig_run(CURSOR_ID, 105);
    ck_page("(105,110]expired 120", true, 120);
    rig_run(CURSOR_ID, 110);
    ck_page("120", true, 120);
    rig_run(CURSOR_ID, 130 - 10);
    ck_page("", true, 120);
}
END_TEST

START_TEST(test_the_end_of_a_log_that_was_deleted_is_told)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake.topics[0].count = 1;
    rig_run(CURSOR_ID, 105);
    ck_page("110 (110,120]expired", true, 120);
}
END_TEST

START_TEST(test_an_event_that_expired_by_itself_is_no_gap)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("a", 120)->expired = true;
    fake_publish("a", 130);
    fake_publish("a", 140)->expired = true;
    rig_run(CURSOR_ID, 105);
    ck_page("110 130", true, 140);
}
END_TEST

START_TEST(test_all_of_a_log_that_begins_with_what_expired)
{
    rig_want("a");
    rig_want("b");
    for (uint64_t id = 110; id < 170; id++) /* more than is read at once */
        fake_publish("a", id)->expired = true;
    fake_publish("a", 170);
    fake_publish("b", 180);
    fake_publish("a", 190);
    rig_run(CURSOR_ALL, 0);
    ck_page("170 180 190", true, 190);
    ck_assert_uint_lt(rig.replay.start, 170);
    rig_run(CURSOR_LAST, 2);
    ck_page("180 190", true, 190);
    ck_assert_uint_lt(rig.replay.start, 180);
}
END_TEST

START_TEST(test_all_of_a_log_of_which_everything_expired)
{
    rig_want("a");
    for (uint64_t id = 110; id < 170; id++)
        fake_publish("a", id)->expired = true;
    rig_run(CURSOR_ALL, 0);
    ck_page("", true, 169);
    ck_assert_uint_eq(rig.replay.start, 169);
}
END_TEST

START_TEST(test_an_entry_without_prev_is_passed_on_without_a_verdict)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake_publish("a", 130)->has_prev = false;
    fake_trim("a", 2);
    rig_run(CURSOR_ID, 105);
    ck_page("130", true, 130);
}
END_TEST

/* --- the horizon ----------------------------------------------------------------------------- */

START_TEST(test_a_store_that_lost_its_data_is_told_by_the_horizon)
{
    rig_want("a");
    fake.position = fake.horizon = 500;
    rig_run(CURSOR_ID, 110);
    ck_page("(110,500]redis-lost", true, 500);
    fake_publish("a", 510);
    fake_publish("a", 520);
    rig_run(CURSOR_ID, 110);
    ck_page("(110,500]redis-lost 510 520", true, 520);
    rig_run(CURSOR_ID, 500);
    ck_page("510 520", true, 520);
}
END_TEST

START_TEST(test_a_pruned_topic_is_told_as_expired)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("b", 120);
    fake_prune("a");
    rig_run(CURSOR_ID, 105);
    ck_page("(105,110]expired", true, 120);
    rig_run(CURSOR_ID, 110);
    ck_page("", true, 120);
    fake_publish("a", 130);
    rig_run(CURSOR_ID, 105);
    ck_page("(105,110]expired 130", true, 130);
}
END_TEST

START_TEST(test_a_chain_that_holds_needs_no_horizon)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake_publish("b", 130);
    fake_prune("b");
    rig_run(CURSOR_ID, 110);
    ck_page("120", true, 130);
    rig_run(CURSOR_ID, 120);
    ck_page("", true, 130);
}
END_TEST

START_TEST(test_a_pattern_cannot_know_what_was_pruned)
{
    rig_want("*");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake_publish("b", 130);
    fake_publish("a", 140);
    fake_prune("b");
    rig_run(CURSOR_ID, 110);
    ck_page("(110,130]expired! 120 140", true, 140);
    rig_run(CURSOR_ID, 130);
    ck_page("140", true, 140);
}
END_TEST

/* The horizon may have risen above the first events of a topic that was itself pruned and came back
 * before that. */
START_TEST(test_a_chain_that_begins_below_the_horizon_is_told_before_its_first_event)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("b", 150);
    fake_prune("a");
    for (uint64_t id = 120; id <= 140; id += 10)
        fake_publish("a", id);
    fake_prune("b");
    ck_assert_uint_eq(fake.horizon, 150);
    rig_ask(CURSOR_ID, 105);
    rig.replay.max_events = 2; /* the page ends below the horizon */
    replay_start(&rig.replay);
    ck_page("(105,119]expired 120 130", false, 130);
    rig_run(CURSOR_ID, 130);
    ck_page("140", true, 150);
}
END_TEST

START_TEST(test_a_chain_that_begins_right_after_the_cursor_has_no_gap)
{
    rig_want("a");
    fake.position = fake.horizon = 500;
    fake_publish("a", 111);
    rig_run(CURSOR_ID, 110);
    ck_page("111", true, 500);
}
END_TEST

/* Of a page behind the first of somebody who had asked for what there is. */
START_TEST(test_what_had_been_forgotten_before_is_no_loss)
{
    rig_want("a");
    fake_publish("a", 110);
    fake_publish("b", 120);
    fake_prune("a");
    fake_publish("a", 130);
    rig_ask(CURSOR_ID, 105);
    rig.replay.forgotten = 120;
    replay_start(&rig.replay);
    ck_page("130", true, 130);
    rig_ask(CURSOR_ID, 105);
    rig.replay.forgotten = 109;
    replay_start(&rig.replay);
    ck_page("(105,110]expired 130", true, 130);
}
END_TEST

START_TEST(test_a_repair_goes_by_the_horizon)
{
    rig_want("a");
    fake_publish("a", 110);
    rig_ask(CURSOR_ID, 90);
    rig.replay.repair = true;
    replay_start(&rig.replay);
    ck_assert_int_eq(rig.replay.items[0].event != NULL, false);
    ck_assert_uint_eq(rig.replay.items[0].id, 100);
    ck_assert_ptr_null(rig.replay.items[0].topic);
    ck_assert_uint_eq(event_id(rig.replay.items[rig.replay.count - 1].event), 110);
}
END_TEST

START_TEST(test_a_repair_leaves_alone_what_has_not_moved)
{
    rig_want("a");
    rig_want("never");
    fake_publish("a", 110);
    rig_ask(CURSOR_ID, 105);
    rig.replay.repair = true;
    replay_start(&rig.replay);
    ck_page("110", true, 110);
    rig_ask(CURSOR_ID, 110);
    rig.replay.repair = true;
    replay_start(&rig.replay);
    ck_page("", true, 110);
}
END_TEST

START_TEST(test_gaps_with_no_event_between_are_told_as_one)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110);
    fake_publish("b", 120);
    fake_publish("b", 130);
    fake_trim("a", 1);
    fake_trim("b", 1);
    rig_run(CURSOR_ID, 105);
    ck_page("(105,120]trimmed 130", true, 130);
}
END_TEST

START_TEST(test_a_repair_tells_each_topic_of_its_own_gap)
{
    rig_want("a");
    rig_want("b");
    rig_want("c");
    fake_publish("a", 110);
    fake_publish("b", 120);
    fake_publish("c", 120);
    fake_publish("b", 130);
    fake_trim("a", 1);
    fake_trim("b", 1);
    rig_ask(CURSOR_ID, 105);
    rig.replay.repair = true;
    replay_start(&rig.replay);
    ck_page("(105,120]trimmed! (105,110]expired 120 130", true, 130);
    ck_assert_str_eq(rig.replay.items[0].topic, "b"); /* the widest first */
    ck_assert_str_eq(rig.replay.items[1].topic, "a");
}
END_TEST

/* --- cursors that are none ------------------------------------------------------------------- */

START_TEST(test_an_unknown_id_is_told_and_goes_on_live)
{
    rig_want("a");
    fake_publish("a", 110);
    rig_run(CURSOR_UNKNOWN, 0);
    ck_page("(-1,110]unknown-id", true, 110);
    ck_assert_uint_eq(rig.replay.items[0].from, UINT64_MAX);
    ck_assert_uint_eq(rig.replay.start, 0);
    rig_run(CURSOR_ID, 111); /* from a future that never was */
    ck_page("(-1,110]unknown-id", true, 110);
    ck_assert_uint_eq(rig.replay.start, 0);
}
END_TEST

START_TEST(test_since_reads_from_a_time_without_blame_for_what_was_before)
{
    rig_want("a");
    for (uint64_t id = 110; id <= 130; id += 10)
        fake_publish("a", id);
    rig_run(CURSOR_SINCE, 120); /* that very microsecond counts */
    ck_page("120 130", true, 130);
    ck_assert_uint_eq(rig.replay.start, 119);
    rig_run(CURSOR_SINCE, 0);
    ck_page("110 120 130", true, 130);
    ck_assert_uint_eq(rig.replay.start, 100);
    rig_run(CURSOR_SINCE, 999);
    ck_page("", true, 130);
    ck_assert_uint_eq(rig.replay.start, 130);
    fake_trim("a", 1);
    rig_run(CURSOR_SINCE, 105);
    ck_page("(104,110]trimmed 120 130", true, 130);
}
END_TEST

START_TEST(test_all_gives_history_as_it_is)
{
    rig_want("a");
    rig_want("b");
    rig_run(CURSOR_ALL, 0);
    ck_page("", true, 100);
    ck_assert_uint_eq(rig.replay.start, 100);
    for (uint64_t id = 110; id <= 150; id += 10)
        fake_publish("a", id);
    fake_publish("b", 160);
    fake_trim("a", 2);
    fake_trim("b", 1);
    rig_run(CURSOR_ALL, 0);
    ck_page("130 140 150", true, 160);
    ck_assert_uint_eq(rig.replay.start, 129);
}
END_TEST

START_TEST(test_last_gives_the_newest_over_all_topics)
{
    rig_want("a");
    rig_want("b");
    for (uint64_t id = 110; id <= 150; id += 10)
        fake_publish("a", id);
    fake_publish("b", 125);
    fake_publish("b", 145);
    rig_run(CURSOR_LAST, 3);
    ck_page("140 145 150", true, 150);
    ck_assert_uint_eq(rig.replay.start, 139);
    rig_run(CURSOR_LAST, 100);
    ck_page("110 120 125 130 140 145 150", true, 150);
    rig_run(CURSOR_LAST, 1);
    ck_page("150", true, 150);
}
END_TEST

START_TEST(test_last_counts_an_event_of_two_topics_once)
{
    rig_want("a");
    rig_want("b");
    fake_publish("a", 110);
    fake_publish("a", 120);
    fake_publish("b", 120);
    fake_publish("a", 130);
    rig_run(CURSOR_LAST, 2);
    ck_page("120 130", true, 130);
}
END_TEST

START_TEST(test_last_does_not_tell_of_a_hole_before_its_first_event)
{
    rig_want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        fake_publish("a", id);
    memmove(&fake.topics[0].entries[2], &fake.topics[0].entries[3], 2 * sizeof(struct fake_entry));
    fake.topics[0].count--;
    rig_want("b");
    fake_publish("b", 115);
    fake_publish("b", 135);
    fake_topic_get("b")->count = 1; /* 135 was deleted */
    rig_run(CURSOR_LAST, 2);
    ck_page("140 150", true, 150);
    ck_assert_uint_eq(rig.replay.start, 139);
    rig_run(CURSOR_LAST, 3);
    ck_page("120 (120,130]trimmed 140 150", true, 150);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("replay");
    tcase_add_checked_fixture(cases, rig_setup, rig_teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_live_only_starts_at_the_position);
    tcase_add_test(cases, test_what_came_after_the_cursor_is_read);
    tcase_add_test(cases, test_a_trimmed_log_is_told_exactly);
    tcase_add_test(cases, test_a_hole_inside_the_log_is_told);
    tcase_add_test(cases, test_an_expired_log_is_told_from_a_silent_topic);
    tcase_add_test(cases, test_the_end_of_a_log_that_was_deleted_is_told);
    tcase_add_test(cases, test_an_event_that_expired_by_itself_is_no_gap);
    tcase_add_test(cases, test_all_of_a_log_that_begins_with_what_expired);
    tcase_add_test(cases, test_all_of_a_log_of_which_everything_expired);
    tcase_add_test(cases, test_an_entry_without_prev_is_passed_on_without_a_verdict);
    tcase_add_test(cases, test_a_store_that_lost_its_data_is_told_by_the_horizon);
    tcase_add_test(cases, test_a_pruned_topic_is_told_as_expired);
    tcase_add_test(cases, test_a_chain_that_holds_needs_no_horizon);
    tcase_add_test(cases, test_a_pattern_cannot_know_what_was_pruned);
    tcase_add_test(cases,
                   test_a_chain_that_begins_below_the_horizon_is_told_before_its_first_event);
    tcase_add_test(cases, test_a_chain_that_begins_right_after_the_cursor_has_no_gap);
    tcase_add_test(cases, test_what_had_been_forgotten_before_is_no_loss);
    tcase_add_test(cases, test_a_repair_goes_by_the_horizon);
    tcase_add_test(cases, test_a_repair_leaves_alone_what_has_not_moved);
    tcase_add_test(cases, test_gaps_with_no_event_between_are_told_as_one);
    tcase_add_test(cases, test_a_repair_tells_each_topic_of_its_own_gap);
    tcase_add_test(cases, test_an_unknown_id_is_told_and_goes_on_live);
    tcase_add_test(cases, test_since_reads_from_a_time_without_blame_for_what_was_before);
    tcase_add_test(cases, test_all_gives_history_as_it_is);
    tcase_add_test(cases, test_last_gives_the_newest_over_all_topics);
    tcase_add_test(cases, test_last_counts_an_event_of_two_topics_once);
    tcase_add_test(cases, test_last_does_not_tell_of_a_hole_before_its_first_event);
    return tests_run(cases);
}
