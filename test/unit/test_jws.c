/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of a token before anybody believes it. */
#include "relay/auth/jws.h"
#include "common/base64url.h"
#include "relay/auth/members.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static void put_token(struct buf *b, const char *header, const char *claims)
{
    base64url_put(b, header, strlen(header));
    buf_putc(b, '.');
    base64url_put(b, claims, strlen(claims));
    buf_puts(b, ".c2ln");
}

/* Why a token of these is refused; NULL: it is not. */
static const char *refusal_of(const char *header, const char *claims)
{
    struct buf token = {0};
    struct jws jws;
    put_token(&token, header, claims);
    const char *why = jws_parse(buf_slice(&token), &jws);
    ck_assert(!why || (!jws.header && !jws.claims && !jws.signature.ptr));
    jws_reset(&jws);
    buf_reset(&token);
    return why;
}

START_TEST(test_parts_are_told)
{
    struct buf token = {0};
    struct jws jws;
    put_token(&token, "{\"alg\":\"ES384\",\"kid\":\"k\",\"typ\":\"JWT\"}", "{\"sub\":\"42\"}");
    ck_assert_ptr_null(jws_parse(buf_slice(&token), &jws));
    ck_assert_int_eq(jws.alg, ALG_ES384);
    ck_assert_str_eq(jws.kid, "k");
    ck_assert_str_eq(jws.typ, "JWT");
    ck_assert_str_eq(member_text(jws.claims, "sub"), "42");
    ck_assert(slice_is(buf_slice(&jws.signature), "sig"));
    ck_assert_ptr_eq(jws.signed_text.ptr, token.ptr);
    ck_assert_uint_eq(jws.signed_text.len, token.len - strlen(".c2ln"));
    jws_reset(&jws);
    buf_reset(&token);
}
END_TEST

START_TEST(test_kid_and_typ_may_be_missing)
{
    struct buf token = {0};
    struct jws jws;
    put_token(&token, "{\"alg\":\"HS256\"}", "{}");
    ck_assert_ptr_null(jws_parse(buf_slice(&token), &jws));
    ck_assert_ptr_null(jws.kid);
    ck_assert_ptr_null(jws.typ);
    jws_reset(&jws);
    buf_reset(&token);
}
END_TEST

START_TEST(test_every_alg_is_read)
{
    for (enum alg alg = 0; alg < ALG_COUNT; alg++) {
        struct buf header = {0};
        buf_printf(&header, "{\"alg\":\"%s\"}", alg_row(alg)->name);
        buf_putc(&header, '\0');
        ck_assert_ptr_null(refusal_of(header.ptr, "{}"));
        buf_reset(&header);
    }
}
END_TEST

static const struct {
    const char *header, *why;
} headers[] = {
    {"{}", "its alg is none that is known"},
    {"{\"alg\":\"none\"}", "its alg is none that is known"},
    {"{\"alg\":\"hs256\"}", "its alg is none that is known"},
    {"{\"alg\":\"HS256 \"}", "its alg is none that is known"},
    {"{\"alg\":\"\"}", "its alg is none that is known"},
    {"{\"Alg\":\"HS256\"}", "its alg is none that is known"},
    {"{\"alg\":[\"HS256\"]}", "its alg is none that is known"},
    {"{\"alg\":\"HS256\",\"crit\":[]}", "its header asks for an extension (crit, b64)"},
    {"{\"alg\":\"HS256\",\"crit\":null}", "its header asks for an extension (crit, b64)"},
    {"{\"alg\":\"HS256\",\"b64\":true}", "its header asks for an extension (crit, b64)"},
    {"{\"alg\":\"HS256\",\"jwk\":{}}", "its header brings a key along (jwk, jku, x5c, x5u)"},
    {"{\"alg\":\"HS256\",\"jku\":\"\"}", "its header brings a key along (jwk, jku, x5c, x5u)"},
    {"{\"alg\":\"HS256\",\"x5c\":[]}", "its header brings a key along (jwk, jku, x5c, x5u)"},
    {"{\"alg\":\"HS256\",\"x5u\":null}", "its header brings a key along (jwk, jku, x5c, x5u)"},
    {"{\"alg\":\"HS256\",\"kid\":7}", "its kid is no text"},
    {"{\"alg\":\"HS256\",\"kid\":null}", "its kid is no text"},
    {"{\"alg\":\"HS256\",\"typ\":{}}", "its typ is no text"},
    {"{\"alg\":\"HS256\",\"alg\":\"HS256\"}", "its header cannot be read"},
    {"{\"alg\":\"HS256\",\"\\u0061lg\":\"HS256\"}", "its header cannot be read"},
    {"{\"alg\":\"HS256\",\"x\":[{\"y\":{\"z\":1,\"z\":2}}]}", "its header cannot be read"},
    {"[\"HS256\"]", "its header cannot be read"},
    {"\"HS256\"", "its header cannot be read"},
    {"", "its header cannot be read"},
    {"{\"alg\":\"HS256\"}x", "its header cannot be read"},
    {"{\"alg\":\"HS256\",\"kid\":\"\xff\"}", "its header cannot be read"},
    {"{\"alg\":\"HS256\",\"kid\":\"a\\u0000\"}", "its header cannot be read"},
};

