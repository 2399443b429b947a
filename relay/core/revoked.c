/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/revoked.h"

#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"

/* More than Redis takes of a kind: what it has let expire may still be here. Beyond that the
 * namespace is known no longer, as nothing may be forgotten silently. */
enum { TABLE_MAX = 2 * REVOKED_MAX, TABLE_FIRST = 16 };

/* --- one entry -------------------------------------------------------------------------------- */

void revoked_entry_reset(struct revoked_entry *entry)
{
    free(entry->value);
    entry->value = NULL;
}

enum err revoked_entry_make(struct slice kind, struct slice value, struct slice before,
                            struct slice expires, struct revoked_entry *out)
{
    static const char *const kinds[REVOKED_KINDS] = {"jti", "sub", "kid"};
    for (int k = 0; k < REVOKED_KINDS; k++) {
        struct revoked_entry entry = {.kind = (enum revoked_kind)k};
        if (!slice_is(kind, kinds[k]))
            continue;
        if (!value.len || slice_u64(before, UINT64_MAX, &entry.before_s) ||
            slice_u64(expires, UINT64_MAX, &entry.expires_s))
            return ERR_INVALID;
        entry.value = slice_dup(value);
        *out = entry;
        return OK;
    }
    return ERR_INVALID;
}

/* What a revocation of this kind names; NULL: the grant has none. */
static const char *named(const struct grant_fields *g, enum revoked_kind kind)
{
    switch (kind) {
    case REVOKED_JTI:
        return g->jti;
    case REVOKED_SUBJECT:
        return g->subject;
    case REVOKED_KID:
        return g->kid;
    case REVOKED_KINDS:
        break;
    }
    return NULL;
}

/* No token that does not say when it was issued can show that it is newer. */
static bool is_new_enough(const struct grant_fields *g, uint64_t before_s)
{
    return g->iat_s > before_s;
}

bool revoked_entry_concerns(const struct revoked_entry *entry, const struct grant *grant)
{
    const struct grant_fields *g = grant_fields(grant);
    const char *name = named(g, entry->kind);
    if (!name || strcmp(name, entry->value) != 0)
        return false;
    return entry->kind != REVOKED_SUBJECT || !is_new_enough(g, entry->before_s);
}

/* --- a table of one kind: open addressing, never more than half full ---------------------------
 */

struct slot {
    XXH128_hash_t hash; /* 0, 0: empty */
    uint64_t before_s, expires_s;
};

struct table {
    struct slot *slots;
    size_t cap, count; /* cap: 0 or a power of two */
    uint64_t earliest; /* that something expires; 0: nothing does */
};

static XXH128_hash_t hash_of(const char *value)
{
    return XXH3_128bits_withSeed(value, strlen(value), hash_seed);
}

static bool is_empty(const struct slot *slot)
{
    return !slot->hash.low64 && !slot->hash.high64;
}

/* Where the hash is, or belongs. */
static struct slot *table_slot(const struct table *t, XXH128_hash_t hash)
{
    size_t i = (size_t)hash.low64 & (t->cap - 1);
    while (!is_empty(&t->slots[i]) && !XXH128_isEqual(t->slots[i].hash, hash))
        i = (i + 1) & (t->cap - 1);
    return &t->slots[i];
}

/* Makes it anew with room for one more, without what expired by @now_s. */
static void table_rebuild(struct table *t, uint64_t now_s)
{
    struct table old = *t;
    size_t left = 0;
    for (size_t i = 0; i < old.cap; i++)
        left += !is_empty(&old.slots[i]) &&
                (!old.slots[i].expires_s || old.slots[i].expires_s >= now_s);
    *t = (struct table){.cap = TABLE_FIRST};
    while (t->cap < 2 * (left + 1))
        t->cap *= 2;
    t->slots = mem_zero(t->cap, sizeof(*t->slots));
    for (size_t i = 0; i < old.cap; i++) {
        const struct slot *slot = &old.slots[i];
        if (is_empty(slot) || (slot->expires_s && slot->expires_s < now_s))
            continue;
        *table_slot(t, slot->hash) = *slot;
        t->count++;
        if (slot->expires_s && (!t->earliest || slot->expires_s < t->earliest))
            t->earliest = slot->expires_s;
    }
    free(old.slots);
}

