/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/id_table.h"

#include <stdlib.h>

#include "common/mem.h"

enum { BUCKETS_START = 64, ENTRIES_PER_BUCKET = 4 };

/* Secrets are random: no hash is needed. */
static struct id_entry **bucket(const struct id_table *table, uint64_t secret)
{
    return &table->buckets[secret & (table->size - 1)];
}

static void put(struct id_table *table, struct id_entry *entry)
{
    struct id_entry **at = bucket(table, entry->secret);
    entry->next = *at;
    *at = entry;
}

static void allot(struct id_table *table, size_t size)
{
    table->size = size;
    table->buckets = mem_zero(size, sizeof(table->buckets[0]));
}

static void grow(struct id_table *table)
{
    struct id_table old = *table;
    allot(table, old.size * 2);
    for (size_t i = 0; i < old.size; i++) {
        struct id_entry *entry, *next;
        for (entry = old.buckets[i]; entry; entry = next) {
            next = entry->next;
            put(table, entry);
        }
    }
    free(old.buckets);
}

void id_table_init(struct id_table *table)
{
    *table = (struct id_table){0};
    allot(table, BUCKETS_START);
}

void id_table_reset(struct id_table *table)
{
    free(table->buckets);
    *table = (struct id_table){0};
}

void id_table_add(struct id_table *table, struct id_entry *entry, uint64_t secret)
{
    if (table->count >= table->size * ENTRIES_PER_BUCKET)
        grow(table);
    table->count++;
    entry->secret = secret;
    put(table, entry);
}

void id_table_remove(struct id_table *table, struct id_entry *entry)
{
    struct id_entry **at = bucket(table, entry->secret);
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    table->count--;
}

struct id_entry *id_table_find(const struct id_table *table, const struct connection_id *id)
{
    struct id_entry *entry = *bucket(table, id->secret);
    while (entry && entry->secret != id->secret)
        entry = entry->next;
    return entry && id->slot == connection_id_slot(id->secret) ? entry : NULL;
}
