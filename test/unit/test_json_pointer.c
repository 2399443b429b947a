/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Pointers into raw text; the examples are those of RFC 6901, 5. */
#include "common/json_pointer.h"
#include "test/unit/tests_run.h"
#include <string.h>

static const char rfc[] = "{ \"foo\": [\"bar\", \"baz\"], \"\": 0, \"a/b\": 1, \"c%d\": 2,"
                          " \"e^f\": 3, \"g|h\": 4, \"i\\\\j\": 5, \"k\\\"l\": 6, \" \": 7,"
                          " \"m~n\": 8, \"big\": 12345678901234567890.10, \"n\": null }";

static void expect(const char *text, const char *pointer, const char *wanted)
{
    struct slice raw = SLICE_NONE;
    ck_assert(json_pointer_is_valid(slice_of(pointer)));
    enum err e = json_pointer_raw(slice_of(text), slice_of(pointer), &raw);
    if (!wanted)
        ck_assert_msg(e == ERR_NOT_FOUND, "%s: %.*s", pointer, (int)raw.len, raw.ptr);
    else
        ck_assert_msg(e == OK && slice_is(raw, wanted), "%s: %.*s", pointer, (int)raw.len,
                      raw.ptr ? raw.ptr : "");
}

START_TEST(test_examples_of_the_rfc)
{
    expect(rfc, "/foo", "[\"bar\", \"baz\"]");
    expect(rfc, "/foo/0", "\"bar\"");
    expect(rfc, "/", "0");
    expect(rfc, "/a~1b", "1");
    expect(rfc, "/c%d", "2");
    expect(rfc, "/e^f", "3");
    expect(rfc, "/g|h", "4");
    expect(rfc, "/i\\j", "5");
    expect(rfc, "/k\"l", "6");
    expect(rfc, "/ ", "7");
    expect(rfc, "/m~0n", "8");
    expect("5", "", "5");
}
END_TEST

START_TEST(test_numbers_keep_their_digits)
{
    expect(rfc, "/big", "12345678901234567890.10");
    expect(rfc, "/n", "null");
}
END_TEST

START_TEST(test_what_is_not_there)
{
    expect(rfc, "/foo/2", NULL);
    expect(rfc, "/foo/-", NULL);
    expect(rfc, "/foo/00", NULL);
    expect(rfc, "/foo/0/1", NULL);
    expect(rfc, "/bar", NULL);
    expect(rfc, "/big/0", NULL);
    expect("\"{\\\"a\\\":1}\"", "/a", NULL);
    expect("[]", "/0", NULL);
    expect("{\"a\":{}}", "/a/b", NULL);
    expect("[[1,[2,3]],4]", "/0/1/1", "3");
    expect("{\"a\":1,\"a\":2}", "/a", "1");
}
END_TEST

START_TEST(test_settings_point_to_something)
{
    char longest[JSON_POINTER_MAX + 2] = "/";
    memset(longest + 1, 'a', JSON_POINTER_MAX);
    ck_assert(!json_pointer_is_setting(slice_of(longest)));
    longest[JSON_POINTER_MAX] = '\0';
    ck_assert(json_pointer_is_setting(slice_of(longest)));
    ck_assert(!json_pointer_is_setting(slice_of("")) && !json_pointer_is_setting(slice_of("/")));
    ck_assert(!json_pointer_is_setting(slice_of("/a~2")));
    ck_assert(!json_pointer_is_setting(slice_of("/a\n")));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("json_pointer");
    tcase_add_test(cases, test_examples_of_the_rfc);
    tcase_add_test(cases, test_numbers_keep_their_digits);
    tcase_add_test(cases, test_what_is_not_there);
    tcase_add_test(cases, test_settings_point_to_something);
    return tests_run(cases);
}
