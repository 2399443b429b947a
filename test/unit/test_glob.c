/* SPDX-License-Identifier: Apache-2.0 */
#include "common/glob.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <string.h>

/* What the stars stand for, joined by |; "-": it is none of those. */
static void expect(const char *glob, const char *text, const char *wanted)
{
    struct slice stars[4] = {{"", 0}, {"", 0}, {"", 0}, {"", 0}};
    char got[256] = "-";
    size_t count = glob_stars(slice_of(glob)), at = 0;
    if (glob_match(slice_of(glob), slice_of(text), stars, 4)) {
        got[0] = '\0';
        for (size_t i = 0; i < count && i < 4; i++) {
            if (i)
                got[at++] = '|';
            memcpy(got + at, stars[i].ptr, stars[i].len);
            at += stars[i].len;
            got[at] = '\0';
        }
    }
    ck_assert_msg(strcmp(got, wanted) == 0, "%s, %s: %s, not %s", glob, text, got, wanted);
}

START_TEST(test_stars_stand_for_as_little_as_possible)
{
    expect("a", "a", "");
    expect("a", "b", "-");
    expect("a", "", "-");
    expect("", "", "");
    expect("*", "", "");
    expect("*", "abc", "abc");
    expect("a*", "a", "");
    expect("a*", "abc", "bc");
    expect("*c", "abcc", "abc");
    expect("a*b", "abab", "ba");
    expect("events:*", "events:orders.eu", "orders.eu");
    expect("*:*", "a:b:c", "a|b:c");
    expect("*:*:*", "a:b:c:d", "a|b|c:d");
    expect("*:x", "a:x:x", "a:x");
    expect("*-*-", "a-b-c-", "a|b-c");
    expect("**", "ab", "|ab");
    expect("a*b*c", "a1b2b3c", "1|2b3");
    expect("a*b*c", "a1b2b3d", "-");
}
END_TEST

START_TEST(test_elements_are_those_of_redis)
{
    expect("?*", "abc", "bc");
    expect("?", "", "-");
    expect("h[ae]llo*", "hallo1", "1");
    expect("h[ae]llo", "hillo", "-");
    expect("[^a]*", "bc", "c");
    expect("[^a]*", "ac", "-");
    expect("[a-c]*", "b1", "1");
    expect("[c-a]*", "b1", "1");
    expect("[a-c]*", "d1", "-");
    expect("[\\]]*", "]1", "1");
    expect("[a\\-c]*", "b1", "-");
    expect("[ab", "a", "");
    expect("\\*", "*", "");
    expect("\\*", "x", "-");
    expect("a\\*b*", "a*bc", "c");
    expect("\\", "\\", "");
    expect("a]*", "a]b", "b");
}
END_TEST

START_TEST(test_stars_are_counted_where_they_stand_for_something)
{
    ck_assert_uint_eq(glob_stars(slice_of("a*[*]\\**?")), 2);
    ck_assert_uint_eq(glob_stars(slice_of("abc")), 0);
    ck_assert_uint_eq(glob_stars(slice_of("[a\\]*]*")), 1);
    ck_assert(glob_is_pattern(slice_of("a?")) && glob_is_pattern(slice_of("[a]")));
    ck_assert(glob_is_pattern(slice_of("a\\b")) && glob_is_pattern(slice_of("*")));
    ck_assert(!glob_is_pattern(slice_of("a.b:{c}]-^")) && !glob_is_pattern(slice_of("")));
}
END_TEST

START_TEST(test_a_glob_of_many_stars_ends)
{
    char text[4096];
    memset(text, 'a', sizeof(text));
    struct slice s = {text, sizeof(text)};
    ck_assert(!glob_match(slice_of("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"), s, NULL, 0));
    ck_assert(glob_match(slice_of("*a*a*a*a*a*a*a*a*a*a*a*a*a*a"), s, NULL, 0));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("glob");
    tcase_add_test(cases, test_stars_stand_for_as_little_as_possible);
    tcase_add_test(cases, test_elements_are_those_of_redis);
    tcase_add_test(cases, test_stars_are_counted_where_they_stand_for_something);
    tcase_add_test(cases, test_a_glob_of_many_stars_ends);
    return tests_run(cases);
}
