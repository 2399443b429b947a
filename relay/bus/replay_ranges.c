/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/bus/replay_parts.h"

/* Reads the logs of a page's topics, of which a pattern may match any number, each with events of
 * any size. So few entries of each are read, of some topics at a time, and of what is there only
 * what may find room in the page is kept. */

enum {
    RANGE_MAX = 32,   /* entries per read and topic at first … */
    RANGE_MOST = 256, /* … and later */
    RANGE_MIN = 4,
    BATCH_DEFAULT = 64,
};

static void on_range(struct store_range *range, enum err e);

/* Once it is known how large events are here, a step may take as many as there is room for. */
static uint64_t range_max(const struct replay *r)
{
    if (!r->stepped || !r->page.bytes || r->page.bytes >= r->max_bytes)
        return RANGE_MAX;
    uint64_t fit = (r->max_bytes - r->page.bytes) / (r->page.bytes / r->page.events + 1);
    return fit > RANGE_MOST ? RANGE_MOST : fit < RANGE_MAX ? RANGE_MAX : fit;
}

static int compare_next(const void *a, const void *b)
{
    const struct store_topic *x = *(struct store_topic *const *)a;
    const struct store_topic *y = *(struct store_topic *const *)b;
    return (x->next > y->next) - (x->next < y->next);
}

static uint64_t next_of(const struct replay *r, size_t source)
{
    uint64_t next = r->sources[source]->next;
    return next > r->cursor ? next : r->cursor + 1;
}

/* Each of the first @wanted topics, by where they go on, has an event to give, perhaps; the others
 * cannot have one before those. Returns how many stay. */
static size_t leave_out(struct replay *r, size_t count, uint64_t wanted)
{
    r->left_out = UINT64_MAX;
    if (count <= wanted)
        return count;
    qsort(r->sources, count, sizeof(struct store_topic *), compare_next);
    size_t kept = (size_t)wanted;
    while (kept < count && next_of(r, kept) == next_of(r, (size_t)wanted - 1))
        kept++;
    if (kept < count)
        r->left_out = next_of(r, kept) - 1;
    return kept;
}

void replay_ranges_make(struct replay *r, uint64_t wanted, bool reverse)
{
    size_t count = 0;
    r->ranges = mem_zero(r->look.count ? r->look.count : 1, sizeof(*r->ranges));
    r->sources = mem_zero(r->look.count ? r->look.count : 1, sizeof(struct store_topic *));
    for (size_t i = 0; i < r->look.count; i++)
        if (r->look.topics[i].last > r->cursor && r->look.topics[i].next <= r->position)
            r->sources[count++] = &r->look.topics[i];
    count = leave_out(r, count, reverse ? UINT64_MAX : wanted);
    uint64_t limit = count ? wanted / count : 0, most = range_max(r);
    limit = limit > most ? most : limit < RANGE_MIN ? RANGE_MIN : limit;
    limit = reverse && limit > wanted ? wanted : limit;
    for (size_t i = 0; i < count; i++)
        r->ranges[i] = (struct store_range){.ns = r->ns,
                                            .topic = r->sources[i]->name,
                                            .after = r->cursor,
                                            .upto = r->position,
                                            .limit = limit,
                                            .reverse = reverse,
                                            .done = on_range,
                                            .arg = r};
    r->range_count = count;
    r->batch = r->batch ? r->batch : BATCH_DEFAULT;
}

static uint64_t find_next(const struct store_range *range, uint64_t end)
{
    for (size_t i = 0; i < range->count; i++)
        if (range->entries[i].id > end)
            return range->entries[i].id;
    if (!range->more)
        return UINT64_MAX;
    return (range->scanned > end ? range->scanned : end) + 1;
}

void replay_ranges_note_next(struct replay *r)
{
    for (size_t i = 0; i < r->range_count; i++)
        r->sources[i]->next = find_next(&r->ranges[i], r->end);
}

