/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as JWK and JWKS: what is taken, skipped and refused. */
#include "test/unit/keys_rig.h"
#include "test/unit/tests_run.h"
#include <check.h>

/* --- every algorithm, as PEM and as JWK --------------------------------------------------------
 */

static const struct {
    const char *kind;
    unsigned bits;
    uint32_t algs;
} kinds[] = {
    {"RSA", 2048,
     ALG_BIT(ALG_RS256) | ALG_BIT(ALG_RS384) | ALG_BIT(ALG_RS512) | ALG_BIT(ALG_PS256) |
         ALG_BIT(ALG_PS384) | ALG_BIT(ALG_PS512)},
    {"RSA", 3072,
     ALG_BIT(ALG_RS256) | ALG_BIT(ALG_RS384) | ALG_BIT(ALG_RS512) | ALG_BIT(ALG_PS256) |
         ALG_BIT(ALG_PS384) | ALG_BIT(ALG_PS512)},
    {"P-256", 0, ALG_BIT(ALG_ES256)},
    {"P-384", 0, ALG_BIT(ALG_ES384)},
    {"P-521", 0, ALG_BIT(ALG_ES512)},
    {"ED25519", 0, ALG_BIT(ALG_EDDSA)},
    {"ED448", 0, ALG_BIT(ALG_EDDSA)},
};

/* The key verifies what it has signed, and neither what another has, nor changed text. */
static void check_alg(const struct keys *keys, EVP_PKEY *key, EVP_PKEY *other, enum alg alg)
{
    struct buf token = {0};
    ck_assert_ptr_null(keys_rig_refusal(keys, key, alg, NULL));
    ck_assert_ptr_null(keys_rig_refusal(keys, key, alg, "any"));
    ck_assert_str_eq(keys_rig_refusal(keys, other, alg, NULL), "its signature is wrong");
    token_rig_sign(&token, key, alg, keys_rig_header(alg, NULL), "{\"a\":1}");
    char *at = memchr(token.ptr, '.', token.len);
    memcpy(at, ".eyJhIjoyfQ.", 12); /* {"a":2} */
    ck_assert_str_eq(keys_rig_refusal_of(keys, &token), "its signature is wrong");
}

static void check_kind(struct slice file, EVP_PKEY *key, EVP_PKEY *other, uint32_t algs)
{
    struct keys *keys = keys_rig_parse(file, KEYS_RIG_ALL);
    ck_assert_uint_eq(keys_count(keys), 1);
    ck_assert_uint_eq(keys_algs(keys), algs);
    for (enum alg alg = 0; alg < ALG_COUNT; alg++)
        if (algs & ALG_BIT(alg))
            check_alg(keys, key, other, alg);
    keys_free(keys);
}

START_TEST(test_public_keys_serve_their_algorithms)
{
    EVP_PKEY *key = token_rig_key(kinds[_i].kind, kinds[_i].bits);
    EVP_PKEY *other = token_rig_key(kinds[_i].kind, kinds[_i].bits);
    struct buf pem = {0}, jwk = {0};
    token_rig_put_pem(&pem, key);
    check_kind(buf_slice(&pem), key, other, kinds[_i].algs);
    token_rig_put_jwk(&jwk, key, NULL);
    check_kind(buf_slice(&jwk), key, other, kinds[_i].algs);
    buf_reset(&pem);
    buf_reset(&jwk);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}
END_TEST

