/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/id_map.h"

#include <assert.h>
#include <stdlib.h>

#include "common/hash.h"
#include "common/mem.h"

enum { SLOTS_START = 64 }; /* powers of two */

struct slot {
    uint64_t id; /* 0: free */
    void *thing;
};

/* Open addressing; the pairs of one id stand behind each other, with others in between. */
struct id_map {
    struct slot *slots;
    size_t cap, count;
};

struct id_map *id_map_new(size_t expected)
{
    struct id_map *map = mem_zero(1, sizeof(*map));
    map->cap = SLOTS_START;
    while (map->cap < 2 * expected)
        map->cap *= 2;
    map->slots = mem_zero(map->cap, sizeof(*map->slots));
    return map;
}

void id_map_free(struct id_map *map)
{
    if (!map)
        return;
    free(map->slots);
    free(map);
}

static size_t place_of(const struct id_map *map, uint64_t id)
{
    return XXH3_64bits_withSeed(&id, sizeof(id), hash_seed) & (map->cap - 1);
}

static void put(struct id_map *map, uint64_t id, void *thing)
{
    size_t i = place_of(map, id);
    while (map->slots[i].id)
        i = (i + 1) & (map->cap - 1);
    map->slots[i] = (struct slot){id, thing};
}

static void grow(struct id_map *map)
{
    struct id_map grown = {.cap = 2 * map->cap, .count = map->count};
    grown.slots = mem_zero(grown.cap, sizeof(*grown.slots));
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].id)
            put(&grown, map->slots[i].id, map->slots[i].thing);
    free(map->slots);
    *map = grown;
}

void id_map_add(struct id_map *map, uint64_t id, void *thing)
{
    assert(id && thing);
    if (4 * (map->count + 1) > 3 * map->cap)
        grow(map);
    put(map, id, thing);
    map->count++;
}

void *id_map_next(const struct id_map *map, uint64_t id, size_t *at)
{
    size_t first = place_of(map, id);
    while (*at < map->cap) {
        const struct slot *slot = &map->slots[(first + *at) & (map->cap - 1)];
        if (!slot->id)
            return NULL;
        ++*at;
        if (slot->id == id)
            return slot->thing;
    }
    return NULL;
}

size_t id_map_count(const struct id_map *map)
{
    return map->count;
}
