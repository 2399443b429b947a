/* SPDX-License-Identifier: Apache-2.0 */
/* Which key verifies a token, and what it takes for signed. */
#include "test/unit/keys_rig.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>

/* --- which of several ------------------------------------------------------------------------- */

static void begin_set(struct buf *set)
{
    buf_puts(set, "{\"keys\":[");
}

static struct keys *end_set(struct buf *set)
{
    buf_puts(set, "{\"kty\":\"x\"}]}");
    struct keys *keys = keys_rig_parse(buf_slice(set), KEYS_RIG_ALL);
    ck_assert_uint_eq(keys_skipped(keys)->count, 1);
    buf_reset(set);
    return keys;
}

static void add(struct buf *set, EVP_PKEY *key, const char *more)
{
    token_rig_put_jwk(set, key, more);
    buf_putc(set, ',');
}

START_TEST(test_kid_chooses)
{
    EVP_PKEY *other = token_rig_key("P-256", 0);
    struct buf set = {0};
    begin_set(&set);
    add(&set, keys_rig_p256, "\"kid\":\"a\"");
    add(&set, other, "\"kid\":\"b\"");
    struct keys *keys = end_set(&set);
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "a"));
    ck_assert_ptr_null(keys_rig_refusal(keys, other, ALG_ES256, "b"));
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "b"),
                     "its signature is wrong");
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "A"), "its kid is unknown");
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, ""), "its kid is unknown");
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, NULL),
                     "without kid several keys would do");
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_rsa, ALG_RS256, "a"), "no key serves its alg");
    keys_free(keys);
    EVP_PKEY_free(other);
}
END_TEST

START_TEST(test_without_kid_the_only_fitting_key_serves)
{
    struct buf set = {0};
    begin_set(&set);
    add(&set, keys_rig_p256, "\"kid\":\"a\"");
    add(&set, keys_rig_rsa, "\"kid\":\"a\"");
    struct keys *keys = end_set(&set);
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, NULL));
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_rsa, ALG_RS256, NULL));
    /* One kid for two kinds is no doubt either. */
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "a"));
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_rsa, ALG_PS512, "a"));
    keys_free(keys);
}
END_TEST

START_TEST(test_two_keys_of_one_kid_serve_nobody)
{
    EVP_PKEY *other = token_rig_key("P-256", 0);
    struct buf set = {0};
    begin_set(&set);
    add(&set, keys_rig_p256, "\"kid\":\"a\"");
    add(&set, other, "\"kid\":\"a\"");
    struct keys *keys = end_set(&set);
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "a"),
                     "several keys have its kid");
    keys_free(keys);
    EVP_PKEY_free(other);
}
END_TEST

/* A key without kid serves tokens of any, but never in place of one that has it. */
START_TEST(test_key_without_kid)
{
    EVP_PKEY *other = token_rig_key("P-256", 0);
    struct buf set = {0};
    begin_set(&set);
    add(&set, keys_rig_p256, NULL);
    add(&set, other, "\"kid\":\"b\"");
    add(&set, keys_rig_rsa, "\"kid\":\"r\"");
    struct keys *keys = end_set(&set);
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "a"));
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "b"),
                     "its signature is wrong");
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_p256, ALG_ES256, "r"),
                     "no key serves its alg");
    keys_free(keys);
    EVP_PKEY_free(other);
}
END_TEST

static void put_secrets(struct buf *set, int count)
{
    begin_set(set);
    for (int i = 0; i < count; i++) {
        char more[32];
        snprintf(more, sizeof(more), "\"kid\":\"%d\"", i);
        token_rig_put_jwk_secret(set, SLICE_LIT(KEYS_RIG_SECRET), more);
        buf_putc(set, i + 1 < count ? ',' : ']');
    }
    buf_putc(set, '}');
}

START_TEST(test_sets_are_bounded)
{
    struct buf set = {0};
    put_secrets(&set, KEYS_MAX);
    struct keys *keys = keys_rig_parse(buf_slice(&set), KEYS_RIG_ALL);
    ck_assert_uint_eq(keys_count(keys), KEYS_MAX);
    ck_assert_ptr_null(
        keys_rig_refusal_by_secret(keys, SLICE_LIT(KEYS_RIG_SECRET), ALG_HS384, "63"));
    keys_free(keys);
    buf_clear(&set);
    put_secrets(&set, KEYS_MAX + 1);
    keys_rig_expect_refused(buf_slice(&set), KEYS_RIG_ALL,
                            "a JWKS whose keys are no list of up to 64");
    buf_clear(&set);
    while (set.len <= KEYS_BYTES_MAX)
        buf_putc(&set, 'x');
    keys_rig_expect_refused(buf_slice(&set), KEYS_RIG_ALL, "longer than 1 MB");
    buf_reset(&set);
}
END_TEST

START_TEST(test_skipped_keys_are_told_with_short_names)
{
    struct buf set = {0};
    begin_set(&set);
    buf_puts(&set, "{\"kty\":\"x\",\"kid\":\"a\\nb");
    for (int i = 0; i < 100; i++)
        buf_putc(&set, 'c');
    buf_puts(&set, "\"},");
    token_rig_put_jwk_secret(&set, SLICE_LIT(KEYS_RIG_SECRET), NULL);
    buf_puts(&set, "]}");
    struct keys *keys = keys_rig_parse(buf_slice(&set), KEYS_RIG_ALL);
    struct slice line = slice_of(keys_skipped(keys)->items[0]);
    ck_assert(slice_has_prefix(line, SLICE_LIT("keys[0] (kid \"a\\nbccc")));
    ck_assert_uint_lt(line.len, 140);
    keys_free(keys);
    buf_reset(&set);
}
END_TEST

