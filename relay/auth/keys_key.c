/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/objects.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "relay/auth/keys_parts.h"

void key_reset(struct key *key)
{
    for (enum alg alg = 0; alg < ALG_COUNT; alg++) {
        EVP_MAC_CTX_free(key->mac[alg]); /* wipes what it has of the secret */
        EVP_PKEY_CTX_free(key->verifier[alg]);
    }
    EVP_PKEY_free(key->public_key);
    free(key->kid);
    *key = (struct key){0};
}

/* --- secrets ---------------------------------------------------------------------------------- */

static EVP_MAC_CTX *mac_new(struct keys *keys, enum alg alg, struct slice secret)
{
    if (!keys->hmac)
        keys->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = keys->hmac ? EVP_MAC_CTX_new(keys->hmac) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)alg_row(alg)->hash, 0),
        OSSL_PARAM_construct_end(),
    };
    if (mac && EVP_MAC_init(mac, (const unsigned char *)secret.ptr, secret.len, params) == 1)
        return mac;
    EVP_MAC_CTX_free(mac);
    return NULL;
}

enum err key_take_secret(struct key *key, struct keys *keys, struct slice secret, uint32_t algs,
                         struct buf *why)
{
    for (enum alg alg = ALG_HS256; alg <= ALG_HS512; alg++) {
        if (!(algs & ALG_BIT(alg)) || secret.len < alg_row(alg)->hash_bytes)
            continue;
        key->mac[alg] = mac_new(keys, alg, secret);
        if (key->mac[alg])
            key->algs |= ALG_BIT(alg);
    }
    if (key->algs)
        return OK;
    buf_printf(why, "a secret of %zu bytes serves none of ", secret.len);
    alg_put_set(why, algs);
    buf_puts(why, "; HS256 takes 32 bytes at least, HS384 48, HS512 64");
    return ERR_INVALID;
}

/* --- public keys ------------------------------------------------------------------------------ */

/* The number of bits; 0: there is no such number. */
static int bits_of(const EVP_PKEY *key, const char *param, bool *is_odd)
{
    BIGNUM *number = NULL;
    int bits = 0;
    *is_odd = false;
    if (EVP_PKEY_get_bn_param(key, param, &number) == 1) {
        bits = BN_num_bits(number);
        *is_odd = BN_is_odd(number);
    }
    BN_free(number);
    return bits;
}

/* Not EVP_PKEY_public_check(): it asks whether the modulus is a prime, which takes a second for a
 * long one, and says nothing against whoever has made the key himself. */
static enum err check_rsa(const EVP_PKEY *key, struct buf *why)
{
    bool is_odd, is_odd_exponent;
    int bits = bits_of(key, OSSL_PKEY_PARAM_RSA_N, &is_odd);
    int exponent_bits = bits_of(key, OSSL_PKEY_PARAM_RSA_E, &is_odd_exponent);
    if (bits < KEYS_RSA_BITS_MIN || bits > KEYS_RSA_BITS_MAX) {
        buf_printf(why, "an RSA key of %d bits; expected %d to %d", bits, KEYS_RSA_BITS_MIN,
                   KEYS_RSA_BITS_MAX);
        return ERR_INVALID;
    }
    /* With an exponent of 1 everybody can sign. */
    if (!is_odd || !is_odd_exponent || exponent_bits < 2 || exponent_bits > 64) {
        buf_puts(why, "an RSA key whose numbers are none of RSA");
        return ERR_INVALID;
    }
    return OK;
}

static int curve_of(const EVP_PKEY *key)
{
    char name[64];
    size_t len;
    if (EVP_PKEY_get_group_name(key, name, sizeof(name), &len) != 1)
        return NID_undef;
    int nid = OBJ_txt2nid(name);
    return nid != NID_undef ? nid : EC_curve_nist2nid(name);
}