START_TEST(test_secrets_serve_what_they_are_long_enough_for)
{
    static const struct {
        size_t len;
        uint32_t algs;
    } lengths[] = {
        {32, ALG_BIT(ALG_HS256)},
        {47, ALG_BIT(ALG_HS256)},
        {48, ALG_BIT(ALG_HS256) | ALG_BIT(ALG_HS384)},
        {63, ALG_BIT(ALG_HS256) | ALG_BIT(ALG_HS384)},
        {64, ALG_BIT(ALG_HS256) | ALG_BIT(ALG_HS384) | ALG_BIT(ALG_HS512)},
    };
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct slice secret = {KEYS_RIG_SECRET, lengths[i].len};
        struct keys *keys = keys_rig_parse(secret, KEYS_RIG_ALL);
        ck_assert_uint_eq(keys_algs(keys), lengths[i].algs);
        for (enum alg alg = ALG_HS256; alg <= ALG_HS512; alg++) {
            const char *why = keys_rig_refusal_by_secret(keys, secret, alg, NULL);
            if (lengths[i].algs & ALG_BIT(alg))
                ck_assert_ptr_null(why);
            else
                ck_assert_str_eq(why, "no key serves its alg");
        }
        ck_assert_str_eq(keys_rig_refusal_by_secret(keys, SLICE_LIT("x"), ALG_HS256, NULL),
                         "its signature is wrong");
        keys_free(keys);
    }
}
END_TEST

START_TEST(test_short_secrets_are_refused)
{
    keys_rig_expect_refused(
        SLICE_LIT("0123456789abcdef0123456789abcde"), ALG_BIT(ALG_HS256) | ALG_BIT(ALG_HS512),
        "a secret of 31 bytes serves none of HS256, HS512; HS256 takes 32 bytes at "
        "least, HS384 48, HS512 64 (it is neither PEM nor JSON, so it is taken for a "
        "secret)");
    keys_rig_expect_refused(
        SLICE_LIT(""), ALG_BIT(ALG_HS256),
        "a secret of 0 bytes serves none of HS256; HS256 takes 32 bytes at least, HS384 "
        "48, HS512 64 (it is neither PEM nor JSON, so it is taken for a secret)");
}
END_TEST

/* What is no PEM and no JSON must not become a secret where none is asked for. */
START_TEST(test_secrets_are_taken_only_for_hmac)
{
    keys_rig_expect_refused(
        SLICE_LIT(KEYS_RIG_SECRET), ALG_BIT(ALG_RS256),
        "a secret of 64 bytes serves none of RS256; HS256 takes 32 bytes at least, "
        "HS384 48, HS512 64 (it is neither PEM nor JSON, so it is taken for a secret)");
}
END_TEST

START_TEST(test_line_feed_behind_a_secret_is_none_of_it)
{
    static const char *const files[] = {KEYS_RIG_SECRET, KEYS_RIG_SECRET "\n",
                                        KEYS_RIG_SECRET "\r\n"};
    for (size_t i = 0; i < 3; i++) {
        struct keys *keys = keys_rig_parse(slice_of(files[i]), KEYS_RIG_ALL);
        ck_assert_ptr_null(
            keys_rig_refusal_by_secret(keys, SLICE_LIT(KEYS_RIG_SECRET), ALG_HS512, NULL));
        keys_free(keys);
    }
    static const char *const others[] = {KEYS_RIG_SECRET "\n\n", KEYS_RIG_SECRET "\r",
                                         KEYS_RIG_SECRET " ", " " KEYS_RIG_SECRET};
    for (size_t i = 0; i < 4; i++) {
        struct keys *keys = keys_rig_parse(slice_of(others[i]), KEYS_RIG_ALL);
        ck_assert_str_eq(
            keys_rig_refusal_by_secret(keys, SLICE_LIT(KEYS_RIG_SECRET), ALG_HS512, NULL),
            "its signature is wrong");
        keys_free(keys);
    }
}
END_TEST

START_TEST(test_secrets_may_have_any_bytes)
{
    struct slice secret = SLICE_LIT("\0\1\2\xff 0123456789abcdef0123456789ab");
    struct keys *keys = keys_rig_parse(secret, ALG_BIT(ALG_HS256));
    ck_assert_ptr_null(keys_rig_refusal_by_secret(keys, secret, ALG_HS256, NULL));
    keys_free(keys);
}
END_TEST

/* --- JWK -------------------------------------------------------------------------------------- */

