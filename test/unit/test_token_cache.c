/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens that were verified lately: found again, bounded, the oldest go first. */
#include <string.h>

#include "common/hash.h"
#include "relay/http/token_cache.h"
#include "test/unit/tests_run.h"

static uint8_t key[TOKEN_CACHE_KEY];

static const uint8_t *key_of(unsigned n)
{
    memcpy(key, &n, sizeof(n));
    return key;
}

static struct grant *grant_of(const char *subject)
{
    struct grant_fields f = {.subject = slice_dup(slice_of(subject))};
    return grant_new(&f);
}

static void add(struct token_cache *cache, unsigned n)
{
    struct grant *g = grant_of("42");
    token_cache_add(cache, key_of(n), g);
    grant_unref(g);
}

START_TEST(test_a_grant_is_found_by_all_of_its_key)
{
    struct token_cache *cache = token_cache_new();
    struct grant *g = grant_of("42");
    token_cache_add(cache, key_of(1), g);
    ck_assert_ptr_eq(token_cache_find(cache, key_of(1)), g);
    ck_assert_ptr_null(token_cache_find(cache, key_of(2)));
    key[TOKEN_CACHE_KEY - 1] = 1;
    ck_assert_ptr_null(token_cache_find(cache, key_of(1)));
    key[TOKEN_CACHE_KEY - 1] = 0;
    token_cache_drop(cache, key_of(1));
    token_cache_drop(cache, key_of(1));
    ck_assert_ptr_null(token_cache_find(cache, key_of(1)));
    grant_unref(g);
    token_cache_free(cache);
}
END_TEST

START_TEST(test_the_oldest_go_first)
{
    struct token_cache *cache = token_cache_new();
    for (unsigned n = 0; n < TOKEN_CACHE_MAX + 10; n++)
        add(cache, n);
    ck_assert_uint_eq(token_cache_count(cache), TOKEN_CACHE_MAX);
    ck_assert_ptr_null(token_cache_find(cache, key_of(9)));
    ck_assert_ptr_nonnull(token_cache_find(cache, key_of(10)));
    ck_assert_ptr_nonnull(token_cache_find(cache, key_of(TOKEN_CACHE_MAX + 9)));
    token_cache_clear(cache);
    ck_assert_uint_eq(token_cache_count(cache), 0);
    add(cache, 1);
    token_cache_free(cache);
}
END_TEST

int main(void)
{
    hash_seed_init();
    TCase *t = tcase_create("token_cache");
    tcase_add_test(t, test_a_grant_is_found_by_all_of_its_key);
    tcase_add_test(t, test_the_oldest_go_first);
    return tests_run(t);
}
