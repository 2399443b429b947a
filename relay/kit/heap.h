/* SPDX-License-Identifier: Apache-2.0 */
/* When free memory is given back to the system. malloc keeps what is free below its top for ever,
 * and giving it back takes milliseconds, in which other threads may wait for memory: so it is done
 * for the whole process at once, by a thread that nobody waits for, and only when much has become
 * free. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialised: nothing has been held yet. */
struct heap {
    size_t peak;            /* what was held at most since memory was given back */
    size_t last;            /* what was held when asked before */
    uint64_t not_before_us; /* again */
};

/* @held: how many things are, of which each takes some kilobytes. Whether so many have gone that it
 * is worth the while, the last time is long enough ago, and no more are just going, so that it is
 * done once for all of them. To be asked every few seconds. */
bool heap_is_due(struct heap *heap, size_t held, uint64_t now_us);
/* Just now that was done, and took @took_us. */
void heap_done(struct heap *heap, size_t held, uint64_t now_us, uint64_t took_us);
/* Asks, and does it; any thread's memory. */
void heap_trim(struct heap *heap, size_t held);
