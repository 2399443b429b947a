/* SPDX-License-Identifier: Apache-2.0 */
#include "common/stencil.h"
#include "common/names.h"
#include "relay/auth/draft.h"
#include "test/unit/auth_rig.h"
#include "test/unit/tests_run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What @stencil comes to with @claims, and why not more. */
static void fill(const char *stencil, const char *claims, struct strings *out, struct buf *why)
{
    struct stencil *s = NULL;
    cJSON *tree = rig_json(claims);
    const char *wrong = stencil_new(slice_of(stencil), &s);
    ck_assert_msg(wrong == NULL, "%s: %s", stencil, wrong);
    size_t count = stencil_fill(s, STENCIL_TEXTS, draft_look, tree, out, why);
    ck_assert_uint_eq(count, out->count);
    for (size_t i = 0; i < out->count; i++)
        ck_assert_msg(name_pattern_valid(slice_of(out->items[i])), "%s", out->items[i]);
    stencil_free(s);
    cJSON_Delete(tree);
}

static void expect(const char *stencil, const char *claims, const char *words)
{
    struct strings out = {0};
    struct buf why = {0};
    fill(stencil, claims, &out, &why);
    rig_expect(&out, words);
    ck_assert_msg((out.count == 0) <= (why.len > 0), "%s: nothing, and no reason", stencil);
    strings_reset(&out);
    buf_reset(&why);
}

static void expect_reason(const char *stencil, const char *claims, const char *reason)
{
    struct strings out = {0};
    struct buf why = {0};
    fill(stencil, claims, &out, &why);
    rig_expect_parts(buf_slice(&why), reason);
    strings_reset(&out);
    buf_reset(&why);
}

START_TEST(test_refuses_what_is_no_pattern)
{
    static const char *const wrong[] = {
        "",          "a..b",    "a.",         ".a",       "a b",      "a.>.b", "a*.b",
        "x{sub}",    "{sub}x",  "a.{sub}b",   "a.{sub",   "a.sub}",   "a.{}",  "{a}{b}",
        "a.{b{c}}",  "{/a~}",   "{/a~2b}",    "a.\n",     "{a}.{b}.", "}",     "{",
        "a.{x}.>.b", "{a\x01}", "a.{b}.c{d}", "{b}..{c}",
    };
    struct stencil *s;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *why = stencil_new(slice_of(wrong[i]), &s);
        ck_assert_msg(why != NULL, "%s was accepted", wrong[i]);
        ck_assert_msg(strstr(why, "expected") == why, "%s", why);
    }
}
END_TEST

START_TEST(test_fills_whole_tokens)
{
    expect("orders.*", "{}", "orders.*");
    expect(">", "{}", ">");
    expect("user.{sub}", "{'sub': '42'}", "user.42");
    expect("user.{sub}.>", "{'sub': 42}", "user.42.>");
    expect("{sub}", "{'sub': 'x'}", "x");
    expect("{a}.{b}", "{'a': 'x', 'b': 'y'}", "x.y");
    expect("{a}.m.{a}", "{'a': 'x'}", "x.m.x");
    expect("o.{/org/id}", "{'org': {'id': 'o1'}}", "o.o1");
    expect("o.{/orgs/1}", "{'orgs': ['a', 'b']}", "o.b");
    expect("o.{/a~1b/c~0d}", "{'a/b': {'c~d': 'x'}}", "o.x");
    /* Claims are often named by URLs. */
    expect("r.{https://app.example/id}", "{'https://app.example/id': 7}", "r.7");
    expect("u.{cognito:username}", "{'cognito:username': 'jo'}", "u.jo");
}
END_TEST

START_TEST(test_lists_fill_once_for_each)
{
    expect("o.{/o}", "{'o': ['a', 'b', 3]}", "o.a o.b o.3");
    expect("{a}.{b}", "{'a': ['x', 'y'], 'b': [1, 2]}", "x.1 y.1 x.2 y.2");
    expect("{a}.{a}", "{'a': ['x', 'y']}", "x.x y.y");
    expect("o.{/o}", "{'o': []}", "");
    expect("o.{/o}", "{'o': [['a'], {'b': 'c'}, null, true, 'd', '']}", "o.d");
    expect_reason("o.{/o}", "{'o': ['a', '']}", "some are empty");
    expect_reason("o.{/o}", "{'o': ['a', []]}", "of a list only texts");
}
END_TEST

START_TEST(test_what_is_missing_grants_nothing)
{
    expect("u.{sub}", "{}", "");
    expect("u.{sub}", "{'sub': ''}", "");
    expect("u.{sub}", "{'sub': null}", "");
    expect("u.{sub}", "{'sub': true}", "");
    expect("u.{sub}", "{'sub': {'sub': 'x'}}", "");
    expect("u.{Sub}", "{'sub': 'x'}", "");
    expect("{a}.{b}", "{'a': 'x'}", "");
    expect("u.{/a/b}", "{'a': 'x'}", "");
    expect_reason("u.{sub}", "{}", "{sub}: the token has no such claim");
    expect_reason("u.{sub}", "{'sub': ''}", "{sub}: it is empty");
    expect_reason("u.{sub}", "{'sub': {}}", "{sub}: it is neither a text nor a whole number");
}
END_TEST

/* Two numbers that differ are never one text. */
START_TEST(test_numbers_are_whole_and_exact)
{
    expect("u.{n}", "{'n': 0}", "u.0");
    expect("u.{n}", "{'n': -0}", "u.0");
    expect("u.{n}", "{'n': -7}", "u.-7");
    expect("u.{n}", "{'n': 1e3}", "u.1000");
    expect("u.{n}", "{'n': 9007199254740991}", "u.9007199254740991");
    expect("u.{n}", "{'n': 9007199254740992}", "");
    expect("u.{n}", "{'n': 9007199254740993}", "");
    expect("u.{n}", "{'n': 1.5}", "");
    expect("u.{n}", "{'n': 1e400}", "");
    expect("u.{n}", "{'n': -1e400}", "");
}
END_TEST