#define NUMBERS_2048                                                                               \
    "vThEsBDRYffOP0TQtx2ixvFklLGnaBHkBtRU98votSJL_zAsisvFQrYTQuV_vGG9h7t-rbNcYshNX15YG0jffWAPR3Sx" \
    "5JHdC1y89HaIZwWTq42L2Lp_eB_Rnxz2r2fyTTl7Bd8eT9WTLQD3C3OUu90bTv3fUtj5Ba-WDFRk1u1q0bA3lYoHyRtd" \
    "SRHxgk7YtlUUJqzTE4yDCjxNRpgi4HMMPd1hQK2dteLTxckR97EGkV_YUompP4QnhvqyHOL6R5N4TgqRtHFJ7VKl0aJq" \
    "jrsiDofyGBIK4vXpsaehoNISV-4Gugu83zNsfFaefvccwQ_WtHm-tDb1meXG1c52wQ"
#define X_256 "QxV91C2ldewTq17TJ-ML-k3a11Gu9-D2EyHChJQg61k"
#define Y_256 "rEIwkDAvSryJt4m0pqfDl5NPvmzyM3YrPRfxjyVGAZo"
#define ZEROS_256 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define K_32 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"

static const struct {
    const char *text, *why;
} jwks[] = {
    {"{", "a JWK or JWKS that is not JSON"},
    {"[]", "a JWK or JWKS that is no JSON object"},
    {"{} x", "a JWK or JWKS that is not JSON"},
    {"{\"kty\":\"oct\",\"kty\":\"oct\"}", "a JWK or JWKS that has two members of one name"},
    {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"kid\":\"a\",\"kid\":\"b\"}]}",
     "a JWK or JWKS that has two members of one name"},
    {"{\"kid\":\"\\u0000\"}", "a JWK or JWKS that has an escaped NUL or half of a surrogate pair"},
    {"{}", "a key whose kty is none of RSA, EC, OKP, oct"},
    {"{\"kty\":\"rsa\"}", "a key whose kty is none of RSA, EC, OKP, oct"},
    {"{\"kty\":7}", "a key whose kty is none of RSA, EC, OKP, oct"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"kid\":7}", "a key whose kid is no text"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"use\":\"enc\"}",
     "a key that is not for verifying (use, key_ops)"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"use\":null}",
     "a key that is not for verifying (use, key_ops)"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"key_ops\":[\"encrypt\",\"sign\"]}",
     "a key that is not for verifying (use, key_ops)"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"key_ops\":[]}",
     "a key that is not for verifying (use, key_ops)"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"key_ops\":\"verify\"}",
     "a key that is not for verifying (use, key_ops)"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"alg\":\"A128KW\"}", "a key whose alg signs no tokens"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"alg\":7}", "a key whose alg signs no tokens"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"alg\":\"RS256\"}",
     "a secret of 32 bytes serves none of RS256; HS256 takes 32 bytes at least, HS384 48, HS512 "
     "64"},
    {"{\"kty\":\"oct\",\"k\":\"" K_32 "=\"}", "a secret whose k is not base64url"},
    {"{\"kty\":\"oct\",\"k\":\"a+b/\"}", "a secret whose k is not base64url"},
    {"{\"kty\":\"oct\",\"k\":7}", "a secret whose k is not base64url"},
    {"{\"kty\":\"oct\"}", "a secret whose k is not base64url"},
    {"{\"kty\":\"oct\",\"k\":\"\"}",
     "a secret of 0 bytes serves none of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, "
     "PS512, ES256, ES384, ES512, EdDSA; HS256 takes 32 bytes at least, HS384 48, HS512 64"},
    {"{\"kty\":\"RSA\"}", "an RSA key whose n or e is not base64url"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "\",\"e\":\"\"}",
     "an RSA key whose n or e is not base64url"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "==\",\"e\":\"AQAB\"}",
     "an RSA key whose n or e is not base64url"},
    {"{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
     "an RSA key of 17 bits; expected 2048 to 8192"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "\",\"e\":\"AQ\"}",
     "an RSA key whose numbers are none of RSA"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "\",\"e\":\"AA\"}",
     "an RSA key whose numbers are none of RSA"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "\",\"e\":\"AQAA\"}",
     "an RSA key whose numbers are none of RSA"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "\",\"e\":\"AQAAAAAAAAAB\"}",
     "an RSA key whose numbers are none of RSA"},
    {"{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "AAAA\",\"e\":\"AQAB\"}",
     "an RSA key whose numbers are none of RSA"},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X_256 "\"}",
     "a key of P-256 whose x or y is not 32 bytes in base64url"},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X_256 "\",\"y\":\"AAAA\"}",
     "a key of P-256 whose x or y is not 32 bytes in base64url"},
    {"{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"" X_256 "\",\"y\":\"" Y_256 "\"}",
     "a key of P-384 whose x or y is not 48 bytes in base64url"},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" Y_256 "\",\"y\":\"" X_256 "\"}",
     "an EC key whose point is not on its curve"},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" ZEROS_256 "\",\"y\":\"" ZEROS_256 "\"}",
     "an EC key whose point is not on its curve"},
    {"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"" X_256 "\",\"y\":\"" Y_256 "\"}",
     "an EC key of another curve than P-256, P-384, P-521"},
    {"{\"kty\":\"EC\",\"x\":\"" X_256 "\",\"y\":\"" Y_256 "\"}",
     "an EC key of another curve than P-256, P-384, P-521"},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X_256 "\",\"y\":\"" Y_256 "\",\"alg\":\"ES384\"}",
     "a key that serves ES256, and none of ES384"},
    {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" X_256 "\"}",
     "an OKP key of another curve than Ed25519, Ed448"},
    {"{\"kty\":\"OKP\",\"x\":\"" X_256 "\"}", "an OKP key of another curve than Ed25519, Ed448"},
    {"{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"" X_256 "\"}",
     "a key of Ed448 whose x is not 57 bytes in base64url"},
    {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}",
     "a key of Ed25519 whose x is not 32 bytes in base64url"},
    {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ZEROS_256 "\"}",
     "a key under which everybody can sign"},
    {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"7P_______________________________________38\"}",
     "a key under which everybody can sign"},
    {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_IU\"}",
     "a key under which everybody can sign"},
    {"{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"AQ" ZEROS_256 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
     "a key under which everybody can sign"},
    {"{\"keys\":{}}", "a JWKS whose keys are no list of up to 64"},
    {"{\"keys\":null}", "a JWKS whose keys are no list of up to 64"},
    {"{\"keys\":[]}", "a JWKS of 0 keys, none of which can be used"},
    {"{\"keys\":[7,{\"kty\":\"x\",\"kid\":\"a\"}]}",
     "a JWKS of 2 keys, none of which can be used; keys[0]: no JSON object"},
};

