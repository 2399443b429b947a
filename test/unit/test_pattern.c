/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/pattern.h"
#include "common/names.h"
#include "test/unit/vectors.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>

static struct slice text_of(const cJSON *object, const char *name)
{
    return slice_of(cJSON_GetObjectItemCaseSensitive(object, name)->valuestring);
}

START_TEST(test_matches_of_the_contract)
{
    cJSON *vectors = vectors_load("patterns.json");
    const cJSON *item, *items = cJSON_GetObjectItemCaseSensitive(vectors, "match");
    ck_assert_int_ge(cJSON_GetArraySize(items), 34);
    cJSON_ArrayForEach(item, items)
    {
        struct slice pattern = text_of(item, "pattern"), topic = text_of(item, "topic");
        bool want = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "match"));
        ck_assert_msg(pattern_matches(pattern, topic) == want, "%s %s", pattern.ptr, topic.ptr);
    }
    cJSON_Delete(vectors);
}
END_TEST

START_TEST(test_inclusions_of_the_contract)
{
    cJSON *vectors = vectors_load("patterns.json");
    const cJSON *item, *items = cJSON_GetObjectItemCaseSensitive(vectors, "includes");
    ck_assert_int_ge(cJSON_GetArraySize(items), 18);
    cJSON_ArrayForEach(item, items)
    {
        struct slice granted = text_of(item, "granted"), requested = text_of(item, "requested");
        bool want = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "ok"));
        ck_assert_msg(pattern_includes(granted, requested) == want, "%s %s", granted.ptr,
                      requested.ptr);
    }
    cJSON_Delete(vectors);
}
END_TEST

#define NAMES_MAX 1000

struct names {
    char text[NAMES_MAX][16];
    size_t count;
};

/* All names of 1 to @depth tokens out of @tokens that are valid. */
static void enumerate(struct names *names, const char *const *tokens, size_t count, size_t depth,
                      const char *so_far)
{
    for (size_t i = 0; i < count && depth > 0; i++) {
        struct buf b = {0};
        buf_printf(&b, "%s%s%s", so_far, *so_far != '\0' ? "." : "", tokens[i]);
        buf_putc(&b, '\0');
        if (name_pattern_valid((struct slice){b.ptr, b.len - 1})) {
            ck_assert_uint_lt(names->count, NAMES_MAX);
            ck_assert_uint_le(b.len, sizeof names->text[0]);
            memcpy(names->text[names->count++], b.ptr, b.len);
            enumerate(names, tokens, count, depth - 1, b.ptr);
        }
        buf_reset(&b);
    }
}

/* By the definition, token lists in hand: NULL ends a list. */
static bool naive_matches(const char *pattern, const char *topic)
{
    for (;;) {
        if (pattern[0] == '>')
            return true;
        if (pattern[0] != '*' && pattern[0] != topic[0])
            return false;
        if (pattern[1] == '\0' || topic[1] == '\0')
            return pattern[1] == topic[1];
        pattern += 2;
        topic += 2;
    }
}

static struct names topics, patterns;

START_TEST(test_brute_force)
{
    /* Patterns of up to 3 tokens over {a, b}: topics of up to 4 tokens over {a, b, c} tell all of
     * them apart. */
    static const char *const tokens[] = {"a", "b", "c"}, *const wild[] = {"a", "b", "*", ">"};
    enumerate(&topics, tokens, 3, 4, "");
    enumerate(&patterns, wild, 4, 3, "");
    ck_assert_uint_eq(topics.count, 3 + 9 + 27 + 81);
    ck_assert_uint_eq(patterns.count, 4 + 12 + 36);
    for (size_t g = 0; g < patterns.count; g++) {
        for (size_t r = 0; r < patterns.count; r++) {
            bool want = true;
            for (size_t t = 0; t < topics.count; t++)
                if (naive_matches(patterns.text[r], topics.text[t]) &&
                    !naive_matches(patterns.text[g], topics.text[t]))
                    want = false;
            ck_assert_msg(
                pattern_includes(slice_of(patterns.text[g]), slice_of(patterns.text[r])) == want,
                "%s includes %s", patterns.text[g], patterns.text[r]);
        }
        for (size_t t = 0; t < topics.count; t++)
            ck_assert_msg(pattern_matches(slice_of(patterns.text[g]), slice_of(topics.text[t])) ==
                              naive_matches(patterns.text[g], topics.text[t]),
                          "%s matches %s", patterns.text[g], topics.text[t]);
    }
}
END_TEST

/* Redis's own matching of globs, as far as name_put_glob() uses it. */
static bool glob_matches(const char *glob, const char *text)
{
    if (*glob == '\0')
        return *text == '\0';
    if (*glob == '*')
        return glob_matches(glob + 1, text) || (*text != '\0' && glob_matches(glob, text + 1));
    if (*glob == '\\' && glob[1] != '\0')
        glob++;
    return *glob == *text && glob_matches(glob + 1, text + 1);
}

START_TEST(test_globs_miss_nothing)
{
    static const char *const tokens[] = {"a", "?", "[", "\\"}, *const wild[] = {"a",  "?", "[",
                                                                                "\\", "*", ">"};
    struct names *t = calloc(2, sizeof *t), *p = t + 1;
    enumerate(t, tokens, 4, 3, "");
    enumerate(p, wild, 6, 3, "");
    for (size_t i = 0; i < p->count; i++) {
        struct buf glob = {0}, channel = {0};
        name_put_glob(&glob, "p", SLICE_LIT("n"), slice_of(p->text[i]));
        buf_putc(&glob, '\0');
        for (size_t j = 0; j < t->count; j++) {
            buf_clear(&channel);
            name_put_channel(&channel, "p", SLICE_LIT("n"), slice_of(t->text[j]));
            buf_putc(&channel, '\0');
            if (pattern_matches(slice_of(p->text[i]), slice_of(t->text[j])))
                ck_assert_msg(glob_matches(glob.ptr, channel.ptr), "%s %s", glob.ptr, channel.ptr);
        }
        buf_reset(&glob);
        buf_reset(&channel);
    }
    free(t);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("pattern");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_matches_of_the_contract);
    tcase_add_test(tests, test_inclusions_of_the_contract);
    tcase_add_test(tests, test_brute_force);
    tcase_add_test(tests, test_globs_miss_nothing);
    return tests_run(tests);
}