START_TEST(test_headers_that_are_refused)
{
    const char *why = refusal_of(headers[_i].header, "{}");
    ck_assert_msg(why && strcmp(why, headers[_i].why) == 0, "%s: %s", headers[_i].header,
                  why ? why : "accepted");
}
END_TEST

/* A thumbprint names a key that we have, or none. */
START_TEST(test_what_says_nothing_of_keys_is_left_alone)
{
    ck_assert_ptr_null(refusal_of("{\"alg\":\"HS256\",\"x5t\":\"abc\",\"cty\":\"x\"}", "{}"));
}
END_TEST

static const char *const claims[] = {
    "",
    "[]",
    "null",
    "\"x\"",
    "{\"sub\":\"1\",\"sub\":\"1\"}",
    "{\"sub\":\"1\",\"\\u0073ub\":\"2\"}",
    "{\"a\":{\"b\":[{\"c\":1,\"d\":2,\"c\":3}]}}",
    "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"a\":0}",
    "{\"sub\":\"1\"} x",
    "{\"sub\":\"\\u0000\"}",
    "{\"sub\":\"\\ud800\"}",
    "{\"sub\":\"\\udc00\"}",
    "{\"sub\":\"\\ud800\\u0041\"}",
    "{\"sub\":\"\\ud800x\"}",
    "{\"sub\":\"\\ud83d\\ud83d\"}",
    "{\"\\u0000\":1}",
};

START_TEST(test_claims_that_are_refused)
{
    const char *why = refusal_of("{\"alg\":\"HS256\"}", claims[_i]);
    ck_assert_msg(why && strcmp(why, "its claims cannot be read") == 0, "%s: %s", claims[_i],
                  why ? why : "accepted");
}
END_TEST

START_TEST(test_claims_that_only_look_wrong)
{
    static const char *const fine[] = {
        "{}",
        " {\"sub\":\"1\"} \n",
        "{\"sub\":\"\\ud83d\\ude00\"}",
        "{\"sub\":\"\\\\u0000\"}",
        "{\"sub\":\"\\\\\\\\ud800\"}",
        "{\"a\":{\"x\":1},\"b\":{\"x\":1}}",
        "{\"sub\":\"1\",\"Sub\":\"2\"}",
    };
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
        ck_assert_msg(!refusal_of("{\"alg\":\"HS256\"}", fine[i]), "%s", fine[i]);
}
END_TEST

