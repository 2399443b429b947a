/* SPDX-License-Identifier: Apache-2.0 */
/* The flat form of an event's match, and what is none. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "common/match.h"
#include "test/unit/tests_run.h"

/* The pairs as "name=value;", or what is none as "none". */
static const char *shown(struct slice json)
{
    static struct buf text;
    struct buf flat = {0};
    buf_clear(&text);
    buf_putc(&flat, '!'); /* what is there already stays */
    if (match_put(&flat, json) == OK) {
        const char *at = flat.ptr + 1, *name, *value;
        while (match_next(&at, &name, &value))
            buf_printf(&text, "%s=%s;", name, value);
        ck_assert_ptr_eq(at, flat.ptr + flat.len - 1);
    } else {
        ck_assert_uint_eq(flat.len, 1);
        buf_puts(&text, "none");
    }
    buf_reset(&flat);
    buf_putc(&text, '\0');
    return text.ptr;
}

START_TEST(test_pairs_come_back_in_order)
{
    ck_assert_str_eq(shown(SLICE_LIT("{\"user_id\":\"42\"}")), "user_id=42;");
    ck_assert_str_eq(shown(SLICE_LIT(" { \"b\" : \"\" , \"a\" : \"x\\u00e9\" } \n")),
                     "b=;a=x\xC3\xA9;");
}
END_TEST

START_TEST(test_what_is_no_match)
{
    static const struct slice none[] = {
        SLICE_LIT(""),
        SLICE_LIT("{}"),
        SLICE_LIT("[]"),
        SLICE_LIT("[\"a\",\"b\"]"),
        SLICE_LIT("null"),
        SLICE_LIT("\"a\""),
        SLICE_LIT("{\"a\":1}"),
        SLICE_LIT("{\"a\":null}"),
        SLICE_LIT("{\"a\":[\"x\"]}"),
        SLICE_LIT("{\"a\":{\"b\":\"x\"}}"),
        SLICE_LIT("{\"a\":\"x\",\"b\":true}"),
        SLICE_LIT("{\"\":\"x\"}"),
        SLICE_LIT("{\"a\":\"x\",\"a\":\"x\"}"),
        SLICE_LIT("{\"a\":\"x\",\"b\":\"y\",\"\\u0061\":\"z\"}"),
        SLICE_LIT("{\"a\":\"4\\u00002\"}"),
        SLICE_LIT("{\"a\":\"4\\n2\"}"),
        SLICE_LIT("{\"a\\u0000\":\"42\"}"),
        SLICE_LIT("{\"a\":\"\x7F\"}"),
        SLICE_LIT("{\"a\":\"\\ud800\"}"),
        SLICE_LIT("{\"a\":\"\xFF\"}"),
        SLICE_LIT("{\"a\":\"x\"}}"),
        SLICE_LIT("{\"a\":\"x\""),
        SLICE_LIT("{\"a\":\"x\"}\0"),
    };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_msg(strcmp(shown(none[i]), "none") == 0, "%s", none[i].ptr);
}
END_TEST

static void put_pairs(struct buf *json, int count, size_t name_bytes, size_t value_bytes)
{
    buf_clear(json);
    for (int i = 0; i < count; i++) {
        buf_printf(json, "%s\"%0*d\":\"", i ? "," : "{", (int)name_bytes, i);
        for (size_t j = 0; j < value_bytes; j++)
            buf_putc(json, 'x');
        buf_putc(json, '"');
    }
    buf_putc(json, '}');
}

START_TEST(test_bounds)
{
    struct buf json = {0};
    put_pairs(&json, 1, MATCH_NAME_MAX, 1);
    ck_assert_str_ne(shown(buf_slice(&json)), "none");
    put_pairs(&json, 1, MATCH_NAME_MAX + 1, 1);
    ck_assert_str_eq(shown(buf_slice(&json)), "none");
    put_pairs(&json, 1, 1, MATCH_MAX - 8); /* what publishers may have */
    ck_assert_uint_eq(json.len, MATCH_MAX);
    ck_assert_str_ne(shown(buf_slice(&json)), "none");
    put_pairs(&json, 1, 1, MATCH_MAX);
    ck_assert_str_eq(shown(buf_slice(&json)), "none");
    put_pairs(&json, 100000, 5, 0);
    ck_assert_str_eq(shown(buf_slice(&json)), "none");
    buf_reset(&json);
}
END_TEST

START_TEST(test_the_end_alone_is_no_pair)
{
    const char *at = "", *name, *value;
    ck_assert(!match_next(&at, &name, &value));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("match");
    tcase_add_test(cases, test_pairs_come_back_in_order);
    tcase_add_test(cases, test_what_is_no_match);
    tcase_add_test(cases, test_bounds);
    tcase_add_test(cases, test_the_end_alone_is_no_pair);
    return tests_run(cases);
}
