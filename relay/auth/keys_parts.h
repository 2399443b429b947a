/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of keys share. */
#pragma once
#include <openssl/evp.h>
#include "relay/auth/keys.h"

/* Everything that does not depend on a token is done when a key is made: what OpenSSL fetches by
 * name it looks for under a lock, which takes longer than an HMAC. A verification copies what is
 * ready here, which OpenSSL allows from several threads at once, as nothing in it is written. */
struct key {
    char *kid;     /* NULL: it has none */
    uint32_t algs; /* the bits of those that it serves */
    EVP_PKEY *public_key;
    size_t signature_bytes; /* 0: the algorithm says it */
    EVP_MAC_CTX *mac[ALG_COUNT];
    EVP_PKEY_CTX *verifier[ALG_COUNT];
};

struct keys {
    struct key items[KEYS_MAX];
    size_t count;
    struct strings skipped;
    EVP_MAC *hmac;
    EVP_MD *hash[ALG_COUNT];
};

/* --- keys_key.c ------------------------------------------------------------------------------- */
void key_reset(struct key *key);
/* Each makes a key of it that serves those of @algs that it can, one at least. ERR_INVALID: *why
 * (appended) begins with what the key is. */
NODISCARD enum err key_take_secret(struct key *key, struct keys *keys, struct slice secret,
                                   uint32_t algs, struct buf *why);
/* Takes over the reference to @public_key. */
NODISCARD enum err key_take_public(struct key *key, struct keys *keys, EVP_PKEY *public_key,
                                   uint32_t algs, struct buf *why);

/* --- keys_weak.c ------------------------------------------------------------------------------ */
bool key_is_weak_edwards(const EVP_PKEY *key);

/* --- keys_pem.c ------------------------------------------------------------------------------- */
bool keys_is_pem(struct slice bytes);
/* A public key in a form that we do not read. */
bool keys_is_other_public(struct slice bytes);
NODISCARD enum err keys_parse_pem(struct keys *keys, struct slice bytes, uint32_t algs,
                                  struct buf *why);

/* --- keys_jwk.c ------------------------------------------------------------------------------- */
/* A JWK or a JWKS. */
NODISCARD enum err keys_parse_json(struct keys *keys, struct slice bytes, uint32_t algs,
                                   struct buf *why);
/* --- keys_jwk_public.c: the members of RSA, EC and OKP -----------------------------------------
 */
/* NULL: *why (appended) says what is wrong. */
EVP_PKEY *key_jwk_public(const cJSON *jwk, struct buf *why);
