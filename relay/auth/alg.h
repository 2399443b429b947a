/* SPDX-License-Identifier: Apache-2.0 */
/* The algorithms that a token may be signed with (RFC 7518, 3.1; RFC 8037): one table. No I/O; any
 * thread. */
#pragma once
#include "common/buf.h"
#include "common/strings.h"

enum alg {
    ALG_HS256,
    ALG_HS384,
    ALG_HS512,
    ALG_RS256,
    ALG_RS384,
    ALG_RS512,
    ALG_PS256,
    ALG_PS384,
    ALG_PS512,
    ALG_ES256,
    ALG_ES384,
    ALG_ES512,
    ALG_EDDSA,
    ALG_COUNT,
};

enum alg_family { ALG_HMAC, ALG_PKCS1, ALG_PSS, ALG_ECDSA, ALG_EDWARDS };

struct alg_row {
    const char *name;
    enum alg_family family;
    const char *hash;    /* as OpenSSL calls it; NULL: its own business */
    size_t hash_bytes;   /* a secret has at least as many */
    size_t number_bytes; /* ALG_ECDSA: of r, and of s */
    const char *curve;   /* ALG_ECDSA: the only one */
};

/* Several at once: a bit for each. */
#define ALG_BIT(alg) (UINT32_C(1) << (alg))

const struct alg_row *alg_row(enum alg alg);
/* Case counts. ERR_NOT_FOUND. */
NODISCARD enum err alg_find(struct slice name, enum alg *out);
/* All of @names, one at least. ERR_INVALID: *why says which is none. */
NODISCARD enum err alg_parse_set(const struct strings *names, uint32_t *out, struct buf *why);
/* Appends their names, with commas. */
void alg_put_set(struct buf *b, uint32_t set);
