/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens that were verified lately, so that a reconnect costs a hash and no signature. Bounded: the
 * oldest go first. One worker's. Keyed by SHA-256: a collision would be a login. */
#pragma once
#include "relay/core/grant.h"

enum { TOKEN_CACHE_MAX = 10000, TOKEN_CACHE_KEY = 32 };

struct token_cache;

struct token_cache *token_cache_new(void);
void token_cache_free(struct token_cache *cache);
void token_cache_clear(struct token_cache *cache); /* keys or rules have changed */
/* Borrowed until the next call; NULL: not there. */
struct grant *token_cache_find(struct token_cache *cache, const uint8_t *sha256);
/* Takes a reference. Not what is there already. */
void token_cache_add(struct token_cache *cache, const uint8_t *sha256, struct grant *grant);
/* It is of no use any more. */
void token_cache_drop(struct token_cache *cache, const uint8_t *sha256);
size_t token_cache_count(const struct token_cache *cache);
