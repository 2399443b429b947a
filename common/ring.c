/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ring.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

void *ring_grow(struct ring *ring, void *items, size_t size, uint32_t start)
{
    assert(ring->count == ring->cap && ring->cap <= UINT32_MAX / 2);
    uint32_t cap = ring->cap ? ring->cap * 2 : start;
    size_t before = ring->head * size; /* what stands at the array's start is the end */
    size_t total = ring->count * size;
    char *grown = mem_alloc(cap * size);
    if (total) {
        memcpy(grown, (char *)items + before, total - before);
        memcpy(grown + total - before, items, before);
    }
    free(items);
    ring->cap = cap;
    ring->head = 0;
    return grown;
}
