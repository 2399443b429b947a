/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency keys in memory: which id the first publish with a key was given. No I/O. */
#pragma once
#include <stddef.h>

#include "common/slice.h"

struct memory_once;

/* Holds at most @max keys; beyond that the oldest is forgotten. */
struct memory_once *memory_once_new(size_t max);
void memory_once_free(struct memory_once *once);
/* True: the key is known, and *id set (0: the event was ephemeral). */
bool memory_once_find(struct memory_once *once, struct slice ns, struct slice key, uint64_t now_us,
                      uint64_t *id);
/* Remembers a key that memory_once_find() has just not found. */
void memory_once_put(struct memory_once *once, struct slice ns, struct slice key, uint64_t id,
                     uint64_t now_us, uint64_t expires_us);
