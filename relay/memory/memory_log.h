/* SPDX-License-Identifier: Apache-2.0 */
/* One topic's replay log in memory: a ring of events, oldest first. No I/O. */
#pragma once
#include "common/ring.h"
#include "relay/bus/store.h"

/* What an entry costs beside its frame: event, names, allocator, ring slot. Rounded up, for the
 * bound on memory. */
#define MEMORY_ENTRY_COST 256

struct memory_entry {
    struct event *event; /* a reference */
    uint64_t id, prev;
};

/* Zero-initialised is empty, and owns no memory then. */
struct memory_log {
    struct memory_entry *entries;
    struct ring ring; /* of their slots */
    size_t bytes;     /* of frames, and MEMORY_ENTRY_COST for each */
};

/* Appends; ids must rise. Takes over the event's reference. */
void memory_log_put(struct memory_log *log, struct memory_entry entry);
/* Drops all but the last @keep entries. */
void memory_log_trim(struct memory_log *log, size_t keep);
/* Fills the range's entries, count and more. @now_us: by the clock that gives the ids. */
void memory_log_read(const struct memory_log *log, struct store_range *range, uint64_t now_us);
