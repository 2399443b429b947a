/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of one issuer. A key serves the algorithms of its own family, curve and `alg`, and only
 * those that the issuer allows. Immutable once parsed. No I/O. */
#pragma once
#include "relay/auth/jws.h"

enum {
    KEYS_MAX = 64,
    KEYS_BYTES_MAX = 1 << 20,
    KEYS_RSA_BITS_MIN = 2048,
    KEYS_RSA_BITS_MAX = 8192, /* verifying takes the square of it */
};

struct keys;

/* Out of a file's bytes, told apart by what they are: a PEM public key or certificate, a JWK, a
 * JWKS, else a secret (without the line feed at its end). @algs: the bits of those that may be
 * used. ERR_INVALID: *why (appended) is a sentence that quotes nothing from @bytes but a kid. In a
 * JWKS keys that cannot be used are skipped, as long as one can. @bytes stay the caller's to wipe.
 */
NODISCARD enum err keys_parse(struct slice bytes, uint32_t algs, struct keys **out,
                              struct buf *why);
void keys_free(struct keys *keys); /* wipes the secrets; NULL is fine */

size_t keys_count(const struct keys *keys);
/* Those of a JWKS that are not used, each with its reason. Borrowed. */
const struct strings *keys_skipped(const struct keys *keys);
/* The bits of the algorithms for which there is a key. */
uint32_t keys_algs(const struct keys *keys);

/* NULL: one of the keys has signed it. Otherwise a static reason. A key is looked for by `kid`
 * among those that serve the algorithm (where none has this `kid`, among those without any);
 * without `kid` it must be the only one. Any thread, also several at once. Up to 400 µs. */
const char *keys_verify(const struct keys *keys, const struct jws *jws);
/* The kid of the key that verifies it, also where the token does not name it; where the key has
 * none, what the token says. NULL: neither. Borrowed. */
const char *keys_kid(const struct keys *keys, const struct jws *jws);