/* Attack 18. */
START_TEST(test_values_stay_one_token)
{
    expect("user.{sub}", "{'sub': '*'}", "user.%2A");
    expect("user.{sub}", "{'sub': '>'}", "user.%3E");
    expect("user.{sub}", "{'sub': 'a.b'}", "user.a%2Eb");
    expect("user.{sub}", "{'sub': 'a/../b'}", "user.a/%2E%2E/b");
    expect("user.{sub}", "{'sub': '%2E'}", "user.%252E");
    expect("user.{sub}", "{'sub': 'a\\r\\nb'}", "user.a%0D%0Ab");
    expect("user.{sub}", "{'sub': 'a b'}", "user.a%20b");
    expect("user.{sub}", "{'sub': '\\u007f'}", "user.%7F");
    expect("user.{sub}", "{'sub': '{sub}'}", "user.{sub}");
    expect("user.{sub}", "{'sub': 'é'}", "user.é");
    expect("user.{sub}.x", "{'sub': '..'}", "user.%2E%2E.x");
}
END_TEST

START_TEST(test_longer_than_a_topic_grants_nothing)
{
    char claims[1024], want[600];
    char value[NAME_TOPIC_MAX + 1];
    memset(value, 'x', NAME_TOPIC_MAX - 2);
    value[NAME_TOPIC_MAX - 2] = '\0';
    snprintf(claims, sizeof claims, "{'sub': '%s'}", value);
    snprintf(want, sizeof want, "u.%s", value);
    expect("u.{sub}", claims, want);
    expect("us.{sub}", claims, "");
    expect_reason("us.{sub}", claims, "longer than a topic may be");
    value[0] = '.'; /* is three bytes */
    snprintf(claims, sizeof claims, "{'sub': '%s'}", value);
    expect("u.{sub}", claims, "");
}
END_TEST

START_TEST(test_bounds_of_lists)
{
    struct buf claims = {0};
    struct strings out = {0};
    struct buf why = {0};
    buf_puts(&claims, "{'x': [0");
    for (int i = 1; i < 10000; i++)
        buf_printf(&claims, ",%d", i);
    buf_puts(&claims, "], 'y': [1, 2]}");
    buf_putc(&claims, '\0');
    fill("a.{x}", claims.ptr, &out, &why);
    ck_assert_uint_eq(out.count, 64);
    ck_assert_str_eq(out.items[63], "a.63");
    rig_expect_parts(buf_slice(&why), "the first 64");
    strings_reset(&out);
    buf_reset(&why);
    fill("a.{x}.{y}", claims.ptr, &out, &why);
    ck_assert_uint_eq(out.count, STENCIL_FILLED_MAX);
    rig_expect_parts(buf_slice(&why), "only the first 64 combinations count");
    strings_reset(&out);
    buf_reset(&why);
    buf_reset(&claims);

    struct stencil *s;
    ck_assert_ptr_null(stencil_new(slice_of("{a}.{b}.{c}.{d}.{e}.{f}.{g}.{h}"), &s));
    stencil_free(s);
    ck_assert_ptr_nonnull(stencil_new(slice_of("{a}.{b}.{c}.{d}.{e}.{f}.{g}.{h}.{i}"), &s));
}
END_TEST

/* --- by brute force --------------------------------------------------------------------------- */

static void put_all(struct strings *all, const char *const *letters, size_t count, size_t depth,
                    const char *so_far)
{
    for (size_t i = 0; i < count && depth > 0; i++) {
        struct buf b = {0};
        buf_printf(&b, "%s%s", so_far, letters[i]);
        buf_putc(&b, '\0');
        strings_add(all, slice_of(b.ptr));
        put_all(all, letters, count, depth - 1, b.ptr);
        buf_reset(&b);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All values of up to four of what has a meaning somewhere: each one valid token, no two the same.
 */
START_TEST(test_brute_force_injective)
{
    static const char *const letters[] = {".", "*", ">", "%", " ", "\n", "2", "A", "E", "\xC2\x80"};
    struct strings values = {0}, tokens = {0};
    put_all(&values, letters, 10, 4, "");
    ck_assert_uint_eq(values.count, 10 + 100 + 1000 + 10000);
    for (size_t i = 0; i < values.count; i++) {
        struct buf token = {0};
        stencil_put_token(&token, slice_of(values.items[i]));
        ck_assert_msg(name_topic_valid(buf_slice(&token)), "%s", values.items[i]);
        ck_assert_ptr_null(memchr(token.ptr, '.', token.len));
        strings_add(&tokens, buf_slice(&token));
        buf_reset(&token);
    }
    qsort(tokens.items, tokens.count, sizeof *tokens.items, by_text);
    for (size_t i = 1; i < tokens.count; i++)
        ck_assert_str_ne(tokens.items[i - 1], tokens.items[i]);
    strings_reset(&values);
    strings_reset(&tokens);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("stencil");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_refuses_what_is_no_pattern);
    tcase_add_test(tests, test_fills_whole_tokens);
    tcase_add_test(tests, test_lists_fill_once_for_each);
    tcase_add_test(tests, test_what_is_missing_grants_nothing);
    tcase_add_test(tests, test_numbers_are_whole_and_exact);
    tcase_add_test(tests, test_values_stay_one_token);
    tcase_add_test(tests, test_longer_than_a_topic_grants_nothing);
    tcase_add_test(tests, test_bounds_of_lists);
    tcase_add_test(tests, test_brute_force_injective);
    return tests_run(tests);
}