START_TEST(test_texts_that_are_no_tokens)
{
    static const struct {
        const char *text, *why;
    } texts[] = {
        {"", "not a token of three parts"},
        {".", "not a token of three parts"},
        {"e30", "not a token of three parts"},
        {"eyJhbGciOiJIUzI1NiJ9.e30", "not a token of three parts"},
        {"..", "its header cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9..c2ln", "its claims cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.c2ln.", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.c2ln.c2ln", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.c2ln.c2ln.c2ln", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.c2ln\n", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.c2l=", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e30.Zh", "its signature cannot be read"},
        {"eyJhbGciOiJIUzI1NiJ9.e31.c2ln", "its claims cannot be read"},
        {" eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "its header cannot be read"},
    };
    struct jws jws;
    ck_assert_ptr_null(jws_parse(SLICE_LIT("eyJhbGciOiJIUzI1NiJ9.e30.c2ln"), &jws));
    jws_reset(&jws);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *why = jws_parse(slice_of(texts[i].text), &jws);
        ck_assert_msg(why && strcmp(why, texts[i].why) == 0, "%s: %s", texts[i].text,
                      why ? why : "accepted");
    }
    ck_assert_str_eq(jws_parse(SLICE_NONE, &jws), "not a token of three parts");
}
END_TEST

START_TEST(test_long_texts_are_refused)
{
    struct buf token = {0};
    struct jws jws;
    buf_puts(&token, "eyJhbGciOiJIUzI1NiJ9.e30.");
    while (token.len < JWS_TEXT_MAX)
        buf_putc(&token, 'A');
    ck_assert_ptr_null(jws_parse(buf_slice(&token), &jws));
    jws_reset(&jws);
    buf_putc(&token, 'A');
    ck_assert_str_eq(jws_parse(buf_slice(&token), &jws), "longer than 8 KB");
    buf_reset(&token);
}
END_TEST

/* As many members as fit: sorted, so that a stranger cannot make it take long. */
START_TEST(test_many_members_are_compared)
{
    struct buf text = {0};
    cJSON *tree;
    const char *why;
    buf_putc(&text, '{');
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, "\"%d\":1,", i);
    size_t so_far = text.len;
    buf_puts(&text, "\"x\":1}");
    ck_assert_int_eq(members_parse(buf_slice(&text), &tree, &why), OK);
    cJSON_Delete(tree);
    text.len = so_far;
    buf_puts(&text, "\"500\":1}");
    ck_assert_int_eq(members_parse(buf_slice(&text), &tree, &why), ERR_INVALID);
    ck_assert_str_eq(why, "has two members of one name");
    buf_reset(&text);
}
END_TEST

START_TEST(test_algs_are_known_by_name)
{
    struct strings names = {0};
    struct buf why = {0};
    uint32_t set = 0;
    ck_assert_int_eq(alg_parse_set(&names, &set, &why), ERR_INVALID);
    ck_assert_ptr_nonnull(memmem(why.ptr, why.len, "HS256, HS384", 12));
    strings_add(&names, SLICE_LIT("RS256"));
    strings_add(&names, SLICE_LIT("EdDSA"));
    strings_add(&names, SLICE_LIT("RS256"));
    ck_assert_int_eq(alg_parse_set(&names, &set, &why), OK);
    ck_assert_uint_eq(set, ALG_BIT(ALG_RS256) | ALG_BIT(ALG_EDDSA));
    buf_clear(&why);
    alg_put_set(&why, set);
    ck_assert(slice_is(buf_slice(&why), "RS256, EdDSA"));
    strings_add(&names, SLICE_LIT("none"));
    buf_clear(&why);
    ck_assert_int_eq(alg_parse_set(&names, &set, &why), ERR_INVALID);
    ck_assert(slice_has_prefix(buf_slice(&why), SLICE_LIT("\"none\" is no algorithm; ")));
    strings_reset(&names);
    buf_reset(&why);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("jws");
    tcase_add_test(tests, test_parts_are_told);
    tcase_add_test(tests, test_kid_and_typ_may_be_missing);
    tcase_add_test(tests, test_every_alg_is_read);
    tcase_add_loop_test(tests, test_headers_that_are_refused, 0,
                        sizeof(headers) / sizeof(headers[0]));
    tcase_add_test(tests, test_what_says_nothing_of_keys_is_left_alone);
    tcase_add_loop_test(tests, test_claims_that_are_refused, 0, sizeof(claims) / sizeof(claims[0]));
    tcase_add_test(tests, test_claims_that_only_look_wrong);
    tcase_add_test(tests, test_texts_that_are_no_tokens);
    tcase_add_test(tests, test_long_texts_are_refused);
    tcase_add_test(tests, test_many_members_are_compared);
    tcase_add_test(tests, test_algs_are_known_by_name);
    return tests_run(tests);
}
