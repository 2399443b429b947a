/* SPDX-License-Identifier: Apache-2.0 */
/* Which things have an id: any number for each. Only grows, and then goes as a whole. One thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct id_map;

struct id_map *id_map_new(size_t expected); /* so many pairs fit before it grows */
void id_map_free(struct id_map *map);       /* not the things */
/* @id: not 0. @thing: borrowed, not NULL. */
void id_map_add(struct id_map *map, uint64_t id, void *thing);
/* The things of @id one after the other, in any order; NULL behind the last. *at: 0 at first; not
 * to be looked into, and not to be used once something was added. */
void *id_map_next(const struct id_map *map, uint64_t id, size_t *at);
size_t id_map_count(const struct id_map *map); /* pairs */
