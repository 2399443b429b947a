/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as PEM and as secrets, and what each of them serves. */
#include "test/unit/keys_rig.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

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

/* --- PEM -------------------------------------------------------------------------------------- */

static void put_bio(struct buf *b, BIO *bio)
{
    char *text;
    long len = BIO_get_mem_data(bio, &text);
    buf_put(b, text, (size_t)len);
    BIO_free(bio);
}

START_TEST(test_certificates_are_boxes_for_keys)
{
    X509 *certificate = X509_new();
    struct buf file = {0};
    BIO *bio = BIO_new(BIO_s_mem());
    /* Long expired. */
    ASN1_TIME_set(X509_getm_notBefore(certificate), 0);
    ASN1_TIME_set(X509_getm_notAfter(certificate), 1);
    ck_assert_int_eq(X509_set_pubkey(certificate, keys_rig_rsa), 1);
    ck_assert_int_gt(X509_sign(certificate, keys_rig_rsa, EVP_sha256()), 0);
    buf_puts(&file, "Certificate:\n    Data:\n");
    ck_assert_int_eq(PEM_write_bio_X509(bio, certificate), 1);
    put_bio(&file, bio);
    struct keys *keys = keys_rig_parse(buf_slice(&file), ALG_BIT(ALG_RS256));
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_rsa, ALG_RS256, NULL));
    keys_free(keys);
    X509_free(certificate);
    buf_reset(&file);
}
END_TEST

/* "BEGIN RSA PUBLIC KEY": the key without what says that it is one for RSA. */
START_TEST(test_keys_of_pkcs1_are_read)
{
    unsigned char *der = NULL;
    int len = i2d_PublicKey(keys_rig_rsa, &der);
    BIO *bio = BIO_new(BIO_s_mem());
    struct buf file = {0};
    PEM_write_bio(bio, PEM_STRING_RSA_PUBLIC, "", der, len);
    put_bio(&file, bio);
    struct keys *keys = keys_rig_parse(buf_slice(&file), KEYS_RIG_ALL);
    ck_assert_ptr_null(keys_rig_refusal(keys, keys_rig_rsa, ALG_PS384, NULL));
    keys_free(keys);
    OPENSSL_free(der);
    buf_reset(&file);
}
END_TEST

START_TEST(test_keys_for_pss_serve_nothing_else)
{
    EVP_PKEY *pss = token_rig_key("RSA-PSS", 2048);
    struct buf pem = {0};
    token_rig_put_pem(&pem, pss);
    struct keys *keys = keys_rig_parse(buf_slice(&pem), KEYS_RIG_ALL);
    ck_assert_uint_eq(keys_algs(keys),
                      ALG_BIT(ALG_PS256) | ALG_BIT(ALG_PS384) | ALG_BIT(ALG_PS512));
    ck_assert_ptr_null(keys_rig_refusal(keys, pss, ALG_PS256, NULL));
    keys_free(keys);
    buf_reset(&pem);
    EVP_PKEY_free(pss);
}
END_TEST

static void expect_pem_refused(EVP_PKEY *key, uint32_t algs, const char *expected)
{
    struct buf pem = {0};
    token_rig_put_pem(&pem, key);
    keys_rig_expect_refused(buf_slice(&pem), algs, expected);
    buf_reset(&pem);
    EVP_PKEY_free(key);
}

START_TEST(test_public_keys_that_are_refused)
{
    expect_pem_refused(token_rig_key("RSA", 2047), KEYS_RIG_ALL,
                       "an RSA key of 2047 bits; expected 2048 to 8192");
    expect_pem_refused(token_rig_key("RSA", 1024), KEYS_RIG_ALL,
                       "an RSA key of 1024 bits; expected 2048 to 8192");
    expect_pem_refused(token_rig_key("P-224", 0), KEYS_RIG_ALL,
                       "an EC key of another curve than P-256, P-384, P-521");
    expect_pem_refused(token_rig_key("X25519", 0), KEYS_RIG_ALL,
                       "a key of a kind that signs no tokens; expected RSA, EC, Ed25519 or Ed448");
    expect_pem_refused(token_rig_key("P-256", 0), ALG_BIT(ALG_ES384),
                       "a key that serves ES256, and none of ES384");
}
END_TEST