START_TEST(test_jwks_that_are_refused)
{
    uint32_t all = (1U << ALG_COUNT) - 1;
    keys_rig_expect_refused(slice_of(jwks[_i].text), all, jwks[_i].why);
}
END_TEST

START_TEST(test_long_rsa_keys_are_refused)
{
    struct buf jwk = {0};
    buf_puts(&jwk, "{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"_w");
    for (int i = 0; i < 2048; i++)
        buf_putc(&jwk, 'A');
    buf_puts(&jwk, "\"}");
    keys_rig_expect_refused(buf_slice(&jwk), KEYS_RIG_ALL, "an RSA key of more than 8192 bits");
    buf_reset(&jwk);
}
END_TEST

START_TEST(test_jwk_for_another_alg_is_refused)
{
    keys_rig_expect_refused(SLICE_LIT("{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"alg\":\"HS256\"}"),
                            ALG_BIT(ALG_HS384), "a key for HS256, and none of HS384");
}
END_TEST

START_TEST(test_jwk_members_that_allow)
{
    static const char *const fine[] = {
        "{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"use\":\"sig\",\"alg\":\"HS256\"}",
        "{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"key_ops\":[\"sign\",\"verify\"]}",
        " \n{\"kty\":\"oct\",\"k\":\"" K_32 "\",\"more\":{}}\n",
        "\xEF\xBB\xBF{\"keys\":[{\"kty\":\"oct\",\"k\":\"" K_32 "\"}]}",
    };
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        struct keys *keys = keys_rig_parse(slice_of(fine[i]), KEYS_RIG_ALL);
        ck_assert_uint_eq(keys_algs(keys), ALG_BIT(ALG_HS256));
        ck_assert_ptr_null(keys_rig_refusal_by_secret(
            keys, SLICE_LIT("0123456789abcdef0123456789abcdef"), ALG_HS256, NULL));
        keys_free(keys);
    }
}
END_TEST

