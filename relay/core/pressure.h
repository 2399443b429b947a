/* SPDX-License-Identifier: Apache-2.0 */
/* When the events that wait on a node take more memory than they may: which of them are to be let
 * go. Each worker decides for its own streams, by an age that all of them share. No I/O, no clock.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pressure; /* one for all workers of a node */

/* Whoever has nothing older is not slow: 0.1 s. */
#define PRESSURE_YOUNG_US UINT64_C(100000)

struct pressure *pressure_new(unsigned workers);
void pressure_free(struct pressure *pressure); /* after all workers are over */

/* Whether @bytes are too many: above @limit, and once they were (@was) above 7/8 of it. @limit 0:
 * there is none. */
bool pressure_is_high(bool was, size_t bytes, size_t limit);

/* A worker begins to let events go. True: it is the first, and tells the others. */
bool pressure_begin(struct pressure *pressure);
void pressure_end(struct pressure *pressure, unsigned worker);
/* The oldest that @worker could let go came at @oldest_us; UINT64_MAX: it has none. Returns the
 * time before which events have come that are to go now, on every worker: they are older than three
 * quarters of the node's oldest, and not young. 0: none. Between pressure_begin() and
 * pressure_end(). */
uint64_t pressure_before_us(struct pressure *pressure, unsigned worker, uint64_t oldest_us,
                            uint64_t now_us);
