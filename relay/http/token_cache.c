/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/token_cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/hash.h"
#include "common/mem.h"

struct entry {
    uint8_t key[TOKEN_CACHE_KEY];
    struct grant *grant;
    TAILQ_ENTRY(entry) link;
    UT_hash_handle hh;
};

TAILQ_HEAD(entry_queue, entry);

struct token_cache {
    struct entry *entries;
    struct entry_queue order; /* oldest first */
};

struct token_cache *token_cache_new(void)
{
    struct token_cache *cache = mem_zero(1, sizeof(*cache));
    TAILQ_INIT(&cache->order);
    return cache;
}

static void remove_entry(struct token_cache *cache, struct entry *entry)
{
    HASH_DEL(cache->entries, entry);
    TAILQ_REMOVE(&cache->order, entry, link);
    grant_unref(entry->grant);
    free(entry);
}

void token_cache_clear(struct token_cache *cache)
{
    while (!TAILQ_EMPTY(&cache->order))
        remove_entry(cache, TAILQ_FIRST(&cache->order));
}

void token_cache_free(struct token_cache *cache)
{
    if (!cache)
        return;
    token_cache_clear(cache);
    free(cache);
}

static struct entry *find_entry(struct token_cache *cache, const uint8_t *sha256)
{
    struct entry *entry;
    HASH_FIND(hh, cache->entries, sha256, TOKEN_CACHE_KEY, entry);
    return entry;
}

struct grant *token_cache_find(struct token_cache *cache, const uint8_t *sha256)
{
    struct entry *entry = find_entry(cache, sha256);
    return entry ? entry->grant : NULL;
}

void token_cache_add(struct token_cache *cache, const uint8_t *sha256, struct grant *grant)
{
    if (token_cache_count(cache) >= TOKEN_CACHE_MAX)
        remove_entry(cache, TAILQ_FIRST(&cache->order));
    struct entry *entry = mem_zero(1, sizeof(*entry));
    memcpy(entry->key, sha256, TOKEN_CACHE_KEY);
    entry->grant = grant_ref(grant);
    HASH_ADD(hh, cache->entries, key, TOKEN_CACHE_KEY, entry);
    TAILQ_INSERT_TAIL(&cache->order, entry, link);
}

void token_cache_drop(struct token_cache *cache, const uint8_t *sha256)
{
    struct entry *entry = find_entry(cache, sha256);
    if (entry)
        remove_entry(cache, entry);
}

size_t token_cache_count(const struct token_cache *cache)
{
    return HASH_COUNT(cache->entries);
}
