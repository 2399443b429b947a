/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream with a grant has beside: its tables, and when its grant ends. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "relay/fanout/lease.h"
#include "test/unit/tests_run.h"

enum { MANY = 5000 };

static struct grant *grant_for(const char *ns, const char *subject)
{
    struct grant_fields fields = {.ns = slice_dup(slice_of(ns)),
                                  .subject = slice_dup(slice_of(subject))};
    return grant_new(&fields);
}

static void lease_add(struct leases *leases, struct lease *lease, const char *ns,
                      const char *subject)
{
    struct grant *grant = grant_for(ns, subject);
    leases_add(leases, lease, grant);
    grant_unref(grant);
}

struct visited {
    const struct lease *leases; /* an array of MANY */
    bool seen[MANY];
    size_t count;
};

static void on_visit(struct lease *lease, void *arg)
{
    struct visited *visited = arg;
    size_t i = (size_t)(lease - visited->leases);
    ck_assert(!visited->seen[i]);
    visited->seen[i] = true;
    visited->count++;
}

/* --- the tables ------------------------------------------------------------------------------- */

/* 5 subjects in each of 2 namespaces, and those without a subject. */
static void add_mixed(struct leases *leases, struct lease *all)
{
    static const char *const subjects[] = {"0", "1", "2", "3", "4", NULL};
    for (size_t i = 0; i < MANY; i++)
        lease_add(leases, &all[i], i % 2 ? "t1" : "t2", subjects[i / 2 % 6]);
}

START_TEST(test_a_subject_is_all_its_leases_in_its_namespace)
{
    struct leases *leases = leases_new();
    struct lease *all = mem_zero(MANY, sizeof(*all));
    struct visited visited = {.leases = all};
    add_mixed(leases, all);
    leases_visit_subject(leases, SLICE_LIT("t1"), SLICE_LIT("3"), on_visit, &visited);
    for (size_t i = 0; i < MANY; i++) /* 32 bits of a hash tell these few apart, most likely */
        ck_assert_int_eq(visited.seen[i], i % 2 && i / 2 % 6 == 3);
    memset(visited.seen, 0, sizeof(visited.seen));
    leases_visit_subject(leases, SLICE_LIT("t2"), SLICE_NONE, on_visit, &visited);
    for (size_t i = 0; i < MANY; i++)
        ck_assert_int_eq(visited.seen[i], i % 2 == 0 && i / 2 % 6 == 5);
    visited.count = 0;
    leases_visit_subject(leases, SLICE_LIT("t3"), SLICE_LIT("3"), on_visit, &visited);
    ck_assert_uint_eq(visited.count, 0);
    for (size_t i = 0; i < MANY; i++)
        leases_remove(leases, &all[i]);
    leases_free(leases);
    free(all);
}
END_TEST

START_TEST(test_a_walk_meets_each_once)
{
    struct leases *leases = leases_new();
    struct lease *all = mem_zero(MANY, sizeof(*all));
    struct visited visited = {.leases = all};
    add_mixed(leases, all);
    leases_visit(leases, on_visit, &visited);
    ck_assert_uint_eq(visited.count, MANY);
    for (size_t i = 0; i < MANY; i++)
        leases_remove(leases, &all[i]);
    visited.count = 0;
    leases_visit(leases, on_visit, &visited);
    ck_assert_uint_eq(visited.count, 0);
    leases_free(leases);
    free(all);
}
END_TEST

START_TEST(test_a_lease_costs_24_bytes)
{
    ck_assert_uint_le(sizeof(struct lease), 24);
}
END_TEST

/* --- time ------------------------------------------------------------------------------------- */

enum { EXP_S = 1000, EXP_MS = EXP_S * 1000 };

static const struct lease_terms usual = {EXP_S, 30000, 10000};

START_TEST(test_it_holds_then_is_told_then_ends_within_the_leeway)
{
    struct lease lease = {.spread = UINT16_MAX / 2};
    ck_assert_int_eq(lease_due(&lease, &usual, EXP_MS - 10001), LEASE_HOLDS);
    ck_assert_int_eq(lease_due(&lease, &usual, EXP_MS - 10000), LEASE_EXPIRING);
    ck_assert_int_eq(lease_due(&lease, &usual, EXP_MS + 14000), LEASE_EXPIRING);
    lease.exp_told = true;
    ck_assert_int_eq(lease_due(&lease, &usual, EXP_MS - 10000), LEASE_HOLDS);
    ck_assert_int_eq(lease_due(&lease, &usual, EXP_MS + 14000), LEASE_HOLDS);
    ck_assert_int_eq(lease_due(&lease, &usual, EXP_MS + 15000), LEASE_EXPIRED);
}
END_TEST

