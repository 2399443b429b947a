/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory_log.h"

#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"

enum { RING_START = 4 };

static struct memory_entry *entry_at(const struct memory_log *log, uint32_t i)
{
    return &log->entries[ring_at(&log->ring, i)];
}

static size_t entry_cost(const struct memory_entry *entry)
{
    return event_frame(entry->event).len + MEMORY_ENTRY_COST;
}

void memory_log_put(struct memory_log *log, struct memory_entry entry)
{
    struct ring *ring = &log->ring;
    assert(ring->count == 0 || entry_at(log, ring->count - 1)->id < entry.id);
    if (ring->count == ring->cap)
        log->entries = ring_grow(ring, log->entries, sizeof(*log->entries), RING_START);
    log->entries[ring_push(ring)] = entry;
    event_set_stored(entry.event, true);
    log->bytes += entry_cost(&entry);
}

void memory_log_trim(struct memory_log *log, size_t keep)
{
    while (log->ring.count > keep) {
        const struct memory_entry *entry = &log->entries[ring_pop(&log->ring)];
        log->bytes -= entry_cost(entry);
        event_set_stored(entry->event, false);
        event_unref(entry->event);
    }
    if (log->ring.count == 0) {
        free(log->entries);
        *log = (struct memory_log){0};
    }
}

/* The number of entries with an id up to @id. */
static uint32_t count_upto(const struct memory_log *log, uint64_t id)
{
    uint32_t low = 0, high = log->ring.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at(log, middle)->id <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct store_entry entry_read(const struct memory_entry *entry, uint64_t now_us)
{
    bool spent = event_is_spent(entry->event, &(struct event_clock){.wall_us = now_us});
    return (struct store_entry){.event = spent ? NULL : event_ref(entry->event),
                                .id = entry->id,
                                .prev = entry->prev,
                                .has_prev = true};
}

void memory_log_read(const struct memory_log *log, struct store_range *range, uint64_t now_us)
{
    uint32_t first = count_upto(log, range->after), end = count_upto(log, range->upto);
    uint32_t count = end > first ? end - first : 0;
    range->more = count > range->limit;
    if (range->more)
        count = (uint32_t)range->limit;
    if (range->more && range->reverse)
        first = end - count;
    range->entries = mem_alloc((count ? count : 1) * sizeof(*range->entries));
    for (uint32_t i = 0; i < count; i++)
        range->entries[i] = entry_read(entry_at(log, first + i), now_us);
    range->count = count;
    range->scanned = count ? range->entries[range->reverse ? 0 : count - 1].id : 0;
}
