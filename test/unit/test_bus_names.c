/* SPDX-License-Identifier: Apache-2.0 */
/* What bus_names.c promises. */
#include <check.h>
#include <stdlib.h>
#include "relay/bus/bus_names.h"
#include "test/unit/tests_run.h"

static struct bus_names *names;

static void setup(void)
{
    names = bus_names_new();
}

static void teardown(void)
{
    bus_names_free(names); /* with what a test has left in it */
    bus_names_free(NULL);
}

static void date(const char *text, uint64_t position)
{
    struct strings texts = {0};
    strings_add(&texts, slice_of(text));
    bus_names_date(names, &texts, position);
    strings_reset(&texts);
}

START_TEST(test_finds_what_was_added_until_it_is_removed)
{
    struct store_name *a = bus_names_add(names, "ns", "a");
    struct store_name *pattern = bus_names_add(names, "ns", "b.*");
    ck_assert_str_eq(a->ns, "ns");
    ck_assert_str_eq(a->name, "a");
    ck_assert_ptr_eq(bus_names_find(names, SLICE_LIT("a")), a);
    ck_assert_ptr_eq(bus_names_find(names, SLICE_LIT("b.*")), pattern);
    ck_assert_ptr_null(bus_names_find(names, SLICE_LIT("b.c"))); /* as a name */
    ck_assert_uint_eq(bus_names_count(names), 2);
    struct strings all = {0};
    bus_names_copy(names, &all);
    ck_assert_uint_eq(all.count, 2);
    ck_assert(strings_have(&all, SLICE_LIT("a")) && strings_have(&all, SLICE_LIT("b.*")));
    strings_reset(&all);
    ck_assert(bus_names_have_patterns(names));
    bus_names_remove(names, pattern);
    ck_assert(!bus_names_have_patterns(names));
    ck_assert_ptr_null(bus_names_find(names, SLICE_LIT("b.*")));
    ck_assert_uint_eq(bus_names_count(names), 1);
}
END_TEST

START_TEST(test_a_topic_is_heard_by_a_pattern_that_is)
{
    struct store_name *pattern = bus_names_add(names, "ns", "b.*");
    bus_names_add(names, "ns", "a")->heard = true;
    ck_assert(!bus_names_hear_by_pattern(names, SLICE_LIT("b.c")));
    pattern->heard = true;
    ck_assert(bus_names_hear_by_pattern(names, SLICE_LIT("b.c")));
    ck_assert(!bus_names_hear_by_pattern(names, SLICE_LIT("a")));
}
END_TEST

START_TEST(test_who_wants_a_topic)
{
    bus_names_add(names, "ns", "a.b")->workers = 1;
    bus_names_add(names, "ns", "a.*")->workers = 2;
    bus_names_add(names, "ns", ">")->workers = 4;
    bus_names_add(names, "ns", "a")->workers = 8;
    ck_assert_uint_eq(bus_names_workers(names, SLICE_LIT("a.b")), 7);
    ck_assert_uint_eq(bus_names_workers(names, SLICE_LIT("a.c")), 6);
    ck_assert_uint_eq(bus_names_workers(names, SLICE_LIT("a")), 12);
    bus_names_remove(names, bus_names_find(names, SLICE_LIT(">")));
    ck_assert_uint_eq(bus_names_workers(names, SLICE_LIT("x")), 0);
}
END_TEST

START_TEST(test_the_first_read_dates_a_name)
{
    struct store_name *a = bus_names_add(names, "ns", "b.a");
    ck_assert_uint_eq(bus_names_since(a), 0);
    ck_assert_uint_eq(bus_names_earliest(names, SLICE_LIT("b.a")), UINT64_MAX);
    date("b.a", 10);
    date("b.a", 5);
    date("c", 5); /* nobody's */
    ck_assert_uint_eq(bus_names_since(a), 10);
    ck_assert_uint_eq(bus_names_earliest(names, SLICE_LIT("b.a")), 10);
    bus_names_add(names, "ns", "b.*");
    ck_assert_uint_eq(bus_names_earliest(names, SLICE_LIT("b.a")), 10); /* it has no read yet */
    date("b.*", 7);
    ck_assert_uint_eq(bus_names_earliest(names, SLICE_LIT("b.a")), 7);
    ck_assert_uint_eq(bus_names_earliest(names, SLICE_LIT("b.other")), 7);
    ck_assert_uint_eq(bus_names_earliest(names, SLICE_LIT("c")), UINT64_MAX);
}
END_TEST

START_TEST(test_lost_is_what_was_heard_and_is_not)
{
    struct store_name *refused = bus_names_add(names, "ns", "refused");
    struct store_name *heard = bus_names_add(names, "ns", "heard");
    struct store_name *fresh = bus_names_add(names, "ns", "fresh");
    ck_assert(!bus_names_take_heard(refused) && !bus_names_take_heard(heard));
    heard->heard = true;
    bus_names_lose(names);
    ck_assert(!bus_names_take_heard(heard) && !bus_names_take_heard(fresh));
    ck_assert(bus_names_take_heard(refused));
    ck_assert(bus_names_take_heard(refused)); /* until it has been read */
    bus_names_take_found(refused);
    ck_assert(!bus_names_take_heard(refused));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("bus_names");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_finds_what_was_added_until_it_is_removed);
    tcase_add_test(cases, test_a_topic_is_heard_by_a_pattern_that_is);
    tcase_add_test(cases, test_who_wants_a_topic);
    tcase_add_test(cases, test_the_first_read_dates_a_name);
    tcase_add_test(cases, test_lost_is_what_was_heard_and_is_not);
    return tests_run(cases);
}
