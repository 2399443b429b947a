/* SPDX-License-Identifier: Apache-2.0 */
/* What a rule, a static key or `anonymous` of the auth file grants: its members subscribe, publish,
 * topics, match and admin. Immutable. No I/O. */
#pragma once
#include "relay/auth/draft.h"

#define RIGHTS_MEMBERS "subscribe", "publish", "topics", "match", "admin"

struct rights;

/* Of @object, whose other members are the caller's. @has_claims: {…} may be filled from claims.
 * ERR_INVALID: *why names the place. */
NODISCARD enum err rights_new(const struct place *at, const cJSON *object, bool has_claims,
                              struct rights **out, struct buf *why);
void rights_free(struct rights *r); /* NULL is fine */
bool rights_are_empty(const struct rights *r);
/* Puts them into @d. @at: where they stand. @claims: NULL where there are none. */
void rights_put(const struct rights *r, const cJSON *claims, const struct place *at,
                struct draft *d);