void replay_ranges_free(struct replay *r)
{
    for (size_t i = 0; i < r->range_count; i++)
        store_range_reset(&r->ranges[i]);
    free(r->ranges);
    free(r->sources);
    r->ranges = NULL;
    r->sources = NULL;
    r->range_count = 0;
}

/* --- what a page has no room for -------------------------------------------------------------- */

struct candidate {
    uint64_t id;
    size_t bytes;
    bool counts; /* by the budget */
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* The id of the first event that finds the page full; UINT64_MAX: there is room for all. */
static uint64_t find_full(const struct replay *r, struct candidate *candidates, size_t count)
{
    const struct replay_page page = r->stepped ? r->page : (struct replay_page){0};
    uint64_t events = page.events, counted = page.counted;
    size_t bytes = page.bytes;
    if (count)
        qsort(candidates, count, sizeof(*candidates), compare_candidates);
    for (size_t i = 0; i < count; i++) {
        if (i && candidates[i].id == candidates[i - 1].id)
            continue;
        if (events >= r->max_events || (candidates[i].counts && counted >= r->budget) ||
            (events && bytes + candidates[i].bytes > r->max_bytes))
            return candidates[i].id;
        events++;
        counted += candidates[i].counts;
        bytes += candidates[i].bytes;
    }
    return UINT64_MAX;
}

/* Lets go of the events beyond that. Their entries stay: the chain of `prev` goes through them. */
static void narrow(struct replay *r)
{
    size_t count = 0, most = 0;
    for (size_t i = 0; i < r->next_range; i++)
        most += r->ranges[i].count;
    struct candidate *candidates = mem_alloc((most + 1) * sizeof(*candidates));
    for (size_t i = 0; i < r->next_range; i++)
        for (size_t j = 0; j < r->ranges[i].count; j++) {
            const struct store_entry *entry = &r->ranges[i].entries[j];
            if (entry->event)
                candidates[count++] = (struct candidate){entry->id, event_frame(entry->event).len,
                                                         replay_counts(r, entry->event)};
        }
    uint64_t full = find_full(r, candidates, count);
    free(candidates);
    if (full >= r->narrowed)
        return;
    r->narrowed = full;
    for (size_t i = 0; i < r->next_range; i++)
        for (size_t j = 0; j < r->ranges[i].count; j++) {
            struct store_entry *entry = &r->ranges[i].entries[j];
            if (entry->id > full) {
                event_unref(entry->event);
                entry->event = NULL;
            }
        }
}

/* --- reading ---------------------------------------------------------------------------------- */

/* False: @r has been handed on, and may be gone. */
static bool batch_done(struct replay *r)
{
    if (!r->error && r->walk.wanted)
        replay_walk_collect(r);
    else if (!r->error && r->ranges_taken)
        r->ranges_taken(r);
    else if (!r->error && r->range_count > r->batch)
        narrow(r);
    if (!r->error && r->next_range < r->range_count)
        return true;
    r->ranges_done(r);
    return false;
}

static void batches_read(struct replay *r);

static void on_range(struct store_range *range, enum err e)
{
    struct replay *r = range->arg;
    if (e)
        r->error = e;
    if (--r->waiting == 0 && batch_done(r))
        batches_read(r);
}

static void batches_read(struct replay *r)
{
    do {
        r->waiting = 1; /* for this loop: a store may answer at once */
        for (size_t sent = 0; r->next_range < r->range_count && sent < r->batch;) {
            struct store_range *range = &r->ranges[r->next_range++];
            if (!range->limit)
                continue;
            sent++;
            r->waiting++;
            r->store->ops->range(r->store->impl, range);
        }
    } while (--r->waiting == 0 && batch_done(r));
}

void replay_ranges_read(struct replay *r, void (*done)(struct replay *r))
{
    r->ranges_done = done;
    r->next_range = 0;
    r->narrowed = UINT64_MAX;
    batches_read(r);
}
