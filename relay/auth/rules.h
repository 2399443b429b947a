/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the auth file: what the claims that an identity provider's tokens have anyway come
 * to. All that apply count, together. Immutable. No I/O. docs/protocol.md, 14. */
#pragma once
#include "relay/auth/draft.h"

enum { RULES_MAX = 1000 };

struct rules;

/* @file: the whole auth file; it may have no `rules`. ERR_INVALID: *why names the place. */
NODISCARD enum err rules_new(const cJSON *file, struct rules **out, struct buf *why);
void rules_free(struct rules *rules); /* NULL is fine */
size_t rules_count(const struct rules *rules);
/* Puts what they grant for @claims into @d. */
void rules_put(const struct rules *rules, const cJSON *claims, struct draft *d);
