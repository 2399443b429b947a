/* SPDX-License-Identifier: Apache-2.0 */
#include "common/names.h"
#include "test/unit/vectors.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static void expect_invalid(const char *list, bool (*valid)(struct slice))
{
    cJSON *vectors = vectors_load("patterns.json");
    const cJSON *item, *items = cJSON_GetObjectItemCaseSensitive(vectors, list);
    ck_assert_int_ge(cJSON_GetArraySize(items), 13);
    cJSON_ArrayForEach(item, items)
    {
        struct slice name = vectors_text(item);
        ck_assert_msg(!valid(name), "%s", item->valuestring);
        free((void *)name.ptr);
    }
    cJSON_Delete(vectors);
}

START_TEST(test_invalid_names_of_the_contract)
{
    expect_invalid("invalid_topics", name_topic_valid);
    expect_invalid("invalid_patterns", name_pattern_valid);
}
END_TEST

START_TEST(test_names_in_matches_of_the_contract_are_valid)
{
    cJSON *vectors = vectors_load("patterns.json");
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(vectors, "match"))
    {
        const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(item, "pattern");
        const cJSON *topic = cJSON_GetObjectItemCaseSensitive(item, "topic");
        ck_assert_msg(name_pattern_valid(slice_of(pattern->valuestring)), "%s",
                      pattern->valuestring);
        ck_assert_msg(name_topic_valid(slice_of(topic->valuestring)), "%s", topic->valuestring);
        ck_assert(name_pattern_valid(slice_of(topic->valuestring)));
    }
    cJSON_Delete(vectors);
}
END_TEST

