/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody whose tokens count, and how they are judged. Keys are never shared between issuers.
 * Immutable once made. No I/O; any thread. */
#pragma once
#include "common/strings.h"
#include "relay/auth/claims.h"
#include "relay/auth/keys.h"

/* Owned texts; NULL: not asked for. */
struct issuer_fields {
    char *iss;
    char *aud;
    char *aud_claim; /* a JSON Pointer: looked at in place of aud */
    struct strings algs;
    struct strings namespaces; /* that it may speak for */
    bool any_namespace;        /* it may speak for all; `namespaces` does not count */
    bool exp_optional;
    bool at_jwt; /* the header must say "typ":"at+jwt" (RFC 9068) */
    struct keys *keys;
};

void issuer_fields_reset(struct issuer_fields *f);

struct issuer;

/* Takes over @fields' contents (and leaves it empty). ERR_INVALID: they stay the caller's, and *why
 * (appended) says what is wrong: algs (none or unknown ones), keys (none), aud_claim. */
NODISCARD enum err issuer_new(struct issuer_fields *fields, struct issuer **out, struct buf *why);
void issuer_free(struct issuer *i); /* NULL is fine */
const struct issuer_fields *issuer_fields(const struct issuer *i);
bool issuer_speaks_for(const struct issuer *i, struct slice ns);

/* What the relay's options say, and the time. */
struct issuer_clock {
    uint64_t now_s;
    uint64_t leeway_s;
    uint64_t max_life_s; /* how far ahead exp may be; 0: as far as it likes */
};

/* NULL: the token is the issuer's, and counts now. Otherwise a static reason in words. @is_signed:
 * whether the signature was right, so that the reason may be told. */
const char *issuer_verify(const struct issuer *i, const struct jws *jws,
                          const struct issuer_clock *clock, bool *is_signed);