/* Some write n with a zero in front, as its sign. */
START_TEST(test_zeros_before_numbers_are_nothing)
{
    struct keys *keys = keys_rig_parse(
        SLICE_LIT("{\"kty\":\"RSA\",\"n\":\"" NUMBERS_2048 "\",\"e\":\"AAEAAQ\"}"), KEYS_RIG_ALL);
    ck_assert(keys_algs(keys) & ALG_BIT(ALG_RS256));
    keys_free(keys);
}
END_TEST

/* A key's own alg narrows it down even though it could do more. */
START_TEST(test_alg_of_a_key_binds_it)
{
    struct buf jwk = {0};
    token_rig_put_jwk(&jwk, keys_rig_rsa, "\"alg\":\"PS256\"");
    struct keys *keys = keys_rig_parse(buf_slice(&jwk), KEYS_RIG_ALL);
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_rsa, ALG_PS256, NULL));
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_rsa, ALG_RS256, NULL),
                     "no key serves its alg");
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_rsa, ALG_PS384, NULL),
                     "no key serves its alg");
    keys_free(keys);
    buf_reset(&jwk);
}
END_TEST

START_TEST(test_algs_of_the_issuer_bind_its_keys)
{
    struct buf jwk = {0};
    token_rig_put_jwk(&jwk, keys_rig_rsa, NULL);
    struct keys *keys = keys_rig_parse(buf_slice(&jwk), ALG_BIT(ALG_RS384) | ALG_BIT(ALG_HS256));
    ck_assert_uint_eq(keys_algs(keys), ALG_BIT(ALG_RS384));
    ck_assert_str_eq(keys_rig_refusal(keys, keys_rig_rsa, ALG_RS256, NULL),
                     "no key serves its alg");
    keys_free(keys);
    buf_reset(&jwk);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("keys as JWK");
    tcase_add_unchecked_fixture(tests, keys_rig_setup, keys_rig_teardown);
    tcase_add_loop_test(tests, test_public_keys_serve_their_algorithms, 0,
                        sizeof(kinds) / sizeof(kinds[0]));
    tcase_add_test(tests, test_secrets_serve_what_they_are_long_enough_for);
    tcase_add_test(tests, test_short_secrets_are_refused);
    tcase_add_test(tests, test_secrets_are_taken_only_for_hmac);
    tcase_add_test(tests, test_line_feed_behind_a_secret_is_none_of_it);
    tcase_add_test(tests, test_secrets_may_have_any_bytes);
    tcase_add_loop_test(tests, test_jwks_that_are_refused, 0, sizeof(jwks) / sizeof(jwks[0]));
    tcase_add_test(tests, test_long_rsa_keys_are_refused);
    tcase_add_test(tests, test_jwk_for_another_alg_is_refused);
    tcase_add_test(tests, test_jwk_members_that_allow);
    tcase_add_test(tests, test_zeros_before_numbers_are_nothing);
    tcase_add_test(tests, test_alg_of_a_key_binds_it);
    tcase_add_test(tests, test_algs_of_the_issuer_bind_its_keys);
    return tests_run(tests);
}
