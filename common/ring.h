/* SPDX-License-Identifier: Apache-2.0 */
/* A growing ring buffer's places: which of an array's slots is the i-th from the front. The array,
 * of whatever type, is its owner's: items[ring_at(&ring, i)]. Zero-initialised is empty, and has no
 * array yet. No bound of its own. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    uint32_t cap; /* slots: 0 or a power of two */
    uint32_t head, count;
};

static inline uint32_t ring_at(const struct ring *ring, uint32_t i)
{
    return (ring->head + i) & (ring->cap - 1);
}

/* Moves the array @items of a full ring to one of twice as many slots (the first: @start, a power
 * of two), @size bytes each, and returns it. It is the owner's to free. */
void *ring_grow(struct ring *ring, void *items, size_t size, uint32_t start);

/* The slot behind the last one, which counts from now on. There must be room: ring_grow(). */
static inline uint32_t ring_push(struct ring *ring)
{
    return ring_at(ring, ring->count++);
}

/* The slot of the first one, which counts no longer. There must be one. */
static inline uint32_t ring_pop(struct ring *ring)
{
    uint32_t first = ring->head;
    ring->head = ring_at(ring, 1);
    ring->count--;
    return first;
}