/* --- signatures ------------------------------------------------------------------------------- */

/* Every length but the right one, for every family. */
START_TEST(test_signatures_of_other_lengths_are_wrong)
{
    EVP_PKEY *ed = token_rig_key("ED25519", 0);
    struct {
        EVP_PKEY *key;
        enum alg alg;
        size_t bytes;
    } cases[] = {{keys_rig_rsa, ALG_RS256, 256},
                 {keys_rig_rsa, ALG_PS256, 256},
                 {keys_rig_p256, ALG_ES256, 64},
                 {ed, ALG_EDDSA, 64}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf jwk = {0}, token = {0};
        struct jws jws;
        token_rig_put_jwk(&jwk, cases[i].key, NULL);
        struct keys *keys = keys_rig_parse(buf_slice(&jwk), KEYS_RIG_ALL);
        token_rig_sign(&token, cases[i].key, cases[i].alg, keys_rig_header(cases[i].alg, NULL),
                       "{}");
        ck_assert_ptr_null(jws_parse(buf_slice(&token), &jws));
        ck_assert_uint_eq(jws.signature.len, cases[i].bytes);
        buf_putc(&jws.signature, '\0');
        for (size_t len = 0; len <= cases[i].bytes + 1; len++) {
            jws.signature.len = len;
            ck_assert_msg(!keys_verify(keys, &jws) == (len == cases[i].bytes), "%zu of %s", len,
                          alg_row(cases[i].alg)->name);
        }
        jws_reset(&jws);
        keys_free(keys);
        buf_reset(&jwk);
        buf_reset(&token);
    }
    EVP_PKEY_free(ed);
}
END_TEST

START_TEST(test_signatures_with_a_bit_changed_are_wrong)
{
    struct buf token = {0};
    struct jws jws;
    struct keys *keys = keys_rig_parse(SLICE_LIT(KEYS_RIG_SECRET), KEYS_RIG_ALL);
    token_rig_sign_secret(&token, SLICE_LIT(KEYS_RIG_SECRET), ALG_HS256,
                          keys_rig_header(ALG_HS256, NULL), "{}");
    ck_assert_ptr_null(jws_parse(buf_slice(&token), &jws));
    for (size_t bit = 0; bit < 256; bit++) {
        jws.signature.ptr[bit / 8] = (char)(jws.signature.ptr[bit / 8] ^ (1 << bit % 8));
        ck_assert_str_eq(keys_verify(keys, &jws), "its signature is wrong");
        jws.signature.ptr[bit / 8] = (char)(jws.signature.ptr[bit / 8] ^ (1 << bit % 8));
    }
    ck_assert_ptr_null(keys_verify(keys, &jws));
    jws_reset(&jws);
    keys_free(keys);
    buf_reset(&token);
}
END_TEST

/* --- threads ---------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 40 };

struct shared {
    const struct keys *keys;
    const struct buf *tokens;
    size_t count;
};

static void *verify_all(void *arg)
{
    const struct shared *shared = arg;
    for (size_t i = 0; i < ROUNDS * shared->count; i++) {
        struct jws jws;
        if (jws_parse(buf_slice(&shared->tokens[i % shared->count]), &jws) ||
            keys_verify(shared->keys, &jws))
            return arg;
        jws_reset(&jws);
    }
    return NULL;
}

START_TEST(test_threads_share_keys)
{
    EVP_PKEY *ed = token_rig_key("ED25519", 0);
    struct buf set = {0}, tokens[5] = {{0}};
    begin_set(&set);
    token_rig_put_jwk_secret(&set, SLICE_LIT(KEYS_RIG_SECRET), NULL);
    buf_putc(&set, ',');
    add(&set, keys_rig_rsa, NULL);
    add(&set, keys_rig_p256, NULL);
    add(&set, ed, NULL);
    struct keys *keys = end_set(&set);
    token_rig_sign_secret(&tokens[0], SLICE_LIT(KEYS_RIG_SECRET), ALG_HS256,
                          keys_rig_header(ALG_HS256, NULL), "{}");
    token_rig_sign(&tokens[1], keys_rig_rsa, ALG_RS256, keys_rig_header(ALG_RS256, NULL), "{}");
    token_rig_sign(&tokens[2], keys_rig_rsa, ALG_PS256, keys_rig_header(ALG_PS256, NULL), "{}");
    token_rig_sign(&tokens[3], keys_rig_p256, ALG_ES256, keys_rig_header(ALG_ES256, NULL), "{}");
    token_rig_sign(&tokens[4], ed, ALG_EDDSA, keys_rig_header(ALG_EDDSA, NULL), "{}");
    struct shared shared = {keys, tokens, 5};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, verify_all, &shared), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    for (int i = 0; i < 5; i++)
        buf_reset(&tokens[i]);
    keys_free(keys);
    EVP_PKEY_free(ed);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("keys that verify");
    tcase_add_unchecked_fixture(tests, keys_rig_setup, keys_rig_teardown);
    tcase_add_test(tests, test_kid_chooses);
    tcase_add_test(tests, test_without_kid_the_only_fitting_key_serves);
    tcase_add_test(tests, test_two_keys_of_one_kid_serve_nobody);
    tcase_add_test(tests, test_key_without_kid);
    tcase_add_test(tests, test_sets_are_bounded);
    tcase_add_test(tests, test_skipped_keys_are_told_with_short_names);
    tcase_add_test(tests, test_signatures_of_other_lengths_are_wrong);
    tcase_add_test(tests, test_signatures_with_a_bit_changed_are_wrong);
    tcase_add_test(tests, test_threads_share_keys);
    return tests_run(tests);
}
