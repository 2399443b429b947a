/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens of the contract and the answers they get. */
#include "relay/auth/issuer.h"
#include "test/unit/vectors.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static cJSON *vectors;
static struct issuer *issuer;

static struct slice text_of(const cJSON *object, const char *name)
{
    return slice_of(cJSON_GetObjectItemCaseSensitive(object, name)->valuestring);
}

static struct keys *keys_of(const cJSON *jwks, uint32_t algs)
{
    struct keys *keys = NULL;
    struct buf why = {0};
    char *text = cJSON_PrintUnformatted(jwks);
    ck_assert_int_eq(keys_parse(slice_of(text), algs, &keys, &why), OK);
    cJSON_free(text);
    return keys;
}

static void setup(void)
{
    struct issuer_fields fields = {.any_namespace = true};
    struct buf why = {0};
    uint32_t algs = 0;
    const cJSON *alg;
    vectors = vectors_load("tokens.json");
    cJSON_ArrayForEach(alg, cJSON_GetObjectItemCaseSensitive(vectors, "algs"))
        strings_add(&fields.algs, slice_of(alg->valuestring));
    ck_assert_int_eq(alg_parse_set(&fields.algs, &algs, &why), OK);
    fields.iss = slice_dup(text_of(vectors, "iss"));
    fields.aud = slice_dup(text_of(vectors, "aud"));
    fields.keys = keys_of(cJSON_GetObjectItemCaseSensitive(vectors, "jwks"), algs);
    ck_assert_int_eq(issuer_new(&fields, &issuer, &why), OK);
}

static void teardown(void)
{
    issuer_free(issuer);
    cJSON_Delete(vectors);
}

static const char *refusal_of(struct slice token, const struct issuer_clock *clock)
{
    struct jws jws;
    bool is_signed;
    const char *why = jws_parse(token, &jws);
    if (!why)
        why = issuer_verify(issuer, &jws, clock, &is_signed);
    jws_reset(&jws);
    return why;
}

START_TEST(test_tokens_of_the_contract)
{
    const struct issuer_clock clock = {.now_s = 1800000000, .leeway_s = 30};
    const cJSON *item, *items = cJSON_GetObjectItemCaseSensitive(vectors, "cases");
    int accepted = 0;
    ck_assert_int_eq(cJSON_GetArraySize(items), 76);
    cJSON_ArrayForEach(item, items)
    {
        bool wanted = cJSON_GetObjectItemCaseSensitive(item, "expect")->valueint == 200;
        const char *why = refusal_of(text_of(item, "token"), &clock);
        ck_assert_msg(!why == wanted, "%s: %s", text_of(item, "name").ptr, why ? why : "accepted");
        accepted += !why;
    }
    ck_assert_int_eq(accepted, 16);
}
END_TEST

START_TEST(test_unusable_keys_of_the_contract_are_skipped)
{
    const struct strings *skipped = keys_skipped(issuer_fields(issuer)->keys);
    ck_assert_uint_eq(keys_count(issuer_fields(issuer)->keys), 6);
    ck_assert_uint_eq(skipped->count, 4);
    ck_assert_str_eq(skipped->items[0],
                     "keys[1] (kid \"small\"): an RSA key of 1024 bits; expected 2048 to 8192");
    ck_assert_str_eq(skipped->items[1],
                     "keys[2] (kid \"enc\"): a key that is not for verifying (use, key_ops)");
    ck_assert_str_eq(skipped->items[2],
                     "keys[7] (kid \"offcurve\"): an EC key whose point is not on its curve");
    ck_assert_str_eq(skipped->items[3], "keys[9] (kid \"unknown-kty\"): a key whose kty is none of "
                                        "RSA, EC, OKP, oct");
}
END_TEST

/* Their `exp` is in 2100; what bounds it must bite, and at the right second. */
START_TEST(test_exp_of_the_contract_is_far_ahead)
{
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(vectors, "cases");
    struct slice token = text_of(cJSON_GetArrayItem(items, 0), "token");
    struct issuer_clock clock = {.now_s = 1800000000, .leeway_s = 30, .max_life_s = 30 * 86400};
    ck_assert_str_eq(refusal_of(token, &clock),
                     "its exp is further ahead than auth.max_token_life");
    clock = (struct issuer_clock){.now_s = 4102444800 + 29, .leeway_s = 30};
    ck_assert_ptr_null(refusal_of(token, &clock));
    clock.now_s++;
    ck_assert_str_eq(refusal_of(token, &clock), "it has expired");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("token vectors");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_tokens_of_the_contract);
    tcase_add_test(tests, test_unusable_keys_of_the_contract_are_skipped);
    tcase_add_test(tests, test_exp_of_the_contract_is_far_ahead);
    return tests_run(tests);
}
