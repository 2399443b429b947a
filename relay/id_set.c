#include "relay/id_set.h"

#include <stdlib.h>

#include "common/hash.h"
#include "common/mem.h"

struct entry {
    uint64_t id;
    unsigned era;
    UT_hash_handle hh; /* uthash keeps the order of adding */
};

struct id_set {
    struct entry *table;
    size_t max;
};

struct id_set *id_set_new(size_t max)
{
    struct id_set *set = mem_zero(1, sizeof(*set));
    set->max = max;
    return set;
}

void id_set_free(struct id_set *set)
{
    if (!set)
        return;
    struct entry *entry, *next;
    HASH_ITER (hh, set->table, entry, next) {
        HASH_DEL(set->table, entry);
        free(entry);
    }
    free(set);
}

static struct entry *find(const struct id_set *set, uint64_t id)
{
    struct entry *entry;
    HASH_FIND(hh, set->table, &id, sizeof(id), entry);
    return entry;
}

void id_set_add(struct id_set *set, uint64_t id, unsigned era)
{
    struct entry *entry = find(set, id);
    if (entry)
        return;
    if (HASH_COUNT(set->table) < set->max) {
        entry = mem_zero(1, sizeof(*entry));
    } else {
        entry = set->table; /* the oldest */
        HASH_DEL(set->table, entry);
    }
    entry->id = id;
    entry->era = era;
    HASH_ADD(hh, set->table, id, sizeof(entry->id), entry);
}

bool id_set_has_before(const struct id_set *set, uint64_t id, unsigned era)
{
    const struct entry *entry = find(set, id);
    return entry && entry->era < era;
}
