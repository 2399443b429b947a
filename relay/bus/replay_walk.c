/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/bus/replay_parts.h"

/* The way back to the last N events of many topics: nobody knows where it begins, so the logs are
 * read from their ends, by pages. Only ids are kept, as events may be large. */

static int compare_downwards(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

bool replay_wants(const struct replay *r, const struct event *ev)
{
    return r->sub ? subscription_wants_event(r->sub, ev) : !event_has_match(ev);
}

bool replay_is_over(const struct replay *r, const struct event *ev)
{
    if (!event_has_ttl(ev))
        return false;
    uint64_t offset_us = (uint64_t)store_clock_offset_us(r->store);
    return event_is_over(ev, &(struct event_clock){.wall_us = clock_wall_us() + offset_us});
}

bool replay_counts(const struct replay *r, const struct event *ev)
{
    return replay_wants(r, ev) && !replay_is_over(r, ev);
}

void replay_walk_collect(struct replay *r)
{
    struct replay_walk *walk = &r->walk;
    size_t more = 0;
    for (size_t i = 0; i < r->range_count; i++)
        more += r->ranges[i].count;
    walk->ids = mem_resize(walk->ids, (walk->count + more + 1) * sizeof(*walk->ids));
    for (size_t i = 0; i < r->range_count; i++) {
        struct store_range *range = &r->ranges[i];
        for (size_t j = 0; j < range->count; j++)
            if (range->entries[j].event && replay_counts(r, range->entries[j].event))
                walk->ids[walk->count++] = range->entries[j].id;
        store_range_reset(range);
    }
    qsort(walk->ids, walk->count, sizeof(*walk->ids), compare_downwards);
    size_t kept = 0;
    for (size_t i = 0; i < walk->count && kept < walk->wanted; i++)
        if (!kept || walk->ids[kept - 1] != walk->ids[i])
            walk->ids[kept++] = walk->ids[i];
    walk->count = kept;
}
