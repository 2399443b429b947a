/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <pthread.h>

#include "relay/core/pressure.h"
#include "test/unit/tests_run.h"

enum { S = 1000000 };

START_TEST(test_it_ends_well_below_where_it_began)
{
    ck_assert(!pressure_is_high(false, 800, 800));
    ck_assert(pressure_is_high(false, 801, 800));
    ck_assert(pressure_is_high(true, 701, 800));
    ck_assert(!pressure_is_high(true, 700, 800));
    ck_assert(!pressure_is_high(false, SIZE_MAX, 0) && !pressure_is_high(true, SIZE_MAX, 0));
}
END_TEST

START_TEST(test_the_first_tells_the_others)
{
    struct pressure *p = pressure_new(3);
    ck_assert(pressure_begin(p));
    ck_assert(!pressure_begin(p) && !pressure_begin(p));
    pressure_end(p, 0);
    pressure_end(p, 1);
    ck_assert(!pressure_begin(p));
    pressure_end(p, 1);
    pressure_end(p, 2);
    ck_assert(pressure_begin(p));
    pressure_free(p);
}
END_TEST

START_TEST(test_what_goes_is_nearly_as_old_as_the_oldest)
{
    struct pressure *p = pressure_new(1);
    uint64_t before = pressure_before_us(p, 0, 10 * S, 50 * S);
    ck_assert_uint_eq(before, 20 * S + 1); /* of 40 s: older than 30 s, or as old */
    ck_assert_uint_eq(pressure_before_us(p, 0, UINT64_MAX, 50 * S), 0);
    pressure_free(p);
}
END_TEST

START_TEST(test_what_is_young_stays)
{
    struct pressure *p = pressure_new(1);
    uint64_t now = 50 * S, edge = now - PRESSURE_YOUNG_US;
    ck_assert_uint_eq(pressure_before_us(p, 0, now, now), 0);
    ck_assert_uint_eq(pressure_before_us(p, 0, now + 5, now), 0);
    ck_assert_uint_eq(pressure_before_us(p, 0, edge, now), 0);
    ck_assert_uint_eq(pressure_before_us(p, 0, edge - 1, now), edge);
    ck_assert_uint_eq(pressure_before_us(p, 0, edge - 8, now), edge);
    pressure_free(p);
}
END_TEST

START_TEST(test_the_oldest_of_all_workers_counts)
{
    struct pressure *p = pressure_new(3);
    ck_assert_uint_eq(pressure_before_us(p, 0, 40 * S, 50 * S), 42500001);
    ck_assert_uint_eq(pressure_before_us(p, 1, 10 * S, 50 * S), 20 * S + 1);
    /* All that the first has is younger than that: the second goes first. */
    ck_assert_uint_eq(pressure_before_us(p, 0, 40 * S, 50 * S), 20 * S + 1);
    ck_assert_uint_eq(pressure_before_us(p, 2, UINT64_MAX, 50 * S), 20 * S + 1);
    pressure_end(p, 1);
    ck_assert_uint_eq(pressure_before_us(p, 0, 40 * S, 50 * S), 42500001);
    pressure_free(p);
}
END_TEST

/* However old the oldest is: a round lets a quarter of its age go. */
START_TEST(test_from_an_hour_to_the_youngest_takes_few_rounds)
{
    struct pressure *p = pressure_new(1);
    uint64_t now = UINT64_C(3600) * S * 2, oldest = now / 2, before;
    int rounds = 0;
    while ((before = pressure_before_us(p, 0, oldest, now))) {
        ck_assert_uint_gt(before, oldest);
        oldest = before;
        rounds++;
    }
    ck_assert_int_le(rounds, 45);
    ck_assert_uint_le(now - oldest, PRESSURE_YOUNG_US);
    pressure_free(p);
}
END_TEST

enum { WORKERS = 4, ROUNDS = 20000 };

struct side {
    struct pressure *pressure;
    unsigned worker;
};

static void *act(void *arg)
{
    const struct side *side = arg;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t oldest = 10 * S + i * (side->worker + 1);
        pressure_begin(side->pressure);
        uint64_t before = pressure_before_us(side->pressure, side->worker, oldest, 20 * S);
        /* Others may only make it earlier. */
        if (!before || before > oldest + (20 * S - oldest) / 4 + 1)
            return arg;
        pressure_end(side->pressure, side->worker);
    }
    return NULL;
}

START_TEST(test_workers_agree_without_waiting)
{
    struct pressure *p = pressure_new(WORKERS);
    struct side sides[WORKERS];
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        sides[i] = (struct side){p, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, act, &sides[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert(pressure_begin(p));
    pressure_free(p);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("pressure");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_it_ends_well_below_where_it_began);
    tcase_add_test(tests, test_the_first_tells_the_others);
    tcase_add_test(tests, test_what_goes_is_nearly_as_old_as_the_oldest);
    tcase_add_test(tests, test_what_is_young_stays);
    tcase_add_test(tests, test_the_oldest_of_all_workers_counts);
    tcase_add_test(tests, test_from_an_hour_to_the_youngest_takes_few_rounds);
    tcase_add_test(tests, test_workers_agree_without_waiting);
    return tests_run(tests);
}
