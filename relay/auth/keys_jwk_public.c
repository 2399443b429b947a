/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <string.h>

#include "common/base64url.h"
#include "relay/auth/keys_parts.h"
#include "relay/auth/members.h"

/* Appends the bytes of a base64url member. @exactly: 0: any number but none. */
static bool take_bytes(const cJSON *jwk, const char *name, size_t exactly, struct buf *out)
{
    const char *text = member_text(jwk, name);
    size_t before = out->len;
    if (!text || base64url_decode(slice_of(text), out) != OK)
        return false;
    size_t len = out->len - before;
    return exactly ? len == exactly : len > 0;
}

/* NULL where OpenSSL does not take the numbers, as for a point that is not on its curve. */
static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *builder)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params && ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static BIGNUM *number_of(const struct buf *bytes)
{
    return BN_bin2bn((const unsigned char *)bytes->ptr, (int)bytes->len, NULL);
}

static EVP_PKEY *from_numbers(const struct buf *n, const struct buf *e)
{
    EVP_PKEY *key = NULL;
    BIGNUM *modulus = number_of(n), *exponent = number_of(e);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (modulus && exponent && builder &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        key = from_params("RSA", builder);
    OSSL_PARAM_BLD_free(builder);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

/* Longer numbers are refused before they are turned into any. */
static EVP_PKEY *read_rsa(const cJSON *jwk, struct buf *why)
{
    struct buf n = {0}, e = {0};
    EVP_PKEY *key = NULL;
    if (!take_bytes(jwk, "n", 0, &n) || !take_bytes(jwk, "e", 0, &e))
        buf_puts(why, "an RSA key whose n or e is not base64url");
    else if (n.len > KEYS_RSA_BITS_MAX / 8 + 1 || e.len > KEYS_RSA_BITS_MAX / 8)
        buf_printf(why, "an RSA key of more than %d bits", KEYS_RSA_BITS_MAX);
    else if (!(key = from_numbers(&n, &e)))
        buf_puts(why, "an RSA key whose numbers are none of RSA");
    buf_reset(&n);
    buf_reset(&e);
    return key;
}

static const struct alg_row *row_of_curve(const char *curve)
{
    for (enum alg alg = ALG_ES256; curve && alg <= ALG_ES512; alg++)
        if (strcmp(alg_row(alg)->curve, curve) == 0)
            return alg_row(alg);
    return NULL;
}

static EVP_PKEY *from_point(const char *curve, const struct buf *point)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (builder &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point->ptr,
                                         point->len) == 1)
        key = from_params("EC", builder);
    OSSL_PARAM_BLD_free(builder);
    return key;
}

static EVP_PKEY *read_ec(const cJSON *jwk, struct buf *why)
{
    const struct alg_row *row = row_of_curve(member_text(jwk, "crv"));
    struct buf point = {0};
    EVP_PKEY *key = NULL;
    buf_putc(&point, 4); /* both coordinates follow */
    if (!row)
        buf_puts(why, "an EC key of another curve than P-256, P-384, P-521");
    else if (!take_bytes(jwk, "x", row->number_bytes, &point) ||
             !take_bytes(jwk, "y", row->number_bytes, &point))
        buf_printf(why, "a key of %s whose x or y is not %zu bytes in base64url", row->curve,
                   row->number_bytes);
    else if (!(key = from_point(row->curve, &point)))
        buf_puts(why, "an EC key whose point is not on its curve");
    buf_reset(&point);
    return key;
}

static EVP_PKEY *read_okp(const cJSON *jwk, struct buf *why)
{
    const char *curve = member_text(jwk, "crv");
    bool is_448 = curve && strcmp(curve, "Ed448") == 0;
    struct buf x = {0};
    EVP_PKEY *key = NULL;
    if (!is_448 && (!curve || strcmp(curve, "Ed25519") != 0))
        buf_puts(why, "an OKP key of another curve than Ed25519, Ed448");
    else if (!take_bytes(jwk, "x", is_448 ? 57 : 32, &x) ||
             !(key = EVP_PKEY_new_raw_public_key_ex(NULL, curve, NULL, (const unsigned char *)x.ptr,
                                                    x.len)))
        buf_printf(why, "a key of %s whose x is not %d bytes in base64url", curve,
                   is_448 ? 57 : 32);
    buf_reset(&x);
    return key;
}

EVP_PKEY *key_jwk_public(const cJSON *jwk, struct buf *why)
{
    const char *kty = member_text(jwk, "kty");
    /* Whoever has it can sign; so it is in the wrong place, and should be no longer used. */
    if (cJSON_GetObjectItemCaseSensitive(jwk, "d")) {
        buf_puts(why, "a private key (it has d): the relay takes the public part only");
        return NULL;
    }
    if (kty && strcmp(kty, "RSA") == 0)
        return read_rsa(jwk, why);
    if (kty && strcmp(kty, "EC") == 0)
        return read_ec(jwk, why);
    if (kty && strcmp(kty, "OKP") == 0)
        return read_okp(jwk, why);
    buf_puts(why, "a key whose kty is none of RSA, EC, OKP, oct");
    return NULL;
}
