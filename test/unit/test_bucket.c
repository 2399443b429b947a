/* SPDX-License-Identifier: Apache-2.0 */
/* The token bucket: never more than the rate and the burst, and nothing is lost by looking. */
#include <check.h>
#include <stdlib.h>
#include "relay/kit/bucket.h"
#include "test/unit/tests_run.h"

enum { SECOND = 1000000 };

static unsigned take_all(struct bucket *bucket, uint64_t now)
{
    unsigned n = 0;
    while (n < 1000000 && bucket_take(bucket, now))
        n++;
    return n;
}

START_TEST(test_starts_with_its_burst_and_no_more)
{
    struct bucket bucket = {0};
    bucket_set(&bucket, 1000, 5 * SECOND);
    ck_assert_uint_eq(take_all(&bucket, 5 * SECOND), 100); /* a tenth of a second's */
    ck_assert(!bucket_take(&bucket, 5 * SECOND));
    ck_assert_uint_eq(take_all(&bucket, 3600u * (uint64_t)SECOND), 100);
}
END_TEST

START_TEST(test_rate_holds_however_often_one_asks)
{
    struct bucket bucket = {0};
    unsigned taken = 0;
    bucket_set(&bucket, 300, 0);
    for (uint64_t now = 0; now < 10 * SECOND; now += 7)
        taken += bucket_take(&bucket, now);
    ck_assert_uint_ge(taken, 3000 + 29);
    ck_assert_uint_le(taken, 3000 + 30);
}
END_TEST

START_TEST(test_slow_rate_waits_for_a_whole_token)
{
    struct bucket bucket = {0};
    bucket_set(&bucket, 0.25, 0);
    ck_assert(bucket_take(&bucket, 0));
    for (uint64_t now = 0, wait; (wait = bucket_wait_us(&bucket, now)); now += wait) {
        ck_assert_uint_le(now + wait, 4 * SECOND + 2);
        ck_assert(!bucket_take(&bucket, now + wait / 2));
    }
    ck_assert(bucket_take(&bucket, 4 * SECOND + 2));
}
END_TEST

START_TEST(test_after_the_wait_there_is_a_token)
{
    for (double rate = 0.01; rate < 1e6; rate *= 1.7) {
        struct bucket bucket = {0};
        bucket_set(&bucket, rate, 12345);
        uint64_t now = 12345;
        take_all(&bucket, now);
        for (int i = 0; i < 100; i++) {
            uint64_t wait = bucket_wait_us(&bucket, now);
            ck_assert_uint_gt(wait, 0);
            now += wait;
            ck_assert_uint_gt(take_all(&bucket, now), 0);
        }
    }
}
END_TEST

START_TEST(test_no_rate_is_no_limit)
{
    struct bucket bucket = {0};
    bucket_set(&bucket, 0, 1);
    ck_assert_uint_eq(take_all(&bucket, 1), 1000000);
    ck_assert_uint_eq(bucket_wait_us(&bucket, 1), 0);
    bucket_set(&bucket, 10, 2); /* limited from here on: full */
    ck_assert_uint_eq(take_all(&bucket, 2), 1);
    bucket_set(&bucket, 0, 3);
    ck_assert(bucket_take(&bucket, 3));
}
END_TEST

START_TEST(test_new_rate_keeps_what_is_there)
{
    struct bucket bucket = {0};
    bucket_set(&bucket, 1000, 0);
    take_all(&bucket, 0);
    bucket_set(&bucket, 100000, 0);
    ck_assert(!bucket_take(&bucket, 0)); /* a change is no way to another burst */
    ck_assert_uint_eq(take_all(&bucket, SECOND / 100), 1000);
    bucket_set(&bucket, 100000, SECOND);
    bucket_set(&bucket, 20, SECOND);
    ck_assert_uint_eq(take_all(&bucket, SECOND), 2);
}
END_TEST

START_TEST(test_returned_tokens_are_not_saved_beyond_the_burst)
{
    struct bucket bucket = {0};
    bucket_set(&bucket, 100, 0);
    for (int i = 0; i < 50; i++)
        bucket_return(&bucket);
    ck_assert_uint_eq(take_all(&bucket, 0), 10);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("bucket");
    tcase_add_test(tcase, test_starts_with_its_burst_and_no_more);
    tcase_add_test(tcase, test_rate_holds_however_often_one_asks);
    tcase_add_test(tcase, test_slow_rate_waits_for_a_whole_token);
    tcase_add_test(tcase, test_after_the_wait_there_is_a_token);
    tcase_add_test(tcase, test_no_rate_is_no_limit);
    tcase_add_test(tcase, test_new_rate_keeps_what_is_there);
    tcase_add_test(tcase, test_returned_tokens_are_not_saved_beyond_the_burst);
    return tests_run(tcase);
}
