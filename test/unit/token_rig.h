/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and tokens for tests: made when they are needed, kept nowhere. */
#pragma once
#include <openssl/evp.h>
#include "common/json.h"
#include "relay/auth/alg.h"

/* A fresh key pair: "RSA" (with @bits), "RSA-PSS" (with @bits), "ED25519", "ED448", "X25519", or an
 * EC curve such as "P-256". */
EVP_PKEY *token_rig_key(const char *kind, unsigned bits);

/* What stands in files. */
void token_rig_put_pem(struct buf *b, EVP_PKEY *key);
/* A JWK; @more: members to add, such as "\"kid\":\"a\""; NULL: none. */
void token_rig_put_jwk(struct buf *b, EVP_PKEY *key, const char *more);
void token_rig_put_jwk_secret(struct buf *b, struct slice secret, const char *more);

/* header.claims.signature; @alg says what is done, whatever the header says. */
void token_rig_sign(struct buf *b, EVP_PKEY *key, enum alg alg, const char *header,
                    const char *claims);
void token_rig_sign_secret(struct buf *b, struct slice secret, enum alg alg, const char *header,
                           const char *claims);
