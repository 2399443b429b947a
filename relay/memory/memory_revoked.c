/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory_revoked.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"

struct item {
    struct revoked_entry entry; /* its value stands in `text` */
    size_t ns_len;
    UT_hash_handle hh;
    size_t len;
    char text[]; /* namespace, NUL, value, NUL, of which the last is not part of the key */
};

struct memory_revoked {
    struct item *tables[REVOKED_KINDS];
    size_t max;
};

static bool is_over(const struct item *item, uint64_t now_s)
{
    return item->entry.expires_s && item->entry.expires_s < now_s;
}

static void item_drop(struct memory_revoked *revoked, struct item *item)
{
    struct item *table = revoked->tables[item->entry.kind];
    HASH_DEL(table, item);
    revoked->tables[item->entry.kind] = table;
    free(item);
}

/* When it is full; nothing else is in a hurry. */
static void expire(struct memory_revoked *revoked, enum revoked_kind kind, uint64_t now_s)
{
    struct item *item, *tmp;
    HASH_ITER (hh, revoked->tables[kind], item, tmp)
        if (is_over(item, now_s))
            item_drop(revoked, item);
}

static struct item *item_new(struct slice ns, const struct buf *key,
                             const struct revoked_entry *entry)
{
    struct item *item = mem_zero(1, sizeof(*item) + key->len + 1);
    memcpy(item->text, key->ptr, key->len);
    item->len = key->len;
    item->ns_len = ns.len;
    item->entry = *entry;
    item->entry.value = item->text + ns.len + 1;
    return item;
}

/* 0 is never, and so later than all. */
static bool is_later(uint64_t a, uint64_t b)
{
    return b && (!a || a > b);
}

enum err memory_revoked_add(struct memory_revoked *revoked, struct slice ns,
                            struct revoked_entry *entry, uint64_t now_s)
{
    struct item *item, *table = revoked->tables[entry->kind];
    struct buf key = {0};
    enum err e = OK;
    name_put_lookup(&key, ns, slice_of(entry->value));
    HASH_FIND(hh, table, key.ptr, key.len, item);
    if (!item && HASH_COUNT(table) >= revoked->max) {
        expire(revoked, entry->kind, now_s);
        table = revoked->tables[entry->kind];
    }
    if (item) {
        if (is_later(item->entry.expires_s, entry->expires_s))
            entry->expires_s = item->entry.expires_s;
        if (item->entry.before_s > entry->before_s)
            entry->before_s = item->entry.before_s;
        item->entry.expires_s = entry->expires_s;
        item->entry.before_s = entry->before_s;
    } else if (HASH_COUNT(table) >= revoked->max) {
        e = ERR_FULL;
    } else {
        item = item_new(ns, &key, entry);
        HASH_ADD(hh, table, text, item->len, item);
        revoked->tables[entry->kind] = table;
    }
    buf_reset(&key);
    return e;
}

void memory_revoked_list(const struct memory_revoked *revoked, struct slice ns, uint64_t now_s,
                         void (*each)(void *arg, const struct revoked_entry *entry), void *arg)
{
    for (int kind = 0; kind < REVOKED_KINDS; kind++) {
        const struct item *item = revoked->tables[kind];
        for (; item; item = item->hh.next)
            if (slice_eq(ns, (struct slice){item->text, item->ns_len}) && !is_over(item, now_s))
                each(arg, &item->entry);
    }
}

struct memory_revoked *memory_revoked_new(size_t max)
{
    struct memory_revoked *revoked = mem_zero(1, sizeof(*revoked));
    revoked->max = max;
    return revoked;
}

void memory_revoked_free(struct memory_revoked *revoked)
{
    if (!revoked)
        return;
    for (int kind = 0; kind < REVOKED_KINDS; kind++)
        while (revoked->tables[kind])
            item_drop(revoked, revoked->tables[kind]);
    free(revoked);
}
