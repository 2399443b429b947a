/* SPDX-License-Identifier: Apache-2.0 */
#include "test/unit/token_rig.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64url.h"

/* What fails here is the test's own fault. */
static void must(bool ok)
{
    if (!ok)
        abort();
}

EVP_PKEY *token_rig_key(const char *kind, unsigned bits)
{
    bool is_curve = strchr(kind, '-') && strncmp(kind, "RSA", 3) != 0;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, is_curve ? "EC" : kind, NULL);
    must(ctx && EVP_PKEY_keygen_init(ctx) == 1);
    if (is_curve)
        must(EVP_PKEY_CTX_set_group_name(ctx, kind) == 1);
    if (bits)
        must(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits) == 1);
    must(EVP_PKEY_generate(ctx, &key) == 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

void token_rig_put_pem(struct buf *b, EVP_PKEY *key)
{
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    must(bio && PEM_write_bio_PUBKEY(bio, key) == 1);
    long len = BIO_get_mem_data(bio, &text);
    buf_put(b, text, (size_t)len);
    BIO_free(bio);
}

/* `,"name":"base64url"` of a number in @size bytes; 0: as many as it takes. */
static void put_number(struct buf *b, const char *name, EVP_PKEY *key, const char *param, int size)
{
    BIGNUM *number = NULL;
    unsigned char bytes[2048];
    must(EVP_PKEY_get_bn_param(key, param, &number) == 1);
    int len = BN_bn2binpad(number, bytes, size ? size : BN_num_bytes(number));
    buf_printf(b, ",\"%s\":\"", name);
    base64url_put(b, bytes, (size_t)len);
    buf_putc(b, '"');
    BN_free(number);
}

static void put_ec(struct buf *b, EVP_PKEY *key)
{
    int bits = EVP_PKEY_get_bits(key), size = (bits + 7) / 8;
    buf_printf(b, "\"kty\":\"EC\",\"crv\":\"P-%d\"", bits);
    put_number(b, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, size);
    put_number(b, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, size);
}

static void put_okp(struct buf *b, EVP_PKEY *key)
{
    unsigned char bytes[64];
    size_t len = sizeof(bytes);
    int id = EVP_PKEY_get_base_id(key);
    must(EVP_PKEY_get_raw_public_key(key, bytes, &len) == 1);
    buf_printf(b, "\"kty\":\"OKP\",\"crv\":\"%s\",\"x\":\"",
               id == EVP_PKEY_ED25519 ? "Ed25519"
               : id == EVP_PKEY_ED448 ? "Ed448"
                                      : "X25519");
    base64url_put(b, bytes, len);
    buf_putc(b, '"');
}

static void end_jwk(struct buf *b, const char *more)
{
    if (more)
        buf_printf(b, ",%s", more);
    buf_putc(b, '}');
}

void token_rig_put_jwk(struct buf *b, EVP_PKEY *key, const char *more)
{
    buf_putc(b, '{');
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        buf_puts(b, "\"kty\":\"RSA\"");
        put_number(b, "n", key, OSSL_PKEY_PARAM_RSA_N, 0);
        put_number(b, "e", key, OSSL_PKEY_PARAM_RSA_E, 0);
    } else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        put_ec(b, key);
    } else {
        put_okp(b, key);
    }
    end_jwk(b, more);
}

void token_rig_put_jwk_secret(struct buf *b, struct slice secret, const char *more)
{
    buf_puts(b, "{\"kty\":\"oct\",\"k\":\"");
    base64url_put(b, secret.ptr, secret.len);
    buf_putc(b, '"');
    end_jwk(b, more);
}

/* --- signatures ------------------------------------------------------------------------------- */

static void put_text(struct buf *b, const char *header, const char *claims)
{
    base64url_put(b, header, strlen(header));
    buf_putc(b, '.');
    base64url_put(b, claims, strlen(claims));
}

static void put_signature(struct buf *b, const unsigned char *bytes, size_t len)
{
    buf_putc(b, '.');
    base64url_put(b, bytes, len);
}

/* r and s of equal length in place of DER. */
static size_t from_der(unsigned char *bytes, size_t len, int number_bytes)
{
    const unsigned char *at = bytes;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)len);
    must(pair != NULL);
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), bytes, number_bytes);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), bytes + number_bytes, number_bytes);
    ECDSA_SIG_free(pair);
    return 2 * (size_t)number_bytes;
}

void token_rig_sign(struct buf *b, EVP_PKEY *key, enum alg alg, const char *header,
                    const char *claims)
{
    const struct alg_row *row = alg_row(alg);
    unsigned char signature[2048];
    size_t len = sizeof(signature), from = b->len;
    EVP_PKEY_CTX *how;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    put_text(b, header, claims);
    must(EVP_DigestSignInit_ex(ctx, &how, row->hash, NULL, NULL, key, NULL) == 1);
    if (row->family == ALG_PSS)
        must(EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST) == 1);
    must(EVP_DigestSign(ctx, signature, &len, (unsigned char *)b->ptr + from, b->len - from) == 1);
    EVP_MD_CTX_free(ctx);
    if (row->family == ALG_ECDSA)
        len = from_der(signature, len, (int)row->number_bytes);
    put_signature(b, signature, len);
}

void token_rig_sign_secret(struct buf *b, struct slice secret, enum alg alg, const char *header,
                           const char *claims)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t len = 0, from = b->len;
    put_text(b, header, claims);
    must(EVP_Q_mac(NULL, "HMAC", NULL, alg_row(alg)->hash, NULL, secret.ptr, secret.len,
                   (unsigned char *)b->ptr + from, b->len - from, mac, sizeof(mac), &len) != NULL);
    put_signature(b, mac, len);
}
