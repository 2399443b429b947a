/* SPDX-License-Identifier: Apache-2.0 */
/* What a token says, once its signature is right: times, issuer, audience, and values at JSON
 * Pointers (RFC 6901). No I/O; any thread. */
#pragma once
#include "common/json.h"

/* NULL: not asked for. */
struct claims_wanted {
    const char *iss;
    const char *aud;
    const char *aud_claim; /* a JSON Pointer: looked at in place of aud */
    bool exp_optional;
    uint64_t now_s, leeway_s;
    uint64_t max_life_s; /* 0: any */
};

/* NULL: the claims are as wanted. Otherwise a static reason. */
const char *claims_check(const cJSON *claims, const struct claims_wanted *wanted);

/* The value at a JSON Pointer (common/json_pointer.h); NULL: none, or the pointer is not valid.
 * Case counts. */
const cJSON *claims_at(const cJSON *claims, const char *pointer);

/* A time in Unix seconds, without its fraction. ERR_NOT_FOUND: there is none; ERR_INVALID: it is no
 * time. */
NODISCARD enum err claims_time(const cJSON *claims, const char *name, uint64_t *out);
