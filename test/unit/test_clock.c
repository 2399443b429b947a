/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"
#include "test/unit/rng.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdio.h>
#include <time.h>

struct time_case {
    const char *text;
    enum err err;
    uint64_t us;
};

static const struct time_case cases[] = {
    {"1970-01-01T00:00:00Z", OK, 0},
    {"1970-01-01t00:00:00.000001z", OK, 1},
    {"2026-01-02T03:04:05.678Z", OK, UINT64_C(1767323045678000)},
    {"2026-01-02T03:04:05+01:00", OK, UINT64_C(1767319445000000)},
    {"2026-01-02T03:04:05-00:30", OK, UINT64_C(1767324845000000)},
    {"2000-02-29T12:00:00Z", OK, UINT64_C(951825600000000)},
    {"2024-02-29T00:00:00.1234567890123Z", OK, UINT64_C(1709164800123456)},
    {"2016-12-31T23:59:60Z", OK, UINT64_C(1483228800000000)},
    {"9999-12-31T23:59:59Z", OK, UINT64_C(253402300799000000)},
    {"1970-01-01T01:00:00+01:00", OK, 0},
    {"1969-12-31T23:59:59Z", ERR_RANGE, 0},
    {"0000-01-01T00:00:00Z", ERR_RANGE, 0},
    {"1970-01-01T00:00:00+00:01", ERR_RANGE, 0},
    {"", ERR_INVALID, 0},
    {"2026-01-02", ERR_INVALID, 0},
    {"2026-01-02T03:04:05", ERR_INVALID, 0},
    {"2026-01-02 03:04:05Z", ERR_INVALID, 0},
    {"2026-01-02T03:04Z", ERR_INVALID, 0},
    {"2026-01-02T03:04:05.Z", ERR_INVALID, 0},
    {"2026-01-02T03:04:05,5Z", ERR_INVALID, 0},
    {"2026-01-02T03:04:05+0100", ERR_INVALID, 0},
    {"2026-01-02T03:04:05+24:00", ERR_INVALID, 0},
    {"2026-01-02T03:04:05+01:60", ERR_INVALID, 0},
    {"2026-01-02T03:04:05 01:00", ERR_INVALID, 0},
    {"2026-01-02T03:04:05Zx", ERR_INVALID, 0},
    {"2026-00-02T03:04:05Z", ERR_INVALID, 0},
    {"2026-13-02T03:04:05Z", ERR_INVALID, 0},
    {"2026-01-00T03:04:05Z", ERR_INVALID, 0},
    {"2026-02-29T03:04:05Z", ERR_INVALID, 0},
    {"1900-02-29T03:04:05Z", ERR_INVALID, 0},
    {"2026-04-31T03:04:05Z", ERR_INVALID, 0},
    {"2026-01-99T03:04:05Z", ERR_INVALID, 0},
    {"2026-99-01T03:04:05Z", ERR_INVALID, 0},
    {"0000-02-29T00:00:00Z", ERR_RANGE, 0},
    {"0001-02-29T00:00:00Z", ERR_INVALID, 0},
    {"0000-00-00T00:00:00Z", ERR_INVALID, 0},
    {"2038-01-19T03:14:08Z", OK, UINT64_C(2147483648000000)},
    {"2026-01-02T24:04:05Z", ERR_INVALID, 0},
    {"2026-01-02T03:60:05Z", ERR_INVALID, 0},
    {"2026-01-02T03:04:61Z", ERR_INVALID, 0},
    {"26-01-02T03:04:05Z", ERR_INVALID, 0},
    {"+026-01-02T03:04:05Z", ERR_INVALID, 0},
};

START_TEST(test_rfc3339)
{
    const struct time_case *c = &cases[_i];
    uint64_t us = 42;
    ck_assert_msg(clock_parse_rfc3339(slice_of(c->text), &us) == c->err, "%s", c->text);
    ck_assert_msg(us == (c->err == OK ? c->us : 42), "%s", c->text);
}
END_TEST

START_TEST(test_rfc3339_agrees_with_libc)
{
    struct rng rng = rng_seeded("clock");
    for (int i = 0; i < 20000; i++) {
        time_t t = (time_t)rng_below(&rng, (size_t)253402300800);
        struct tm parts;
        char text[40];
        uint64_t us;
        gmtime_r(&t, &parts);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
        ck_assert_msg(clock_parse_rfc3339(slice_of(text), &us) == OK, "%s", text);
        ck_assert_msg(us == (uint64_t)t * 1000000, "%s", text);
    }
}
END_TEST

static enum err parse_day(int year, int month, int day, uint64_t *us)
{
    char text[40];
    snprintf(text, sizeof text, "%04d-%02d-%02dT00:00:00Z", year, month, day);
    return clock_parse_rfc3339(slice_of(text), us);
}

/* Counted by hand, as the parser asks the C library, too. */
START_TEST(test_every_month_is_as_long_as_the_calendar_says)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t days = 0, us;
    for (int year = 1970; year <= 9999; year++) {
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (int month = 1; month <= 12; month++) {
            int length = lengths[month - 1] + (month == 2 && leap);
            ck_assert_int_eq(parse_day(year, month, 1, &us), OK);
            ck_assert_uint_eq(us, days * UINT64_C(86400000000));
            ck_assert_int_eq(parse_day(year, month, length, &us), OK);
            ck_assert_int_eq(parse_day(year, month, length + 1, &us), ERR_INVALID);
            days += (unsigned)length;
        }
    }
}
END_TEST

START_TEST(test_clocks_run)
{
    uint64_t before = clock_mono_us();
    ck_assert_uint_ge(clock_mono_us(), before);
    ck_assert_uint_gt(clock_wall_us(), UINT64_C(1700000000000000));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("clock");
    tcase_add_loop_test(tests, test_rfc3339, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(tests, test_rfc3339_agrees_with_libc);
    tcase_add_test(tests, test_every_month_is_as_long_as_the_calendar_says);
    tcase_add_test(tests, test_clocks_run);
    return tests_run(tests);
}
