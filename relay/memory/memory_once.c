/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory_once.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"

/* Expired keys that one new key clears away: more than come in, little enough to go unnoticed. */
enum { EXPIRE_STEP = 8 };

struct key {
    uint64_t id, expires_us;
    TAILQ_ENTRY(key) link;
    UT_hash_handle hh;
    size_t len;
    char text[]; /* namespace, NUL, key */
};

struct memory_once {
    struct key *table;
    TAILQ_HEAD(, key) by_age;
    size_t max;
};

struct memory_once *memory_once_new(size_t max)
{
    struct memory_once *once = mem_zero(1, sizeof(*once));
    once->max = max;
    TAILQ_INIT(&once->by_age);
    return once;
}

static void key_drop(struct memory_once *once, struct key *key)
{
    HASH_DEL(once->table, key);
    TAILQ_REMOVE(&once->by_age, key, link);
    free(key);
}

void memory_once_free(struct memory_once *once)
{
    if (!once)
        return;
    struct key *key;
    while ((key = TAILQ_FIRST(&once->by_age)))
        key_drop(once, key);
    free(once);
}

static struct key *key_new(struct slice ns, struct slice text)
{
    struct buf b = {0};
    name_put_lookup(&b, ns, text);
    struct key *key = mem_zero(1, sizeof(*key) + b.len);
    key->len = b.len;
    memcpy(key->text, b.ptr, b.len);
    buf_reset(&b);
    return key;
}

bool memory_once_find(struct memory_once *once, struct slice ns, struct slice text, uint64_t now_us,
                      uint64_t *id)
{
    struct buf wanted = {0};
    struct key *key;
    name_put_lookup(&wanted, ns, text);
    HASH_FIND(hh, once->table, wanted.ptr, wanted.len, key);
    buf_reset(&wanted);
    if (key && key->expires_us < now_us) {
        key_drop(once, key);
        key = NULL;
    }
    if (key)
        *id = key->id;
    return key != NULL;
}

void memory_once_put(struct memory_once *once, struct slice ns, struct slice text, uint64_t id,
                     uint64_t now_us, uint64_t expires_us)
{
    struct key *key = key_new(ns, text), *oldest;
    key->id = id;
    key->expires_us = expires_us;
    HASH_ADD(hh, once->table, text, key->len, key);
    TAILQ_INSERT_TAIL(&once->by_age, key, link);
    while (HASH_COUNT(once->table) > once->max)
        key_drop(once, TAILQ_FIRST(&once->by_age));
    for (int n = 0; n < EXPIRE_STEP && (oldest = TAILQ_FIRST(&once->by_age)); n++) {
        if (oldest->expires_us >= now_us)
            break;
        key_drop(once, oldest);
    }
}