/* The operator's own way into algorithm confusion. */
START_TEST(test_public_keys_are_no_secrets)
{
    struct buf pem = {0}, text = {0};
    uint32_t hmac = ALG_BIT(ALG_HS256);
    token_rig_put_pem(&pem, keys_rig_rsa);
    keys_rig_expect_refused(
        buf_slice(&pem), hmac,
        "a key that serves RS256, RS384, RS512, PS256, PS384, PS512, and none of HS256");
    buf_puts(&text, "my key\n");
    buf_put_slice(&text, buf_slice(&pem));
    keys_rig_expect_refused(
        buf_slice(&text), hmac,
        "a key that serves RS256, RS384, RS512, PS256, PS384, PS512, and none of HS256");
    struct keys *keys = keys_rig_parse(buf_slice(&pem), hmac | ALG_BIT(ALG_RS256));
    ck_assert_str_eq(keys_rig_refusal_by_secret(keys, buf_slice(&pem), ALG_HS256, NULL),
                     "no key serves its alg");
    keys_free(keys);
    buf_reset(&text);
    buf_reset(&pem);
}
END_TEST

START_TEST(test_public_keys_in_other_forms_are_no_secrets)
{
    static const char expected[] =
        "a public key as DER or for SSH; expected PEM (openssl pkey -pubin -inform DER, ssh-keygen "
        "-e -m PKCS8)";
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(keys_rig_p256, &der);
    keys_rig_expect_refused((struct slice){(char *)der, (size_t)len}, KEYS_RIG_ALL, expected);
    keys_rig_expect_refused(
        SLICE_LIT("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0123456789abcdef me@host\n"), KEYS_RIG_ALL,
        expected);
    OPENSSL_free(der);
}
END_TEST

START_TEST(test_private_keys_are_refused)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct buf file = {0}, jwk = {0};
    PEM_write_bio_PrivateKey(bio, keys_rig_p256, NULL, NULL, 0, NULL, NULL);
    put_bio(&file, bio);
    keys_rig_expect_refused(
        buf_slice(&file), KEYS_RIG_ALL,
        "a private key: the relay takes the public one, and needs no other (openssl "
        "pkey -pubout)");
    token_rig_put_jwk(&jwk, keys_rig_p256, "\"d\":\"AAAA\"");
    keys_rig_expect_refused(buf_slice(&jwk), KEYS_RIG_ALL,
                            "a private key (it has d): the relay takes the public part only");
    buf_reset(&file);
    buf_reset(&jwk);
}
END_TEST

START_TEST(test_pem_that_cannot_be_read)
{
    struct buf pem = {0};
    keys_rig_expect_refused(SLICE_LIT("-----BEGIN PUBLIC KEY-----\nAAAA\n"), KEYS_RIG_ALL,
                            "PEM that cannot be read");
    keys_rig_expect_refused(
        SLICE_LIT("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), KEYS_RIG_ALL,
        "PEM that holds no public key that can be read");
    keys_rig_expect_refused(
        SLICE_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), KEYS_RIG_ALL,
        "PEM that holds no public key that can be read");
    keys_rig_expect_refused(
        SLICE_LIT("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"),
        KEYS_RIG_ALL, "PEM that holds no public key that can be read");
    token_rig_put_pem(&pem, keys_rig_rsa);
    token_rig_put_pem(&pem, keys_rig_p256);
    keys_rig_expect_refused(
        buf_slice(&pem), KEYS_RIG_ALL,
        "PEM with more than one key; for several, a JWKS says by kid which is which");
    buf_reset(&pem);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("keys");
    tcase_add_unchecked_fixture(tests, keys_rig_setup, keys_rig_teardown);
    tcase_add_loop_test(tests, test_public_keys_serve_their_algorithms, 0,
                        sizeof(kinds) / sizeof(kinds[0]));
    tcase_add_test(tests, test_secrets_serve_what_they_are_long_enough_for);
    tcase_add_test(tests, test_short_secrets_are_refused);
    tcase_add_test(tests, test_secrets_are_taken_only_for_hmac);
    tcase_add_test(tests, test_line_feed_behind_a_secret_is_none_of_it);
    tcase_add_test(tests, test_secrets_may_have_any_bytes);
    tcase_add_test(tests, test_certificates_are_boxes_for_keys);
    tcase_add_test(tests, test_keys_of_pkcs1_are_read);
    tcase_add_test(tests, test_keys_for_pss_serve_nothing_else);
    tcase_add_test(tests, test_public_keys_that_are_refused);
    tcase_add_test(tests, test_public_keys_are_no_secrets);
    tcase_add_test(tests, test_public_keys_in_other_forms_are_no_secrets);
    tcase_add_test(tests, test_private_keys_are_refused);
    tcase_add_test(tests, test_pem_that_cannot_be_read);
    return tests_run(tests);
}
