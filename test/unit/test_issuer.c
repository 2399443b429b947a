/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/issuer.h"
#include "relay/config/config_check.h"
#include "test/unit/keys_rig.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define GOOD "{\"iss\":\"I\",\"aud\":\"A\",\"exp\":1800000100}"

static const struct issuer_clock now = {.now_s = 1800000000, .leeway_s = 30, .max_life_s = 1000};

/* @algs: one name. */
static struct issuer_fields fields_of(const char *alg)
{
    struct issuer_fields fields = {
        .iss = slice_dup(SLICE_LIT("I")),
        .aud = slice_dup(SLICE_LIT("A")),
        .keys = keys_rig_parse(SLICE_LIT(KEYS_RIG_SECRET), KEYS_RIG_ALL),
    };
    strings_add(&fields.algs, slice_of(alg));
    return fields;
}

static struct issuer *make(struct issuer_fields fields)
{
    struct issuer *issuer = NULL;
    struct buf why = {0};
    ck_assert_int_eq(issuer_new(&fields, &issuer, &why), OK);
    ck_assert_ptr_null(fields.keys);
    return issuer;
}

static void expect(const struct issuer *issuer, const char *header, const char *claims,
                   bool is_signed, const char *expected)
{
    struct buf token = {0};
    struct jws jws;
    bool told = !is_signed;
    token_rig_sign_secret(&token, SLICE_LIT(KEYS_RIG_SECRET), ALG_HS256, header, claims);
    ck_assert_ptr_null(jws_parse(buf_slice(&token), &jws));
    const char *why = issuer_verify(issuer, &jws, &now, &told);
    ck_assert_msg(why == expected || (why && expected && strcmp(why, expected) == 0), "%s",
                  why ? why : "accepted");
    ck_assert(told == is_signed);
    jws_reset(&jws);
    buf_reset(&token);
}

START_TEST(test_good_token_is_accepted)
{
    struct issuer *issuer = make(fields_of("HS256"));
    expect(issuer, "{\"alg\":\"HS256\"}", GOOD, true, NULL);
    issuer_free(issuer);
}
END_TEST

/* The claims say why only to whoever holds a token that the issuer has signed. */
START_TEST(test_reason_is_for_signed_tokens)
{
    struct issuer *issuer = make(fields_of("HS256"));
    expect(issuer, "{\"alg\":\"HS256\"}", "{\"iss\":\"I\",\"aud\":\"A\",\"exp\":1}", true,
           "it has expired");
    expect(issuer, "{\"alg\":\"HS384\"}", GOOD, false, "its alg is none of the issuer's algs");
    expect(issuer, "{\"alg\":\"RS256\"}", GOOD, false, "its alg is none of the issuer's algs");
    issuer_free(issuer);
    issuer = make(fields_of("HS384"));
    expect(issuer, "{\"alg\":\"HS384\"}", "{\"exp\":1}", false, "its signature is wrong");
    issuer_free(issuer);
}
END_TEST

START_TEST(test_parts_of_an_issuer_count)
{
    struct issuer_fields fields = fields_of("HS256");
    fields.exp_optional = true;
    fields.aud_claim = slice_dup(SLICE_LIT("/client_id"));
    struct issuer *issuer = make(fields);
    expect(issuer, "{\"alg\":\"HS256\"}", "{\"iss\":\"I\",\"client_id\":\"A\"}", true, NULL);
    expect(issuer, "{\"alg\":\"HS256\"}", "{\"iss\":\"J\",\"client_id\":\"A\"}", true,
           "its iss is another");
    expect(issuer, "{\"alg\":\"HS256\"}", "{\"iss\":\"I\",\"aud\":\"A\"}", true,
           "the claim in place of aud is another");
    expect(issuer, "{\"alg\":\"HS256\"}", "{\"iss\":\"I\",\"client_id\":\"A\",\"exp\":1800002000}",
           true, "its exp is further ahead than auth.max_token_life");
    issuer_free(issuer);
}
END_TEST

