/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"
#include "test/unit/rng.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <string.h>

static bool accepts(struct slice text)
{
    cJSON *tree = NULL;
    enum err e = json_parse(text, &tree);
    ck_assert_int_eq(e == OK, tree != NULL);
    cJSON_Delete(tree);
    /* What makes no tree must judge alike; a byte order mark it does not take. */
    bool has_mark = slice_has_prefix(text, SLICE_LIT("\xEF\xBB\xBF"));
    if (slice_utf8_valid(text) && e != ERR_RANGE)
        ck_assert_int_eq(json_is_valid(text), e == OK && !has_mark);
    return e == OK;
}

START_TEST(test_parse_takes_json)
{
    static const char *const good[] = {
        "null",
        " true ",
        "\t[1, 2.5, -0, 1e5, 1E-5, 0.0]\r\n",
        "\"\"",
        "{\"a\":{\"b\":[[],{}]}}",
        "\"\\u00e9\\ud83d\\ude00\\n\\/\"",
        "\"\\u0000\"",
        "\"\xC3\xA9\xF0\x9F\x98\x80\"",
        "\xEF\xBB\xBF{}",
        "\"\x7F\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(accepts(slice_of(good[i])), "%s", good[i]);
}
END_TEST

START_TEST(test_parse_refuses_the_rest)
{
    static const struct slice bad[] = {
        SLICE_LIT(""),
        SLICE_LIT(" "),
        SLICE_LIT("\xEF\xBB\xBF"),
        SLICE_LIT("{} {}"),
        SLICE_LIT("{}x"),
        SLICE_LIT("{}\0"),
        SLICE_LIT("\0{}"),
        SLICE_LIT("{,}"),
        SLICE_LIT("[1,]"),
        SLICE_LIT("[1 2]"),
        SLICE_LIT("{\"a\":1,}"),
        SLICE_LIT("{a:1}"),
        SLICE_LIT("{'a':1}"),
        SLICE_LIT("[01]"),
        SLICE_LIT("[1.]"),
        SLICE_LIT("[.5]"),
        SLICE_LIT("[+1]"),
        SLICE_LIT("[-]"),
        SLICE_LIT("[1e]"),
        SLICE_LIT("[0x10]"),
        SLICE_LIT("NaN"),
        SLICE_LIT("nul"),
        SLICE_LIT("truex"),
        SLICE_LIT("\""),
        SLICE_LIT("\"a"),
        SLICE_LIT("\"\\"),
        SLICE_LIT("\"\\\""),
        SLICE_LIT("\"\\x\""),
        SLICE_LIT("\"\\\0\""),
        SLICE_LIT("\"\\uZZZZ\""),
        SLICE_LIT("\"\\u00\""),
        SLICE_LIT("\"a\nb\""),
        SLICE_LIT("\"a\0b\""),
        SLICE_LIT("\"\xFF\""),
        SLICE_LIT("\"\xED\xA0\x80\""),
        SLICE_LIT("[\x01]"),
        SLICE_LIT("/*c*/1"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!accepts(bad[i]), "%zu: %s", i, bad[i].ptr);
}
END_TEST

START_TEST(test_depth_is_bounded)
{
    struct buf b = {0};
    for (int i = 0; i < 1000000; i++)
        buf_putc(&b, '[');
    ck_assert(!accepts(buf_slice(&b)));
    buf_reset(&b);
}
END_TEST

static bool string_is(struct slice text, bool lenient, const char *want)
{
    cJSON *tree;
    if ((lenient ? json_parse_lenient(text, &tree) : json_parse(text, &tree)) != OK)
        return false;
    bool same = cJSON_IsString(tree) && strcmp(tree->valuestring, want) == 0;
    cJSON_Delete(tree);
    return same;
}

START_TEST(test_values_are_bounded)
{
    struct buf b = {0};
    cJSON *tree;
    buf_putc(&b, '[');
    for (size_t i = 0; i < JSON_VALUES_MAX; i++)
        buf_puts(&b, "0,");
    buf_puts(&b, "0]");
    ck_assert_int_eq(json_parse(buf_slice(&b), &tree), ERR_RANGE);
    ck_assert_int_eq(json_parse_lenient(buf_slice(&b), &tree), ERR_RANGE);
    buf_clear(&b);
    buf_putc(&b, '[');
    for (size_t i = 2; i < JSON_VALUES_MAX; i++)
        buf_puts(&b, "\",\",");
    buf_puts(&b, "0]"); /* commas in strings are none */
    ck_assert_int_eq(json_parse(buf_slice(&b), &tree), OK);
    cJSON_Delete(tree);
    buf_reset(&b);
}
END_TEST

/* Half of a surrogate pair is JSON (RFC 8259, 8.2). */
START_TEST(test_half_of_a_surrogate_pair_is_taken_and_noticed)
{
    static const struct {
        const char *json, *strict, *lenient;
    } texts[] = {
        {"\"\\ud83d\"", "\n", "\xEF\xBF\xBD"},
        {"\"a\\uDE00b\"", "a\nb",
         "a\xEF\xBF\xBD"
         "b"},
        {"\"\\ud83d\\ud83d\\ude00\"", "\n\xF0\x9F\x98\x80", "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
        {"\"\\ude00\\ud83d\"", "\n\n", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\"\\ud800\\u0000\"", "\n\n", "\xEF\xBF\xBD"},
        {"\"\\ud83d\\n\"", "\n\n", "\xEF\xBF\xBD\n"},
        {"\"\\\\ud83d\"", "\\ud83d", "\\ud83d"},
        {"\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cJSON *tree;
        ck_assert_msg(json_parse(slice_of(texts[i].json), &tree) == OK, "%s", texts[i].json);
        ck_assert_str_eq(tree->valuestring, texts[i].strict);
        cJSON_Delete(tree);
        ck_assert(json_parse_lenient(slice_of(texts[i].json), &tree) == OK);
        ck_assert_str_eq(tree->valuestring, texts[i].lenient);
        cJSON_Delete(tree);
    }
}
END_TEST

START_TEST(test_depth_has_an_exact_bound)
{
    static const char *const pairs[][2] = {{"[", "]"}, {"{\"a\":", "}"}, {"[0,", "]"}};
    struct buf b = {0};
    for (size_t i = 0; i < 2 * sizeof(pairs) / sizeof(*pairs); i++) {
        size_t depth = JSON_DEPTH_MAX + i % 2;
        cJSON *tree = NULL;
        buf_clear(&b);
        for (size_t n = 0; n < depth; n++)
            buf_puts(&b, pairs[i / 2][0]);
        buf_puts(&b, "\"]]}\""); /* brackets in strings are none */
        for (size_t n = 0; n < depth; n++)
            buf_puts(&b, pairs[i / 2][1]);
        enum err expected = i % 2 ? ERR_FULL : OK;
        ck_assert_int_eq(json_parse(buf_slice(&b), &tree), expected);
        cJSON_Delete(tree);
        tree = NULL;
        ck_assert_int_eq(json_parse_lenient(buf_slice(&b), &tree), expected);
        cJSON_Delete(tree);
    }
    buf_reset(&b);
}
END_TEST

START_TEST(test_escaped_nul_is_noticed)
{
    ck_assert(string_is(SLICE_LIT("\"a\\u0000b\""), false, "a\nb"));
    ck_assert(string_is(SLICE_LIT("\"\\u0000\\u0000\""), false, "\n\n"));
    /* Behind an escaped backslash it is text. */
    ck_assert(string_is(SLICE_LIT("\"a\\\\u0000b\""), false, "a\\u0000b"));
    ck_assert(string_is(SLICE_LIT("\"a\\\\\\u0000b\""), false, "a\\\nb"));
    ck_assert(string_is(SLICE_LIT("\"a\\u0000b\""), true, "ab"));
    ck_assert(string_is(SLICE_LIT("\"a\\\\u0000b\\u0000\""), true, "a\\u0000b"));
    ck_assert(string_is(SLICE_LIT("\"a\\u00e9\\u0000b\""), true,
                        "a\xC3\xA9"
                        "b"));
}
END_TEST

START_TEST(test_lenient_lets_bytes_pass)
{
    ck_assert(string_is(SLICE_LIT("\"\xFF\xC3\""), true, "\xFF\xC3"));
    ck_assert(!string_is(SLICE_LIT("\"\xFF\xC3\""), false, "\xFF\xC3"));
}
END_TEST

static bool member_is(const char *text, const char *name, const char *want)
{
    struct slice raw;
    ck_assert_msg(accepts(slice_of(text)), "%s", text);
    if (json_raw_member(slice_of(text), name, &raw) != OK)
        return want == NULL;
    return want != NULL && slice_is(raw, want);
}

/* @wanted: its elements, and a NULL. */
static void expect_elements(const char *text, const char *const *wanted)
{
    struct slice rest = slice_of(text), raw;
    ck_assert_msg(accepts(rest), "%s", text);
    for (; *wanted; wanted++) {
        ck_assert_msg(json_raw_next(&rest, &raw), "%s", text);
        ck_assert_msg(slice_is(raw, *wanted), "%s: %.*s", text, (int)raw.len, raw.ptr);
    }
    ck_assert_msg(!json_raw_next(&rest, &raw), "%s", text);
}

START_TEST(test_raw_members)
{
    const char *text = " {\"a\" : 12345678901234567890 ,\"b\":{\"a\":[1,\"]}\\\"\"]}, "
                       "\"\\u0064\":\"x\",\"a\":2, \"n\\u0000\":5,\"\":null}";
    ck_assert(member_is(text, "a", "12345678901234567890"));
    ck_assert(member_is(text, "b", "{\"a\":[1,\"]}\\\"\"]}"));
    ck_assert(member_is(text, "d", "\"x\""));
    ck_assert(member_is(text, "", "null"));
    ck_assert(member_is(text, "n", NULL));
    ck_assert(member_is(text, "c", NULL));
    ck_assert(member_is("\xEF\xBB\xBF{\"a\":1}", "a", "1"));
    ck_assert(member_is("{}", "a", NULL));
    ck_assert(member_is("[]", "a", NULL));
    ck_assert(member_is("\"a\"", "a", NULL));
    ck_assert(member_is("[{\"a\":1}]", "a", NULL));
}
END_TEST

START_TEST(test_raw_elements)
{
    expect_elements(" [ {\"a\":[ ]}, {\"b\":\"{\\\"a\\\":1},[\"},5 ,-1.0e+7,[[1],[]] ,\"]\" ]",
                    (const char *const[]){"{\"a\":[ ]}", "{\"b\":\"{\\\"a\\\":1},[\"}", "5",
                                          "-1.0e+7", "[[1],[]]", "\"]\"", NULL});
    expect_elements("\xEF\xBB\xBF[1]\n", (const char *const[]){"1", NULL});
    expect_elements("[[0]]", (const char *const[]){"[0]", NULL});
    expect_elements("[]", (const char *const[]){NULL});
    expect_elements("[ ]", (const char *const[]){NULL});
    expect_elements("{\"a\":[1]}", (const char *const[]){NULL});
    expect_elements("5", (const char *const[]){NULL});
}
END_TEST

static bool data_is(struct slice raw, struct slice want)
{
    struct buf b = {0};
    bool same = json_put_data(&b, raw) == OK && slice_eq(buf_slice(&b), want);
    buf_reset(&b);
    return same;
}

START_TEST(test_half_of_a_surrogate_pair_in_data_is_sent_as_written)
{
    ck_assert(
        data_is(SLICE_LIT("{ \"delta\": \"\\ud83d\" }"), SLICE_LIT("{\"delta\":\"\\ud83d\"}")));
    ck_assert(data_is(SLICE_LIT("\"\\ud83dx\""), SLICE_LIT("\xEF\xBF\xBDx")));
}
END_TEST

START_TEST(test_data_as_it_is_sent)
{
    ck_assert(data_is(SLICE_LIT("\"plain\""), SLICE_LIT("plain")));
    ck_assert(data_is(SLICE_LIT(" \"a\\n\\\"b\\\"\" "), SLICE_LIT("a\n\"b\"")));
    ck_assert(data_is(SLICE_LIT("\"a\\u0000b\""), SLICE_LIT("ab")));
    ck_assert(data_is(SLICE_LIT("\"\""), SLICE_LIT("")));
    ck_assert(data_is(SLICE_LIT("{ \"a b\" : [ 1 ,\n\"c\\\" d\", null ] }"),
                      SLICE_LIT("{\"a b\":[1,\"c\\\" d\",null]}")));
    ck_assert(data_is(SLICE_LIT("123456789012345678901234567890.10"),
                      SLICE_LIT("123456789012345678901234567890.10")));
    ck_assert(data_is(SLICE_LIT("[\"\\u0000\"]"), SLICE_LIT("[\"\\u0000\"]")));
    struct buf b = {0};
    ck_assert(json_put_data(&b, SLICE_LIT("")) == ERR_INVALID);
    ck_assert(json_put_data(&b, SLICE_LIT("\"a")) == ERR_INVALID);
    ck_assert(json_put_data(&b, SLICE_LIT("[\"a")) == ERR_INVALID);
    buf_reset(&b);
}
END_TEST

static bool written_is(struct slice text, const char *want)
{
    struct buf b = {0};
    json_put_string(&b, text);
    bool same = slice_is(buf_slice(&b), want);
    buf_reset(&b);
    return same;
}

START_TEST(test_strings_written)
{
    ck_assert(written_is(SLICE_NONE, "\"\""));
    ck_assert(written_is(SLICE_LIT("a\"b\\c"), "\"a\\\"b\\\\c\""));
    ck_assert(
        written_is(SLICE_LIT("\n\r\t\b\f\x01\x1F\0"), "\"\\n\\r\\t\\b\\f\\u0001\\u001f\\u0000\""));
    ck_assert(written_is(SLICE_LIT("\xC3\xA9\xFFz"), "\"\xC3\xA9\xEF\xBF\xBDz\""));
    ck_assert(written_is(SLICE_LIT("\xC3\n\xA9"), "\"\xEF\xBF\xBD\\n\xEF\xBF\xBD\""));
}
END_TEST

START_TEST(test_written_strings_are_read_back)
{
    struct rng rng = rng_seeded("json");
    for (int round = 0; round < 5000; round++) {
        char bytes[40];
        struct buf text = {0}, want = {0};
        size_t len = rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)(1 + rng_below(&rng, rng_below(&rng, 2) ? 127 : 255));
        json_put_string(&text, (struct slice){bytes, len});
        buf_put_utf8(&want, (struct slice){bytes, len});
        ck_assert(data_is(buf_slice(&text), buf_slice(&want)));
        ck_assert(accepts(buf_slice(&text)));
        buf_reset(&text);
        buf_reset(&want);
    }
}
END_TEST

/* Texts that are nearly JSON. */
START_TEST(test_both_judges_agree)
{
    static const char *const parts[] = {"{",       "}",  "[",  "]",   ",",    ":",        "\"a\"",
                                        "\"\\n\"", "0",  "-1", "1e5", "true", "false",    "null",
                                        " ",       "\n", "x",  "\"",  "[1]",  "{\"a\":1}"};
    struct rng rng = rng_seeded("judges");
    size_t taken = 0;
    for (int round = 0; round < 200000; round++) {
        struct buf text = {0};
        for (size_t n = 1 + rng_below(&rng, 7); n > 0; n--)
            buf_puts(&text, parts[rng_below(&rng, sizeof parts / sizeof *parts)]);
        taken += accepts(buf_slice(&text));
        buf_reset(&text);
    }
    ck_assert_uint_gt(taken, 5000);
}
END_TEST

START_TEST(test_what_needs_no_tree_may_be_of_any_size)
{
    struct buf b = {0};
    buf_putc(&b, '[');
    for (size_t i = 0; i < JSON_VALUES_MAX; i++)
        buf_puts(&b, "0,");
    buf_puts(&b, "0]");
    ck_assert(json_is_valid(buf_slice(&b)));
    b.ptr[b.len - 1] = '}';
    ck_assert(!json_is_valid(buf_slice(&b)));
    buf_reset(&b);
}
END_TEST

START_TEST(test_dense_json_keeps_its_words)
{
    struct buf b = {0};
    ck_assert_int_eq(json_put_dense(&b, SLICE_LIT("\n{ \"a b\" :\t[ 1.00 , \"\\\" x\" ]\r\n}")),
                     OK);
    ck_assert(slice_is(buf_slice(&b), "{\"a b\":[1.00,\"\\\" x\"]}"));
    ck_assert_int_eq(json_put_dense(&b, SLICE_LIT("\"a")), ERR_INVALID);
    buf_reset(&b);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("json");
    tcase_add_test(tests, test_parse_takes_json);
    tcase_add_test(tests, test_parse_refuses_the_rest);
    tcase_add_test(tests, test_depth_is_bounded);
    tcase_add_test(tests, test_values_are_bounded);
    tcase_add_test(tests, test_depth_has_an_exact_bound);
    tcase_add_test(tests, test_escaped_nul_is_noticed);
    tcase_add_test(tests, test_half_of_a_surrogate_pair_is_taken_and_noticed);
    tcase_add_test(tests, test_half_of_a_surrogate_pair_in_data_is_sent_as_written);
    tcase_add_test(tests, test_lenient_lets_bytes_pass);
    tcase_add_test(tests, test_raw_members);
    tcase_add_test(tests, test_raw_elements);
    tcase_add_test(tests, test_data_as_it_is_sent);
    tcase_add_test(tests, test_strings_written);
    tcase_add_test(tests, test_both_judges_agree);
    tcase_add_test(tests, test_what_needs_no_tree_may_be_of_any_size);
    tcase_add_test(tests, test_dense_json_keeps_its_words);
    tcase_add_test(tests, test_written_strings_are_read_back);
    return tests_run(tests);
}