START_TEST(test_the_spread_is_from_exp_to_the_end_of_the_leeway)
{
    struct lease first = {.spread = 0, .exp_told = true};
    struct lease last = {.spread = UINT16_MAX, .exp_told = true};
    ck_assert_int_eq(lease_due(&first, &usual, EXP_MS - 1), LEASE_HOLDS);
    ck_assert_int_eq(lease_due(&first, &usual, EXP_MS), LEASE_EXPIRED);
    ck_assert_int_eq(lease_due(&last, &usual, EXP_MS + 30000 - 1), LEASE_HOLDS);
    ck_assert_int_eq(lease_due(&last, &usual, EXP_MS + 30000), LEASE_EXPIRED);
}
END_TEST

START_TEST(test_without_exp_it_never_ends)
{
    struct lease lease = {0};
    struct lease_terms terms = {0, 30000, 10000};
    ck_assert_int_eq(lease_due(&lease, &terms, UINT64_MAX / 2), LEASE_HOLDS);
    ck_assert_uint_eq(lease_wait_ms(&lease, &terms, 1), UINT64_MAX);
}
END_TEST

START_TEST(test_without_notice_nothing_is_told)
{
    struct lease lease = {.spread = UINT16_MAX};
    struct lease_terms terms = {EXP_S, 30000, 0};
    ck_assert_int_eq(lease_due(&lease, &terms, EXP_MS - 1), LEASE_HOLDS);
    ck_assert_uint_eq(lease_wait_ms(&lease, &terms, EXP_MS - 1), 30001);
}
END_TEST

START_TEST(test_the_wait_is_to_the_next_that_is_due_and_never_long)
{
    struct lease lease = {.spread = 0};
    ck_assert_uint_eq(lease_wait_ms(&lease, &usual, EXP_MS - 10000 - 500), 500);
    ck_assert_uint_eq(lease_wait_ms(&lease, &usual, EXP_MS - 9000), 0);
    lease.exp_told = true;
    ck_assert_uint_eq(lease_wait_ms(&lease, &usual, EXP_MS - 9000), 9000);
    ck_assert_uint_eq(lease_wait_ms(&lease, &usual, EXP_MS + 1), 0);
    ck_assert_uint_eq(lease_wait_ms(&lease, &usual, 1), LEASE_LOOK_AGAIN_MS);
}
END_TEST

/* What was waited for is asked of the clock as it is then, not as it was. */
START_TEST(test_a_clock_that_was_set_ends_nothing_early_and_nothing_late)
{
    struct lease lease = {.spread = 0, .exp_told = true};
    uint64_t hour = 3600000;
    struct lease_terms later = {EXP_S + 7200, 30000, 10000};
    uint64_t now = (uint64_t)(EXP_S + 7200) * 1000 - 100; /* an hour ahead of the truth */
    ck_assert_uint_eq(lease_wait_ms(&lease, &later, now), 100);
    ck_assert_int_eq(lease_due(&lease, &later, now + 100 - hour), LEASE_HOLDS);
    ck_assert_uint_le(lease_wait_ms(&lease, &later, now + 100 - hour), LEASE_LOOK_AGAIN_MS);
    ck_assert_int_eq(lease_due(&lease, &later, now + hour), LEASE_EXPIRED);
}
END_TEST

START_TEST(test_notice_and_exp_of_any_size)
{
    struct lease lease = {.spread = UINT16_MAX};
    struct lease_terms soon = {5, 0, 3600000}; /* the notice begins before there was time */
    struct lease_terms never = {UINT64_MAX, 600000, 3600000};
    ck_assert_int_eq(lease_due(&lease, &soon, 1), LEASE_EXPIRING);
    ck_assert_int_eq(lease_due(&lease, &soon, 5000), LEASE_EXPIRED);
    ck_assert_int_eq(lease_due(&lease, &never, UINT64_MAX / 4), LEASE_HOLDS);
    ck_assert_uint_eq(lease_wait_ms(&lease, &never, UINT64_MAX / 4), LEASE_LOOK_AGAIN_MS);
    ck_assert_uint_eq(lease_left_ms(&soon, 4000), 1000);
    ck_assert_uint_eq(lease_left_ms(&soon, 6000), 0);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("lease");
    hash_seed_init();
    tcase_add_test(cases, test_a_subject_is_all_its_leases_in_its_namespace);
    tcase_add_test(cases, test_a_walk_meets_each_once);
    tcase_add_test(cases, test_a_lease_costs_24_bytes);
    tcase_add_test(cases, test_it_holds_then_is_told_then_ends_within_the_leeway);
    tcase_add_test(cases, test_the_spread_is_from_exp_to_the_end_of_the_leeway);
    tcase_add_test(cases, test_without_exp_it_never_ends);
    tcase_add_test(cases, test_without_notice_nothing_is_told);
    tcase_add_test(cases, test_the_wait_is_to_the_next_that_is_due_and_never_long);
    tcase_add_test(cases, test_a_clock_that_was_set_ends_nothing_early_and_nothing_late);
    tcase_add_test(cases, test_notice_and_exp_of_any_size);
    return tests_run(cases);
}
