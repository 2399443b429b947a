/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/event_set.h"

#include <stdlib.h>

#include "common/hash.h"
#include "common/mem.h"

/* After a broken connection the log is read again from a while before the last event, and the live
 * path may bring what a repair has sent already: ids alone cannot tell which of those were sent,
 * since a new primary may give ids below those of the old one. So what was sent must be remembered,
 * for each event, at little cost on the way of every one: a hash, its era, and no list to keep in
 * order. Two generations stand for "lately": the old one goes as a whole when the young one is
 * full. docs/architecture.md, "What the live path lost". */

enum { SLOTS_START = 64 }; /* powers of two */

struct entry {
    uint64_t key; /* 0: free */
    unsigned era;
};

/* Open addressing; nothing is ever taken out. */
struct generation {
    struct entry *slots;
    size_t cap, count;
    uint64_t highest; /* id */
};

struct event_set {
    struct generation young, old;
    size_t generation_max;
    bool by_topic;
    uint64_t forgotten; /* the highest id */
};

struct event_set *event_set_new(size_t max, bool by_topic)
{
    struct event_set *set = mem_zero(1, sizeof(*set));
    set->generation_max = max / 2;
    set->by_topic = by_topic;
    return set;
}

void event_set_free(struct event_set *set)
{
    if (!set)
        return;
    free(set->young.slots);
    free(set->old.slots);
    free(set);
}

/* Of an event with this id beside @ev. */
static uint64_t key_at(const struct event_set *set, const struct event *ev, uint64_t id)
{
    struct slice name = set->by_topic ? event_key(ev) : event_ns(ev);
    uint64_t key = XXH3_64bits_withSeed(name.ptr, name.len, hash_seed + id);
    return key ? key : 1;
}

static uint64_t key_of(const struct event_set *set, const struct event *ev)
{
    return key_at(set, ev, event_id(ev));
}

/* Where it is, or would be put. */
static struct entry *slot_of(const struct generation *g, uint64_t key)
{
    size_t i = key & (g->cap - 1);
    while (g->slots[i].key && g->slots[i].key != key)
        i = (i + 1) & (g->cap - 1);
    return &g->slots[i];
}

static const struct entry *find_in(const struct generation *g, uint64_t key)
{
    const struct entry *entry = g->cap ? slot_of(g, key) : NULL;
    return entry && entry->key ? entry : NULL;
}

static const struct entry *find_key(const struct event_set *set, uint64_t key)
{
    const struct entry *entry = find_in(&set->young, key);
    return entry ? entry : find_in(&set->old, key);
}

static const struct entry *find(const struct event_set *set, const struct event *ev)
{
    return find_key(set, key_of(set, ev));
}

static void generation_grow(struct generation *g)
{
    struct generation grown = {
        .cap = g->cap ? 2 * g->cap : SLOTS_START, .count = g->count, .highest = g->highest};
    grown.slots = mem_zero(grown.cap, sizeof(*grown.slots));
    for (size_t i = 0; i < g->cap; i++)
        if (g->slots[i].key)
            *slot_of(&grown, g->slots[i].key) = g->slots[i];
    free(g->slots);
    *g = grown;
}

static void grow_old(struct event_set *set)
{
    if (set->old.highest > set->forgotten)
        set->forgotten = set->old.highest;
    free(set->old.slots);
    set->old = set->young;
    set->young = (struct generation){0};
}

void event_set_add(struct event_set *set, const struct event *ev, unsigned era)
{
    struct generation *g = &set->young;
    uint64_t key = key_of(set, ev);
    if (find_key(set, key))
        return;
    if (g->count >= set->generation_max)
        grow_old(set);
    if (4 * (g->count + 1) > 3 * g->cap)
        generation_grow(g);
    *slot_of(g, key) = (struct entry){key, era};
    g->count++;
    if (event_id(ev) > g->highest)
        g->highest = event_id(ev);
}

bool event_set_has(const struct event_set *set, const struct event *ev)
{
    return find(set, ev) != NULL;
}

bool event_set_has_prev(const struct event_set *set, const struct event *ev)
{
    return find_key(set, key_at(set, ev, event_prev(ev))) != NULL;
}

bool event_set_has_before(const struct event_set *set, const struct event *ev, unsigned era)
{
    const struct entry *entry = find(set, ev);
    return entry && entry->era < era;
}

bool event_set_reaches(const struct event_set *set, uint64_t id)
{
    return id >= set->forgotten;
}
