/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's streams by connection id, for who wants something of a certain one. Chained through
 * what is found, as there is one for each client: 16 bytes. One thread. */
#pragma once
#include <stddef.h>

#include "relay/core/connection_id.h"

struct id_entry {
    struct id_entry *next; /* of its bucket */
    uint64_t secret;
};

struct id_table {
    struct id_entry **buckets;
    size_t size; /* a power of two */
    size_t count;
};

void id_table_init(struct id_table *table);
void id_table_reset(struct id_table *table); /* must be empty */
/* @entry must not move until id_table_remove(). @secret: of an id that id_pool_take() made. */
void id_table_add(struct id_table *table, struct id_entry *entry, uint64_t secret);
void id_table_remove(struct id_table *table, struct id_entry *entry);
/* Of this node and worker, whatever @id says of those. NULL: there is none. */
struct id_entry *id_table_find(const struct id_table *table, const struct connection_id *id);
