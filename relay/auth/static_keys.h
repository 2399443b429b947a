/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of backends and scrapers in the auth file, of which it has the SHA-256 only. Each is a
 * grant. Immutable. No I/O; any thread. docs/protocol.md, 14. */
#pragma once
#include "relay/auth/draft.h"

enum { STATIC_KEYS_MAX = 1000, STATIC_KEY_SHA256_BYTES = 32 };

struct static_keys;

/* @file: the whole auth file; it may have no `keys`. ERR_INVALID: *why names the place. */
NODISCARD enum err static_keys_new(const cJSON *file, struct static_keys **out, struct buf *why);
void static_keys_free(struct static_keys *keys); /* NULL is fine */
size_t static_keys_count(const struct static_keys *keys);
/* Borrowed; NULL: there is no such key. All are compared whatever is found, so that the time tells
 * nothing of them. *index: which one. */
struct grant *static_keys_find(const struct static_keys *keys, const uint8_t *sha256,
                               size_t *index);
/* For --explain: what the key grants, and where that is said. */
void static_keys_explain(const struct static_keys *keys, size_t index, struct buf *out);