START_TEST(test_topic_bytes)
{
    for (int c = 0; c < 256; c++) {
        char bytes[] = {'a', (char)c, 'b'};
        bool plain = c > 0x20 && c < 0x7F && c != '*' && c != '>';
        ck_assert_msg(name_topic_valid((struct slice){bytes, 3}) == plain, "%d", c);
        ck_assert_msg(name_pattern_valid((struct slice){bytes, 3}) == plain, "%d", c);
    }
    static const char *const good[] = {"\xC3\xA9",           "\xC2\x80",     "\xC2\xA0",
                                       "\xF0\x9F\x98\x80.x", "\xE2\x80\xA8", "{x}:y/z?[q]\\^-"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(name_topic_valid(slice_of(good[i])), "%s", good[i]);
    static const char *const bad[] = {"\xC3", "\xFF", "a.\xED\xA0\x80", "\xC0\xAE"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!name_topic_valid(slice_of(bad[i])), "%zu", i);
    ck_assert(!name_topic_valid(SLICE_NONE));
}
END_TEST

START_TEST(test_topic_length)
{
    char bytes[NAME_TOPIC_MAX + 1];
    memset(bytes, 'x', sizeof bytes);
    ck_assert(name_topic_valid((struct slice){bytes, 1}));
    ck_assert(name_topic_valid((struct slice){bytes, NAME_TOPIC_MAX}));
    ck_assert(!name_topic_valid((struct slice){bytes, NAME_TOPIC_MAX + 1}));
}
END_TEST

START_TEST(test_patterns)
{
    static const char *const good[] = {"*", ">", "a.*", "*.a", "*.*", "a.>", "*.>", "a.*.b.>", "a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(name_pattern_valid(slice_of(good[i])), "%s", good[i]);
        ck_assert(name_is_pattern(slice_of(good[i])) == (i < 8));
    }
    static const char *const bad[] = {">.>", "a.>x", "**", ">>", "*>", "a.*b", "*.", ".>", "> "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!name_pattern_valid(slice_of(bad[i])), "%s", bad[i]);
}
END_TEST

START_TEST(test_namespaces_and_prefixes)
{
    char bytes[65];
    memset(bytes, 'x', sizeof bytes);
    ck_assert(name_ns_valid(SLICE_LIT("default")));
    ck_assert(name_ns_valid(SLICE_LIT("A-z_09")));
    ck_assert(name_ns_valid((struct slice){bytes, 64}));
    ck_assert(!name_ns_valid((struct slice){bytes, 65}));
    ck_assert(name_prefix_valid((struct slice){bytes, 64}));
    ck_assert(!name_prefix_valid((struct slice){bytes, 65}));
    ck_assert(name_prefix_valid(SLICE_LIT("my.app:sse-1_x")));
    static const char *const bad[] = {"", "a b", "a{b", "a}b", "a*b", "\xC3\xA9", "a/b", "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert(!name_ns_valid(slice_of(bad[i])));
        ck_assert(!name_prefix_valid(slice_of(bad[i])));
    }
    ck_assert(!name_ns_valid(SLICE_LIT("a.b")));
    ck_assert(!name_ns_valid(SLICE_LIT("a:b")));
}
END_TEST

START_TEST(test_keys)
{
    struct buf b = {0};
    name_put_key(&b, "sse", SLICE_LIT("shop"));
    buf_putc(&b, ' ');
    name_put_log(&b, "sse", SLICE_LIT("shop"), SLICE_LIT("a.b"));
    buf_putc(&b, ' ');
    name_put_channel(&b, "sse", SLICE_LIT("shop"), SLICE_LIT("a.b"));
    ck_assert(slice_is(buf_slice(&b), "sse:{shop} sse:{shop}:log:a.b sse:{shop}:ch:a.b"));
    buf_reset(&b);
}
END_TEST

START_TEST(test_bridges_have_names_of_their_own)
{
    struct buf b = {0};
    name_put_bridge(&b, SLICE_LIT("sse"), SLICE_LIT("orders:eu"));
    buf_putc(&b, ' ');
    name_put_bridge(&b, SLICE_LIT("a:b%"), SLICE_LIT("c"));
    ck_assert(slice_is(buf_slice(&b), "bridge:sse:orders:eu bridge:a%3Ab%25:c"));
    buf_reset(&b);
}
END_TEST

START_TEST(test_what_is_a_relays_own)
{
    static const char *const own[] = {"sse:{a}:ch:b", "sse:{", "sse:node:1", "sse:probe:1",
                                      "sse:bridge:a:b"};
    static const char *const others[] = {"sse",      "sse:",   "sse:nodes", "sse.{a}",
                                         "xsse:{a}", "ss:{a}", ""};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        ck_assert_msg(name_is_own(slice_of(own[i]), "sse"), "%s", own[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_msg(!name_is_own(slice_of(others[i]), "sse"), "%s", others[i]);
}
END_TEST

static void expect_glob(const char *pattern, const char *want)
{
    struct buf b = {0};
    name_put_glob(&b, "sse", SLICE_LIT("n"), slice_of(pattern));
    ck_assert_msg(slice_is(buf_slice(&b), want), "%.*s", (int)b.len, b.ptr);
    buf_reset(&b);
}

START_TEST(test_globs)
{
    expect_glob(">", "sse:{n}:ch:*");
    expect_glob("a.*", "sse:{n}:ch:a.*");
    expect_glob("a.*.b.>", "sse:{n}:ch:a.*.b.*");
    expect_glob("a?.[b-c]^\\.*", "sse:{n}:ch:a\\?.\\[b-c]^\\\\.*");
}
END_TEST

START_TEST(test_channels_taken_apart)
{
    struct slice ns = SLICE_NONE, topic = SLICE_NONE;
    ck_assert(name_split_channel(SLICE_LIT("my:p:{shop}:ch:a.{b}:ch:c"), "my:p", &ns, &topic) ==
              OK);
    ck_assert(slice_is(ns, "shop"));
    ck_assert(slice_is(topic, "a.{b}:ch:c"));
    static const struct slice bad[] = {
        SLICE_LIT(""),
        SLICE_LIT("my:p"),
        SLICE_LIT("my:p:"),
        SLICE_LIT("my:p:{"),
        SLICE_LIT("my:p:{shop"),
        SLICE_LIT("my:p:{shop}"),
        SLICE_LIT("my:p:{shop}:ch:"),
        SLICE_LIT("my:p:{shop}:log:a"),
        SLICE_LIT("my:p:{}:ch:a"),
        SLICE_LIT("my:p:{a b}:ch:a"),
        SLICE_LIT("my:p:{shop}:ch:a..b"),
        SLICE_LIT("my:p:{shop}:ch:*"),
        SLICE_LIT("my:p:{shop}:ch:a\0"),
        SLICE_LIT("my:q:{shop}:ch:a"),
        SLICE_LIT("my:p2:{shop}:ch:a"),
        SLICE_LIT("MY:p:{shop}:ch:a"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(name_split_channel(bad[i], "my:p", &ns, &topic) == ERR_INVALID, "%s",
                      bad[i].ptr);
    ck_assert(slice_is(ns, "shop"));
}
END_TEST

START_TEST(test_lookup_of_one_namespace_is_none_of_another)
{
    struct buf b = {0};
    name_put_lookup(&b, SLICE_LIT("ab"), SLICE_LIT("c"));
    ck_assert(slice_eq(buf_slice(&b), SLICE_LIT("ab\0c")));
    buf_clear(&b);
    name_put_lookup(&b, SLICE_LIT("a"), SLICE_LIT("bc"));
    ck_assert(slice_eq(buf_slice(&b), SLICE_LIT("a\0bc")));
    size_t len;
    char *text = buf_take(&b, &len);
    ck_assert_uint_eq(len, 4);
    ck_assert_str_eq(text + 2, "bc");
    free(text);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("names");
    tcase_add_test(tests, test_invalid_names_of_the_contract);
    tcase_add_test(tests, test_names_in_matches_of_the_contract_are_valid);
    tcase_add_test(tests, test_topic_bytes);
    tcase_add_test(tests, test_topic_length);
    tcase_add_test(tests, test_patterns);
    tcase_add_test(tests, test_namespaces_and_prefixes);
    tcase_add_test(tests, test_keys);
    tcase_add_test(tests, test_bridges_have_names_of_their_own);
    tcase_add_test(tests, test_what_is_a_relays_own);
    tcase_add_test(tests, test_globs);
    tcase_add_test(tests, test_channels_taken_apart);
    tcase_add_test(tests, test_lookup_of_one_namespace_is_none_of_another);
    return tests_run(tests);
}
