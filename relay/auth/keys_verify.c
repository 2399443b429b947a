/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <string.h>

#include "relay/auth/keys_parts.h"

static const unsigned char *bytes_of(struct slice s)
{
    return (const unsigned char *)s.ptr;
}

/* --- which key -------------------------------------------------------------------------------- */

enum by_kid { BY_SAME_KID, BY_NO_KID, BY_ANY_KID };

static bool is_meant(const struct key *key, enum by_kid by, const char *kid)
{
    switch (by) {
    case BY_SAME_KID:
        return key->kid && strcmp(key->kid, kid) == 0;
    case BY_NO_KID:
        return !key->kid;
    case BY_ANY_KID:
        return true;
    }
    return false;
}

/* How many keys are meant; *key is one of them that serves @alg, *fitting how many do. */
static size_t look(const struct keys *keys, enum by_kid by, const struct jws *jws,
                   const struct key **key, size_t *fitting)
{
    size_t meant = 0;
    *fitting = 0;
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *candidate = &keys->items[i];
        if (!is_meant(candidate, by, jws->kid))
            continue;
        meant++;
        if (candidate->algs & ALG_BIT(jws->alg)) {
            ++*fitting;
            *key = candidate;
        }
    }
    return meant;
}

/* Trying several would let a token choose its key by its signature alone, and cost as many
 * verifications as there are keys. */
static const char *find(const struct keys *keys, const struct jws *jws, const struct key **key)
{
    size_t fitting;
    if (!jws->kid)
        look(keys, BY_ANY_KID, jws, key, &fitting);
    else if (look(keys, BY_SAME_KID, jws, key, &fitting) == 0 &&
             look(keys, BY_NO_KID, jws, key, &fitting) == 0)
        return "its kid is unknown";
    if (fitting == 0)
        return "no key serves its alg";
    if (fitting > 1)
        return jws->kid ? "several keys have its kid" : "without kid several keys would do";
    return NULL;
}

/* --- whether it has signed -------------------------------------------------------------------- */

static bool verify_mac(const struct key *key, const struct jws *jws)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t len = 0;
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(key->mac[jws->alg]);
    bool ok = ctx && EVP_MAC_update(ctx, bytes_of(jws->signed_text), jws->signed_text.len) == 1 &&
              EVP_MAC_final(ctx, mac, &len, sizeof(mac)) == 1 && len == jws->signature.len &&
              CRYPTO_memcmp(mac, jws->signature.ptr, len) == 0;
    EVP_MAC_CTX_free(ctx);
    return ok;
}

/* OpenSSL takes r and s of ECDSA as DER. NULL: they are not what they should be; OPENSSL_free()
 * the result. */
static unsigned char *der_of(struct slice signature, size_t number_bytes, int *len)
{
    unsigned char *der = NULL;
    if (signature.len != 2 * number_bytes)
        return NULL;
    const unsigned char *at = bytes_of(signature);
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(at, (int)number_bytes, NULL);
    BIGNUM *s = BN_bin2bn(at + number_bytes, (int)number_bytes, NULL);
    if (pair && r && s && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL;
        *len = i2d_ECDSA_SIG(pair, &der);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(pair);
    return *len > 0 ? der : NULL;
}

static bool verify_hash(const struct keys *keys, const struct key *key, const struct jws *jws,
                        const unsigned char *signature, size_t len)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int hash_len;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_dup(key->verifier[jws->alg]);
    bool ok = ctx &&
              EVP_Digest(jws->signed_text.ptr, jws->signed_text.len, hash, &hash_len,
                         keys->hash[jws->alg], NULL) == 1 &&
              EVP_PKEY_verify(ctx, signature, len, hash, hash_len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool verify_ecdsa(const struct keys *keys, const struct key *key, const struct jws *jws)
{
    int len = 0;
    unsigned char *der = der_of(buf_slice(&jws->signature), alg_row(jws->alg)->number_bytes, &len);
    bool ok = der && verify_hash(keys, key, jws, der, (size_t)len);
    OPENSSL_free(der);
    return ok;
}

/* It hashes by itself, so there is nothing to make ready: OpenSSL 3.0 cannot copy such a context.
 */
static bool verify_edwards(const struct key *key, const struct jws *jws)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && jws->signature.len == key->signature_bytes &&
              EVP_DigestVerifyInit_ex(ctx, NULL, NULL, NULL, NULL, key->public_key, NULL) == 1 &&
              EVP_DigestVerify(ctx, bytes_of(buf_slice(&jws->signature)), jws->signature.len,
                               bytes_of(jws->signed_text), jws->signed_text.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool verify(const struct keys *keys, const struct key *key, const struct jws *jws)
{
    switch (alg_row(jws->alg)->family) {
    case ALG_HMAC:
        return verify_mac(key, jws);
    case ALG_PKCS1:
    case ALG_PSS:
        return jws->signature.len == key->signature_bytes &&
               verify_hash(keys, key, jws, bytes_of(buf_slice(&jws->signature)),
                           jws->signature.len);
    case ALG_ECDSA:
        return verify_ecdsa(keys, key, jws);
    case ALG_EDWARDS:
        return verify_edwards(key, jws);
    }
    return false;
}

const char *keys_kid(const struct keys *keys, const struct jws *jws)
{
    const struct key *key = NULL;
    return !find(keys, jws, &key) && key->kid ? key->kid : jws->kid;
}

const char *keys_verify(const struct keys *keys, const struct jws *jws)
{
    const struct key *key = NULL;
    const char *why = find(keys, jws, &key);
    if (why)
        return why;
    /* What OpenSSL complains of would pile up on this thread. */
    ERR_set_mark();
    bool ok = verify(keys, key, jws);
    ERR_pop_to_mark();
    return ok ? NULL : "its signature is wrong";
}