START_TEST(test_typ_may_be_asked_for)
{
    struct issuer_fields fields = fields_of("HS256");
    fields.at_jwt = true;
    struct issuer *issuer = make(fields);
    expect(issuer, "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}", GOOD, true, NULL);
    expect(issuer, "{\"alg\":\"HS256\",\"typ\":\"AT+JWT\"}", GOOD, true, NULL);
    expect(issuer, "{\"alg\":\"HS256\",\"typ\":\"application/at+jwt\"}", GOOD, true, NULL);
    expect(issuer, "{\"alg\":\"HS256\",\"typ\":\"JWT\"}", GOOD, true, "its typ is not at+jwt");
    expect(issuer, "{\"alg\":\"HS256\"}", GOOD, true, "its typ is not at+jwt");
    issuer_free(issuer);
}
END_TEST

START_TEST(test_namespaces_are_those_that_are_named)
{
    struct issuer_fields fields = fields_of("HS256");
    struct issuer *none = make(fields);
    ck_assert(!issuer_speaks_for(none, SLICE_LIT("default")));
    ck_assert(!issuer_speaks_for(none, SLICE_LIT("")));
    issuer_free(none);
    fields = fields_of("HS256");
    strings_add(&fields.namespaces, SLICE_LIT("t1"));
    struct issuer *one = make(fields);
    ck_assert(issuer_speaks_for(one, SLICE_LIT("t1")));
    ck_assert(!issuer_speaks_for(one, SLICE_LIT("t")));
    ck_assert(!issuer_speaks_for(one, SLICE_LIT("t11")));
    issuer_free(one);
    fields = fields_of("HS256");
    fields.any_namespace = true;
    struct issuer *any = make(fields);
    ck_assert(issuer_speaks_for(any, SLICE_LIT("t2")));
    issuer_free(any);
}
END_TEST

static void expect_none(struct issuer_fields fields, const char *expected)
{
    struct issuer *issuer = NULL;
    struct buf why = {0};
    ck_assert_int_eq(issuer_new(&fields, &issuer, &why), ERR_INVALID);
    ck_assert_ptr_null(issuer);
    ck_assert_msg(slice_has_prefix(buf_slice(&why), slice_of(expected)), "%.*s", (int)why.len,
                  why.ptr);
    issuer_fields_reset(&fields);
    buf_reset(&why);
}

START_TEST(test_half_an_issuer_is_refused)
{
    struct issuer_fields fields = fields_of("none");
    expect_none(fields, "\"none\" is no algorithm; ");
    fields = fields_of("HS256");
    strings_reset(&fields.algs);
    expect_none(fields, "no algorithm is named; ");
    fields = fields_of("HS256");
    keys_free(fields.keys);
    fields.keys = NULL;
    expect_none(fields, "there are no keys");
    fields = fields_of("HS256");
    fields.aud_claim = slice_dup(SLICE_LIT("client_id"));
    expect_none(fields, "aud_claim is no JSON Pointer; ");
    fields = fields_of("HS256");
    free(fields.aud);
    fields.aud = NULL;
    fields.aud_claim = slice_dup(SLICE_LIT("/client_id"));
    expect_none(fields, "aud_claim says where to look, but there is no aud to look for");
}
END_TEST

/* The options name algorithms by a list of their own. */
START_TEST(test_options_know_the_same_algorithms)
{
    for (enum alg alg = 0; alg < ALG_COUNT; alg++) {
        ck_assert_ptr_null(config_check_alg(alg_row(alg)->name));
        ck_assert_ptr_nonnull(strstr(config_check_alg("none"), alg_row(alg)->name));
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("issuer");
    tcase_add_test(tests, test_good_token_is_accepted);
    tcase_add_test(tests, test_reason_is_for_signed_tokens);
    tcase_add_test(tests, test_parts_of_an_issuer_count);
    tcase_add_test(tests, test_typ_may_be_asked_for);
    tcase_add_test(tests, test_namespaces_are_those_that_are_named);
    tcase_add_test(tests, test_half_an_issuer_is_refused);
    tcase_add_test(tests, test_options_know_the_same_algorithms);
    return tests_run(tests);
}