/* The later of two times, 0 being never. */
static uint64_t later(uint64_t a, uint64_t b)
{
    return !a || !b ? 0 : a > b ? a : b;
}

/* ERR_FULL: there is no room for it. */
static enum err table_add(struct table *t, const struct revoked_entry *entry)
{
    XXH128_hash_t hash = hash_of(entry->value);
    struct slot *slot = t->cap ? table_slot(t, hash) : NULL;
    if (slot && !is_empty(slot)) {
        slot->expires_s = later(slot->expires_s, entry->expires_s);
        if (entry->before_s > slot->before_s)
            slot->before_s = entry->before_s;
        return OK;
    }
    if (t->count >= TABLE_MAX)
        return ERR_FULL;
    if (t->cap < 2 * (t->count + 1))
        table_rebuild(t, 0);
    *table_slot(t, hash) = (struct slot){hash, entry->before_s, entry->expires_s};
    t->count++;
    if (entry->expires_s && (!t->earliest || entry->expires_s < t->earliest))
        t->earliest = entry->expires_s;
    return OK;
}

static const struct slot *table_find(const struct table *t, const char *value)
{
    if (!t->count || !value)
        return NULL;
    const struct slot *slot = table_slot(t, hash_of(value));
    return is_empty(slot) ? NULL : slot;
}

/* --- all namespaces --------------------------------------------------------------------------- */

struct space {
    char *ns;
    bool known;
    struct table tables[REVOKED_KINDS];
    UT_hash_handle hh;
};

struct revoked {
    struct space *spaces;
};

static struct space *space_find(const struct revoked *r, struct slice ns)
{
    struct space *space;
    HASH_FIND(hh, r->spaces, ns.ptr, ns.len, space);
    return space;
}

static struct space *space_get(struct revoked *r, struct slice ns)
{
    struct space *space = space_find(r, ns);
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->ns = slice_dup(ns);
    HASH_ADD_KEYPTR(hh, r->spaces, space->ns, ns.len, space);
    return space;
}

static void space_free(struct revoked *r, struct space *space)
{
    HASH_DEL(r->spaces, space);
    for (int k = 0; k < REVOKED_KINDS; k++)
        free(space->tables[k].slots);
    free(space->ns);
    free(space);
}

void revoked_set_known(struct revoked *r, struct slice ns, bool known)
{
    if (known) {
        space_get(r, ns)->known = true;
        return;
    }
    struct space *space = space_find(r, ns);
    if (space)
        space_free(r, space);
}

bool revoked_is_known(const struct revoked *r, struct slice ns)
{
    const struct space *space = space_find(r, ns);
    return space && space->known;
}

enum err revoked_add(struct revoked *r, struct slice ns, const struct revoked_entry *entry)
{
    struct space *space = space_get(r, ns);
    enum err e = table_add(&space->tables[entry->kind], entry);
    if (e)
        space_free(r, space);
    return e;
}

bool revoked_has(const struct revoked *r, const struct grant *grant)
{
    const struct grant_fields *g = grant_fields(grant);
    const struct space *space = g->ns ? space_find(r, slice_of(g->ns)) : NULL;
    for (int k = 0; space && k < REVOKED_KINDS; k++) {
        const struct slot *slot = table_find(&space->tables[k], named(g, (enum revoked_kind)k));
        if (slot && (k != REVOKED_SUBJECT || !is_new_enough(g, slot->before_s)))
            return true;
    }
    return false;
}

void revoked_expire(struct revoked *r, uint64_t now_s)
{
    struct space *space, *tmp;
    HASH_ITER (hh, r->spaces, space, tmp)
        for (int k = 0; k < REVOKED_KINDS; k++)
            if (space->tables[k].earliest && space->tables[k].earliest < now_s)
                table_rebuild(&space->tables[k], now_s);
}

struct revoked *revoked_new(void)
{
    return mem_zero(1, sizeof(struct revoked));
}

void revoked_free(struct revoked *r)
{
    if (!r)
        return;
    while (r->spaces)
        space_free(r, r->spaces);
    free(r);
}
