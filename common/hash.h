/* SPDX-License-Identifier: Apache-2.0 */
/* uthash with a seeded hash (XXH3), so that clients who choose the names cannot aim for collisions.
 * Include this, never <uthash.h> itself. Set the seed once, before the first table:
 * hash_seed_init(). */
#pragma once
#include <stdint.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

extern uint64_t hash_seed; /* written once at start, read-only afterwards */
void hash_seed_init(void);

#define HASH_FUNCTION(key, len, hashv)                                                             \
    ((hashv) = (unsigned)XXH3_64bits_withSeed((key), (len), hash_seed))
#define uthash_fatal(msg) abort()
/* More buckets than uthash makes by itself: most of a look-up in a large table is the cache lines
 * of those that share a bucket. */
#define HASH_BKT_CAPACITY_THRESH 5U
#include <stdlib.h>
#include <uthash.h>
