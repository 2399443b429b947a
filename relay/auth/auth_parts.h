/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of auth share: for them only. */
#pragma once
#include <stdatomic.h>

#include "relay/auth/auth.h"
#include "relay/auth/auth_file.h"
#include "relay/auth/draft.h"

struct auth {
    atomic_uint refs;
    struct auth_file file;
    struct strings files;
    uint64_t leeway_s, max_life_s;
    /* Once for each issuer: its tokens say what cannot be granted. */
    atomic_bool told[AUTH_FILE_ISSUERS_MAX];
};

/* Whose token it says that it is; NULL: nobody's that we know. */
const struct auth_file_issuer *auth_find_issuer(const struct auth *a, const struct jws *jws);
/* NULL: the token counts; else why not, static. */
const char *auth_check(const struct auth *a, const struct auth_file_issuer *issuer,
                       const struct jws *jws, uint64_t now_s, bool *is_signed);
/* What the token of @issuer comes to; whether it counts is not asked here. */
void auth_fill_draft(const struct auth *a, const struct auth_file_issuer *issuer,
                     const struct jws *jws, struct draft *d);
