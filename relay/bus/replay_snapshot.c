/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/bus/replay_parts.h"

/* A page of a snapshot: of each topic that has moved past the cursor, the latest event that is
 * wanted, in order of ids, as many as the page has room for. Its end is the cursor of the next
 * page: what has been given by then is the latest of its topic, or the topic has moved on, and its
 * turn comes again. The last page ends at the position, where live events begin.
 *
 * Mostly a topic's last entry is the one, so that is read first, and what lies before only where it
 * is not. */

enum { ENTRIES_MAX = 32, ENTRIES_FIRST = 1, ENTRIES_FIRST_TYPES = 8 };

static int compare_items(const void *a, const void *b)
{
    const struct replay_item *x = a, *y = b;
    return event_compare(x->event, y->event);
}

/* The first of them, each once, as far as the page may hold them; the others go, and from then on
 * nothing above the lowest of those is taken, as the page could not be complete there. */
static void cut(struct replay *r)
{
    size_t bytes = 0, kept = 0, next = 0;
    if (r->count)
        qsort(r->items, r->count, sizeof(*r->items), compare_items);
    for (; next < r->count; next++) {
        struct replay_item *item = &r->items[next];
        size_t size = event_frame(item->event).len;
        bool is_full = kept && (kept >= r->max_events || bytes + size > r->max_bytes);
        if (kept && r->items[kept - 1].id == item->id) {
            replay_item_release(item); /* the same event through another topic */
            continue;
        }
        if (item->id >= r->full || is_full)
            break;
        bytes += size;
        r->items[kept++] = *item;
    }
    if (next < r->count && r->items[next].id < r->full)
        r->full = r->items[next].id;
    for (; next < r->count; next++)
        replay_item_release(&r->items[next]);
    r->count = kept;
}

/* Whether a later one has replaced it that is over by now: stale is worse than none. */
static bool is_stale(const struct replay *r, const struct store_range *range, size_t i)
{
    const struct event *ev = range->entries[i].event;
    if (event_lane(ev) != LANE_COALESCED)
        return false;
    for (size_t j = i + 1; j < range->count; j++) {
        const struct event *later = range->entries[j].event;
        if (later && event_has_slot_of(later, ev) && replay_wants(r, later))
            return true;
    }
    return false;
}

/* Takes the latest of a topic's entries that is wanted. False: none of these is. */
static bool take_latest(struct replay *r, struct store_range *range)
{
    for (size_t i = range->count; i-- > 0;) {
        struct store_entry *entry = &range->entries[i];
        if (!entry->event || !replay_counts(r, entry->event) || is_stale(r, range, i))
            continue;
        struct replay_item *item = replay_item_add(r);
        item->id = entry->id;
        item->event = entry->event;
        entry->event = NULL;
        return true;
    }
    return false;
}

/* What is to be read of a topic next: from its end once more, where an earlier entry needs to be
 * held against one that is over. */
static void go_on(const struct replay *r, struct store_range *range)
{
    for (size_t i = 0; i < range->count; i++) {
        const struct event *ev = range->entries[i].event;
        if (ev && event_lane(ev) == LANE_COALESCED && replay_is_over(r, ev)) {
            range->limit = ENTRIES_MAX;
            return;
        }
    }
    range->upto = range->scanned - 1;
    range->limit = ENTRIES_MAX - range->limit;
}

/* Takes what the ranges brought so far, and keeps what the page has room for. */
static void collect(struct replay *r)
{
    for (size_t i = 0; i < r->next_range; i++) {
        struct store_range *range = &r->ranges[i];
        if (!range->entries)
            continue;
        bool found = take_latest(r, range);
        bool goes_on = !found && range->more && !r->stepped && range->scanned > r->cursor + 1;
        if (goes_on)
            go_on(r, range);
        else
            range->upto = range->limit = 0;
        store_range_reset(range);
    }
    cut(r);
}

static void on_read(struct replay *r)
{
    if (!r->error && !r->stepped) { /* once more, for those whose last entries were none of it */
        r->stepped = true;
        replay_ranges_read(r, on_read);
        return;
    }
    if (!r->error) {
        r->final = r->full == UINT64_MAX;
        r->end = r->final ? r->position : r->items[r->count - 1].id;
        r->start = r->count ? r->items[0].id - 1 : r->position;
    }
    r->snapshot_done(r);
}

/* So many topics that nobody can be given the latest of each: told, and live. */
static void refuse(struct replay *r)
{
    *replay_item_add(r) = (struct replay_item){
        .id = r->position, .from = r->cursor, .moves = true, .reason = GAP_OVERFLOW};
    r->start = 0;
    r->end = r->position;
    r->final = true;
    r->snapshot_done(r);
}

void replay_snapshot_read(struct replay *r, void (*done)(struct replay *r))
{
    size_t moved = 0;
    r->snapshot_done = done;
    r->ranges_taken = collect;
    for (size_t i = 0; i < r->look.count; i++)
        moved += r->look.topics[i].last > r->cursor;
    if (moved > r->snapshot_max) {
        refuse(r);
        return;
    }
    bool by_type = r->sub && subscription_request(r->sub)->types.count;
    replay_ranges_make(r, UINT64_MAX, true);
    for (size_t i = 0; i < r->range_count; i++)
        r->ranges[i].limit = by_type ? ENTRIES_FIRST_TYPES : ENTRIES_FIRST;
    r->full = UINT64_MAX;
    replay_ranges_read(r, on_read);
}