static enum err check_ec(EVP_PKEY *key, uint32_t *can, struct buf *why)
{
    int curve = curve_of(key);
    for (enum alg alg = ALG_ES256; alg <= ALG_ES512; alg++)
        if (EC_curve_nist2nid(alg_row(alg)->curve) == curve)
            *can = ALG_BIT(alg);
    if (*can == 0) {
        buf_puts(why, "an EC key of another curve than P-256, P-384, P-521");
        return ERR_INVALID;
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool ok = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (ok)
        return OK;
    buf_puts(why, "an EC key whose point is not on its curve");
    return ERR_INVALID;
}

static enum err check_edwards(const EVP_PKEY *key, struct buf *why)
{
    if (!key_is_weak_edwards(key))
        return OK;
    buf_puts(why, "a key under which everybody can sign");
    return ERR_INVALID;
}

#define RSA_PKCS1_BITS (ALG_BIT(ALG_RS256) | ALG_BIT(ALG_RS384) | ALG_BIT(ALG_RS512))
#define RSA_PSS_BITS (ALG_BIT(ALG_PS256) | ALG_BIT(ALG_PS384) | ALG_BIT(ALG_PS512))

/* *can: the bits of all algorithms that a key of its kind serves. */
static enum err check_public(EVP_PKEY *key, uint32_t *can, struct buf *why)
{
    *can = 0;
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        *can = RSA_PKCS1_BITS | RSA_PSS_BITS;
        return check_rsa(key, why);
    case EVP_PKEY_RSA_PSS:
        *can = RSA_PSS_BITS;
        return check_rsa(key, why);
    case EVP_PKEY_EC:
        return check_ec(key, can, why);
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        *can = ALG_BIT(ALG_EDDSA);
        return check_edwards(key, why);
    }
    buf_puts(why, "a key of a kind that signs no tokens; expected RSA, EC, Ed25519 or Ed448");
    return ERR_INVALID;
}

static bool set_rsa(EVP_PKEY_CTX *ctx, enum alg_family family, const EVP_MD *hash)
{
    if (family == ALG_PKCS1)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, hash) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static EVP_PKEY_CTX *verifier_new(struct key *key, struct keys *keys, enum alg alg)
{
    const struct alg_row *row = alg_row(alg);
    if (!keys->hash[alg])
        keys->hash[alg] = EVP_MD_fetch(NULL, row->hash, NULL);
    const EVP_MD *hash = keys->hash[alg];
    EVP_PKEY_CTX *ctx = hash ? EVP_PKEY_CTX_new_from_pkey(NULL, key->public_key, NULL) : NULL;
    if (ctx && EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, hash) == 1 &&
        (row->family == ALG_ECDSA || set_rsa(ctx, row->family, hash)))
        return ctx;
    EVP_PKEY_CTX_free(ctx);
    return NULL;
}

/* A key for PSS only may say that it takes no other hash: that one is not served then. */
static void serve(struct key *key, struct keys *keys, enum alg alg)
{
    if (alg_row(alg)->hash) {
        key->verifier[alg] = verifier_new(key, keys, alg);
        if (!key->verifier[alg])
            return;
    }
    key->algs |= ALG_BIT(alg);
}

enum err key_take_public(struct key *key, struct keys *keys, EVP_PKEY *public_key, uint32_t algs,
                         struct buf *why)
{
    uint32_t can;
    key->public_key = public_key;
    key->signature_bytes = (size_t)EVP_PKEY_get_size(public_key);
    enum err e = check_public(public_key, &can, why);
    if (e != OK)
        return e;
    for (enum alg alg = 0; alg < ALG_COUNT; alg++)
        if (can & algs & ALG_BIT(alg))
            serve(key, keys, alg);
    if (key->algs)
        return OK;
    buf_puts(why, "a key that serves ");
    alg_put_set(why, can);
    buf_puts(why, ", and none of ");
    alg_put_set(why, algs);
    return ERR_INVALID;
}
