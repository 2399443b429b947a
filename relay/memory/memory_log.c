#include "relay/memory/memory_log.h"

#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"

enum { RING_START = 4 };

static struct memory_entry *entry_at(const struct memory_log *log, size_t i)
{
    return &log->entries[(log->head + i) & (log->cap - 1)];
}

static size_t entry_cost(const struct memory_entry *entry)
{
    return event_frame(entry->event).len + MEMORY_ENTRY_COST;
}

static void log_grow(struct memory_log *log)
{
    size_t cap = log->cap ? log->cap * 2 : RING_START;
    struct memory_entry *entries = mem_alloc(cap * sizeof(*entries));
    for (size_t i = 0; i < log->count; i++)
        entries[i] = *entry_at(log, i);
    free(log->entries);
    log->entries = entries;
    log->cap = cap;
    log->head = 0;
}

void memory_log_put(struct memory_log *log, struct memory_entry entry)
{
    assert(log->count == 0 || entry_at(log, log->count - 1)->id < entry.id);
    if (log->count == log->cap)
        log_grow(log);
    *entry_at(log, log->count) = entry;
    log->count++;
    log->bytes += entry_cost(&entry);
}

void memory_log_trim(struct memory_log *log, size_t keep)
{
    while (log->count > keep) {
        struct memory_entry *entry = entry_at(log, 0);
        log->bytes -= entry_cost(entry);
        event_unref(entry->event);
        log->head = (log->head + 1) & (log->cap - 1);
        log->count--;
    }
    if (log->count == 0) {
        free(log->entries);
        *log = (struct memory_log){0};
    }
}

/* The number of entries with an id up to @id. */
static size_t count_upto(const struct memory_log *log, uint64_t id)
{
    size_t low = 0, high = log->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (entry_at(log, middle)->id <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct store_entry entry_read(const struct memory_entry *entry, uint64_t now_us)
{
    bool expired = entry->expires_us && entry->expires_us < now_us;
    return (struct store_entry){.event = expired ? NULL : event_ref(entry->event),
                                .id = entry->id,
                                .prev = entry->prev,
                                .has_prev = true};
}

void memory_log_read(const struct memory_log *log, struct store_range *range, uint64_t now_us)
{
    size_t first = count_upto(log, range->after), end = count_upto(log, range->upto);
    size_t count = end > first ? end - first : 0;
    range->more = count > range->limit;
    if (range->more && range->reverse)
        first = end - range->limit;
    if (range->more)
        count = range->limit;
    range->entries = mem_alloc((count ? count : 1) * sizeof(*range->entries));
    for (size_t i = 0; i < count; i++)
        range->entries[i] = entry_read(entry_at(log, first + i), now_us);
    range->count = count;
    range->scanned = count ? range->entries[range->reverse ? 0 : count - 1].id : 0;
}
