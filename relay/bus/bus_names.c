/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_names.h"

#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/topic_index.h"

struct entry {
    struct store_name store; /* first: the store hands this pointer back */
    uint64_t since;          /* the position at its first read: whoever is live on it came later */
    bool was_heard, lost;
    struct topic_sub sub; /* of a pattern, in names->patterns */
    UT_hash_handle hh;
};

struct bus_names {
    struct entry *entries;        /* by their text */
    struct topic_index *patterns; /* NULL: none yet */
};

struct bus_names *bus_names_new(void)
{
    return mem_zero(1, sizeof(struct bus_names));
}

void bus_names_free(struct bus_names *names)
{
    struct entry *entry, *next;
    if (!names)
        return;
    HASH_ITER (hh, names->entries, entry, next)
        bus_names_remove(names, &entry->store);
    if (names->patterns)
        topic_index_free(names->patterns);
    free(names);
}

static void pattern_add(struct bus_names *names, struct entry *entry)
{
    if (!names->patterns)
        names->patterns = topic_index_new();
    topic_index_add(names->patterns, slice_of(entry->store.name), &entry->sub, entry);
}

struct store_name *bus_names_add(struct bus_names *names, const char *ns, const char *text)
{
    size_t ns_len = strlen(ns) + 1, text_len = strlen(text) + 1;
    struct entry *entry = mem_zero(1, sizeof(*entry));
    entry->store.ns = mem_alloc(ns_len + text_len);
    entry->store.name = entry->store.ns + ns_len;
    memcpy(entry->store.ns, ns, ns_len);
    memcpy(entry->store.name, text, text_len);
    if (name_is_pattern(slice_of(text)))
        pattern_add(names, entry);
    HASH_ADD_KEYPTR(hh, names->entries, entry->store.name, text_len - 1, entry);
    return &entry->store;
}

void bus_names_remove(struct bus_names *names, struct store_name *name)
{
    struct entry *entry = (struct entry *)name;
    HASH_DEL(names->entries, entry);
    if (entry->sub.node)
        topic_index_remove(names->patterns, &entry->sub);
    free(entry->store.ns);
    free(entry);
}

static struct entry *entry_find(const struct bus_names *names, struct slice text)
{
    struct entry *entry;
    HASH_FIND(hh, names->entries, text.ptr, text.len, entry);
    return entry;
}

struct store_name *bus_names_find(const struct bus_names *names, struct slice text)
{
    struct entry *entry = entry_find(names, text);
    return entry ? &entry->store : NULL;
}

size_t bus_names_count(const struct bus_names *names)
{
    return HASH_COUNT(names->entries);
}

bool bus_names_have_patterns(const struct bus_names *names)
{
    return names->patterns && topic_index_names(names->patterns);
}

void bus_names_copy(const struct bus_names *names, struct strings *out)
{
    const struct entry *entry;
    for (entry = names->entries; entry; entry = entry->hh.next)
        strings_add(out, slice_of(entry->store.name));
}

static void note_heard(void *owner, void *arg)
{
    *(bool *)arg |= ((const struct entry *)owner)->store.heard;
}

bool bus_names_hear_by_pattern(const struct bus_names *names, struct slice topic)
{
    bool heard = false;
    if (names->patterns)
        topic_index_match(names->patterns, topic, note_heard, &heard);
    return heard;
}

static void add_workers(void *owner, void *arg)
{
    *(uint64_t *)arg |= ((const struct entry *)owner)->store.workers;
}

uint64_t bus_names_workers(const struct bus_names *names, struct slice topic)
{
    const struct entry *entry = entry_find(names, topic);
    uint64_t workers = entry ? entry->store.workers : 0;
    if (names->patterns)
        topic_index_match(names->patterns, topic, add_workers, &workers);
    return workers;
}

/* --- since when ------------------------------------------------------------------------------- */

void bus_names_date(struct bus_names *names, const struct strings *texts, uint64_t position)
{
    for (size_t i = 0; i < texts->count; i++) {
        struct entry *entry = entry_find(names, slice_of(texts->items[i]));
        if (entry && !entry->since)
            entry->since = position;
    }
}

uint64_t bus_names_since(const struct store_name *name)
{
    return ((const struct entry *)name)->since;
}

static void take_earliest(void *owner, void *arg)
{
    const struct entry *entry = owner;
    uint64_t *since = arg;
    if (entry && entry->since && entry->since < *since)
        *since = entry->since;
}

uint64_t bus_names_earliest(const struct bus_names *names, struct slice topic)
{
    uint64_t since = UINT64_MAX;
    take_earliest(entry_find(names, topic), &since);
    if (names->patterns)
        topic_index_match(names->patterns, topic, take_earliest, &since);
    return since;
}

/* --- what is lost ----------------------------------------------------------------------------- */

void bus_names_lose(struct bus_names *names)
{
    struct entry *entry;
    for (entry = names->entries; entry; entry = entry->hh.next)
        entry->lost |= entry->was_heard && !entry->store.heard;
}

bool bus_names_take_heard(struct store_name *name)
{
    struct entry *entry = (struct entry *)name;
    entry->was_heard = true;
    return entry->lost;
}

void bus_names_take_found(struct store_name *name)
{
    ((struct entry *)name)->lost = false;
}
