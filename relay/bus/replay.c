/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/replay_parts.h"

/* What a page holds, and how far it is complete. The log is one list for each topic, each trimmed
 * and expired by itself, while a client wants one order over all of its topics and must be told of
 * each loss once, exactly. So a page merges the lists by id, and stops at the lowest place where
 * any of them may go on: what is said to be complete is. A gap is an item among the events, at the
 * place where the loss begins. docs/architecture.md, "Many reads, few commands"; docs/protocol.md,
 * "Replay and gaps". */

static void gap_add(struct replay *r, uint64_t from, uint64_t to, enum gap_reason reason,
                    const char *topic)
{
    if (to <= r->known)
        return;
    from = from > r->known ? from : r->known;
    struct replay_item *item = replay_item_add(r);
    item->id = to;
    item->from = from;
    item->reason = reason;
    item->topic = topic ? mem_dup(topic, strlen(topic)) : NULL;
}

/* Whether the horizon says that a cursor may have lost something that no chain can tell. Who named
 * none is given what there is. */
static bool below_horizon(const struct replay *r, uint64_t cursor)
{
    return r->kind == CURSOR_ID && cursor < r->look.horizon && r->known < r->look.horizon &&
           r->forgotten < r->look.horizon;
}

static enum gap_reason horizon_reason(const struct replay *r)
{
    return r->look.pruned ? GAP_EXPIRED : GAP_REDIS_LOST;
}

/* A chain begins here. The horizon may be above its first event (of another topic that was pruned
 * later): the gap then ends before that event, or a page that ends below the horizon would leave it
 * to the next, which no longer sees it. */
static void check_beginning(struct replay *r, uint64_t at, uint64_t first)
{
    uint64_t to = r->look.horizon < first ? r->look.horizon : first - 1;
    if (below_horizon(r, at) && at < to)
        gap_add(r, at, to, horizon_reason(r), NULL);
}

/* Turns one topic's entries into items, following the chain of `prev` from the cursor. */
static void follow_chain(struct replay *r, const struct store_topic *topic,
                         struct store_range *range)
{
    uint64_t at = r->cursor;
    if (r->kind == CURSOR_ALL &&
        !r->stepped) /* history is given as it is: no gap before its start */
        at = range->count ? range->entries[0].id : topic->last;

    for (size_t i = 0; i < range->count; i++) {
        struct store_entry *entry = &range->entries[i];
        if (entry->has_prev && entry->prev > at && entry->prev < entry->id)
            gap_add(r, at, entry->prev, GAP_TRIMMED, topic->name);
        else if (entry->has_prev && entry->prev == 0 && topic->exact)
            check_beginning(r, at, entry->id);
        at = entry->id;
        if (!entry->event)
            continue;
        struct replay_item *item = replay_item_add(r);
        item->id = entry->id;
        item->event = entry->event;
        entry->event = NULL;
    }
    if (!range->more && topic->last > at && topic->last <= r->position)
        gap_add(r, at, topic->last, GAP_EXPIRED, topic->name);
}

static void check_horizon(struct replay *r)
{
    if (!below_horizon(r, r->cursor))
        return;
    bool chainless = r->moved_only;
    for (size_t i = 0; i < r->look.count; i++)
        chainless |= r->look.topics[i].exact && r->look.topics[i].last == 0;
    for (size_t i = 0; i < r->names->count; i++)
        chainless |= name_is_pattern(slice_of(r->names->items[i]));
    if (chainless)
        gap_add(r, r->cursor, r->look.horizon, horizon_reason(r), NULL);
}

/* Where an item stands. A gap stands where the loss begins, not where it ends: a client that is cut
 * off between the two must have been told, as other topics' events have moved its cursor by then.
 */
static uint64_t item_place(const struct replay_item *item)
{
    return item->event ? item->id : item->from;
}

static int item_compare(const void *a, const void *b)
{
    const struct replay_item *x = a, *y = b;
    if (item_place(x) != item_place(y))
        return item_place(x) < item_place(y) ? -1 : 1;
    if (x->event && y->event)
        return event_compare(x->event, y->event);
    if (!x->event && !y->event) /* a stream that is told the widest needs no other */
        return (x->id < y->id) - (x->id > y->id);
    return (x->event == NULL) - (y->event == NULL);
}

/* Those from @first on. */
static void sort_items(struct replay *r, size_t first)
{
    uint64_t next = UINT64_MAX;
    if (r->count > first)
        qsort(r->items + first, r->count - first, sizeof(*r->items), item_compare);
    for (size_t i = r->count; i > first; i--) {
        r->items[i - 1].next = next;
        if (r->items[i - 1].event)
            next = r->items[i - 1].id;
    }
    if (first) /* what the step before ended with goes on here */
        r->items[first - 1].next = next;
}

/* One client is told of neighbouring gaps once, and not again of what it has been told of. A repair
 * serves clients of many topics: each gap is for its own. */
static size_t gap_keep(struct replay *r, struct replay_item gap, size_t kept)
{
    struct replay_item *before = kept ? &r->items[kept - 1] : NULL;
    if (r->repair) {
        r->items[kept] = gap;
        return kept + 1;
    }
    if (gap.id <= r->gap_told) {
        replay_item_release(&gap);
        return kept;
    }
    r->gap_told = gap.id;
    if (!before || before->event) {
        r->items[kept] = gap;
        return kept + 1;
    }
    before->id = gap.id;
    before->next = gap.next;
    free(before->topic);
    before->topic = NULL;
    replay_item_release(&gap);
    return kept;
}

enum page_fit { PAGE_FITS, PAGE_FULL, PAGE_OVER_BUDGET };

static enum page_fit page_fit(const struct replay *r, struct event *ev)
{
    const struct replay_page *page = &r->page;
    if (page->counted >= r->budget && replay_counts(r, ev))
        return PAGE_OVER_BUDGET;
    bool full = page->events >= r->max_events || page->bytes + event_frame(ev).len > r->max_bytes;
    return page->events && full ? PAGE_FULL : PAGE_FITS;
}

static void add_overflow(struct replay *r)
{
    r->items = mem_resize(r->items, (r->count + 1) * sizeof(*r->items));
    r->items[r->count++] = (struct replay_item){
        .id = r->position, .from = r->page.last, .moves = true, .reason = GAP_OVERFLOW};
    r->end = r->position;
    r->final = true;
}

/* Takes the sorted items from @first on into the page, up to @bound and as far as they fit. */
static enum page_fit take_items(struct replay *r, size_t first, uint64_t bound)
{
    struct replay_page *page = &r->page;
    enum page_fit fit = PAGE_FITS;
    size_t kept = first, next = first;
    for (; next < r->count && item_place(&r->items[next]) <= bound; next++) {
        struct replay_item item = r->items[next];
        if (!item.event) {
            kept = gap_keep(r, item, kept);
        } else if (item.id == page->last && !r->repair) {
            replay_item_release(&item); /* the same event through another topic */
        } else if (item.id == page->last) {
            r->items[kept++] = item; /* a repair serves those who want only that topic, too */
        } else {
            fit = page_fit(r, item.event);
            if (fit != PAGE_FITS)
                break;
            r->items[kept++] = item;
            page->last = item.id;
            page->events++;
            page->counted += replay_counts(r, item.event);
            page->bytes += event_frame(item.event).len;
        }
    }
    for (; next < r->count; next++)
        replay_item_release(&r->items[next]);
    r->count = kept;
    return fit;
}

/* Cuts the items from @first on to what the page may hold, complete up to `end`. @bound: what is
 * above may be incomplete. True: there is more, and room for it. */
static bool cut_page(struct replay *r, size_t first, uint64_t bound, bool more)
{
    enum page_fit fit = take_items(r, first, bound);
    r->final = fit == PAGE_FITS && !more;
    r->end = fit == PAGE_FITS ? bound : r->page.last;
    /* A gap may have been joined to the last item before @first. */
    for (size_t i = first ? first - 1 : 0; i < r->count; i++) {
        struct replay_item *item = &r->items[i];
        item->moves = !item->event && item->id < item->next && (!more || item->id <= bound);
        if (item->moves && item->id > r->end)
            r->end = item->id;
    }
    if (fit == PAGE_OVER_BUDGET)
        add_overflow(r);
    return fit == PAGE_FITS && more && r->page.events < r->max_events &&
           r->page.bytes < r->max_bytes;
}

/* Which of the topics that were asked for by name have ended. */
static void note_ends(struct replay *r)
{
    for (size_t i = 0; i < r->look.count; i++) {
        struct store_topic *topic = &r->look.topics[i];
        if (!topic->exact || topic->end == END_NONE || topic->last > r->position)
            continue;
        r->ends = mem_grow(r->ends, r->end_count, sizeof(*r->ends));
        r->ends[r->end_count++] = (struct note_end){topic->name, topic->last, topic->end};
        topic->name = NULL;
    }
}

static void finish(struct replay *r, enum err e)
{
    replay_ranges_free(r);
    free(r->walk.ids);
    r->walk.ids = NULL;
    if (r->final && !e && !r->repair)
        note_ends(r);
    r->horizon = r->look.horizon;
    if (r->survey && !e)
        replay_survey_renew(r);
    store_look_reset(&r->look);
    r->done(r, e);
}

static void read_forward(struct replay *r);

/* Below the first gap and the first event: who is cut off before he has had the gap is told of it
 * when he resumes from here. Not below the horizon without need: that would be told as a loss. */
static uint64_t whole_start(const struct replay *r, uint64_t bound)
{
    uint64_t start = bound;
    for (size_t i = 0; i < r->count; i++) {
        const struct replay_item *item = &r->items[i];
        uint64_t below = item->event || item->from == 0 ? item->id - 1 : item->from;
        if (!item->event && item->from == 0 && r->look.horizon < below && r->look.horizon)
            below = r->look.horizon;
        start = below < start ? below : start;
        if (item->event)
            break;
    }
    return start;
}

/* Where the stream is complete from, for those who did not name a cursor; as long as the page holds
 * nothing. It may be that what was read so far has expired, and more is to come. */
static void set_start(struct replay *r, uint64_t bound)
{
    const struct replay_item *item = r->count ? &r->items[0] : NULL;
    uint64_t first = item ? item_place(item) : UINT64_MAX;
    if (r->kind == CURSOR_WHOLE)
        r->start = whole_start(r, bound);
    if (r->kind == CURSOR_ALL) {
        uint64_t before = item && item->event ? first - 1 : first;
        r->start = before < bound ? before : bound;
    }
    /* Asked for by time, so nothing before the namespace's birth can be missing: a client that
     * resumes from this start must not be told of a loss. */
    if (r->kind == CURSOR_SINCE && !r->stepped && r->start < r->look.horizon &&
        r->look.horizon < first)
        r->start = r->look.horizon;
}

static void merge(struct replay *r)
{
    uint64_t full = r->narrowed < r->left_out ? r->narrowed : r->left_out;
    bool more = full < r->position || r->stale;
    uint64_t bound = full < r->position ? full : r->position;
    size_t first = r->count;
    for (size_t i = 0; i < r->range_count; i++) {
        struct store_range *range = &r->ranges[i];
        if (range->more && range->scanned < r->position) {
            bound = range->scanned < bound ? range->scanned : bound;
            more = true;
        }
        follow_chain(r, r->sources[i], range);
    }
    check_horizon(r);
    sort_items(r, first);
    if (!first)
        set_start(r, bound);
    if (!r->stepped)
        r->page = (struct replay_page){.last = r->start};
    bool room = cut_page(r, first, bound, more);
    replay_ranges_note_next(r);
    if (!room || (r->stale && r->end >= r->position)) {
        finish(r, OK);
        return;
    }
    replay_ranges_free(r);
    r->cursor = r->end;
    r->stepped = true;
    read_forward(r);
}

static void on_forward(struct replay *r)
{
    if (r->error)
        finish(r, r->error);
    else
        merge(r);
}

/* One step of a page: few entries of each topic, as they may be large; then further while there is
 * room. */
static void read_forward(struct replay *r)
{
    replay_ranges_make(r, r->max_events, false);
    replay_ranges_read(r, on_forward);
}

/* --- the last N: walk back by pages, for their ids only -----------------------------------------
 */

static void on_walk(struct replay *r);

/* Reads further back where that may still bring one of the last N; then forward from the first of
 * them. */
static void walk_on(struct replay *r)
{
    struct replay_walk *walk = &r->walk;
    bool more = false;
    uint64_t first = walk->count == walk->wanted ? walk->ids[walk->count - 1] : 0;
    for (size_t i = 0; i < r->range_count; i++) {
        struct store_range *range = &r->ranges[i];
        bool exhausted = !range->limit || !range->more || range->scanned <= first + 1;
        range->limit = exhausted ? 0 : range->limit;
        range->upto = exhausted ? 0 : range->scanned - 1;
        more |= !exhausted;
    }
    if (more) {
        replay_ranges_read(r, on_walk);
        return;
    }
    replay_ranges_free(r);
    walk->wanted = 0;
    r->cursor = first ? first - 1 : 0;
    read_forward(r);
}

static void on_walk(struct replay *r)
{
    if (r->error)
        finish(r, r->error);
    else
        walk_on(r);
}

static void read_last(struct replay *r)
{
    assert(r->cursor > 0); /* who wants none of the last asks for CURSOR_NONE */
    r->walk = (struct replay_walk){.wanted = r->cursor};
    r->kind = CURSOR_ALL;
    r->cursor = 0;
    replay_ranges_make(r, r->walk.wanted, true);
    replay_ranges_read(r, on_walk);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void live_from(struct replay *r, uint64_t start)
{
    r->start = start;
    r->end = r->position;
    r->final = true;
    finish(r, OK);
}

static void on_snapshot(struct replay *r)
{
    finish(r, r->error);
}

static void on_look(struct store_look *look, enum err e)
{
    struct replay *r = look->arg;
    if (e) {
        finish(r, e);
        return;
    }
    /* It may be of a primary that was ahead of this one, and nobody can raise the counter yet. */
    r->frozen = look->frozen;
    if (r->frozen && r->kind == CURSOR_ID && r->cursor > look->position) {
        finish(r, ERR_AGAIN);
        return;
    }
    r->position = r->upto && r->upto < look->position ? r->upto : look->position;
    r->topic_last = look->count == 1 ? look->topics[0].last : 0;
    r->topic_end = look->count == 1 ? look->topics[0].end : END_NONE;
    bool unknown = r->kind == CURSOR_UNKNOWN || (r->kind == CURSOR_ID && r->cursor > r->position);
    if (unknown) {
        r->unknown = true;
        gap_add(r, UINT64_MAX, r->position, GAP_UNKNOWN_ID, NULL);
        r->items[0].moves = true;
        live_from(r, 0);
        return;
    }
    if (r->kind == CURSOR_SINCE && r->cursor >= r->position) {
        live_from(r, r->position);
        return;
    }
    if (r->kind == CURSOR_NONE) {
        live_from(r, r->position);
        return;
    }
    r->start = r->cursor;
    if (r->kind == CURSOR_LAST)
        read_last(r);
    else if (r->kind == CURSOR_SNAPSHOT)
        replay_snapshot_read(r, on_snapshot);
    else
        read_forward(r);
}

void replay_start(struct replay *r)
{
    assert(r->max_events > 0);
    r->stale = replay_survey_serves(r);
    if (r->stale) {
        r->look = r->survey->look;
        r->survey->look = (struct store_look){0};
        r->position = r->look.position;
        r->start = r->cursor;
        read_forward(r);
        return;
    }
    if (r->kind == CURSOR_SINCE && r->cursor > 0)
        r->cursor--; /* events of that very microsecond are wanted, too */
    bool position_only = cursor_is_live_only(r->kind);
    r->error = OK;
    if (r->kind == CURSOR_ALL || r->kind == CURSOR_WHOLE || position_only)
        r->cursor = 0;
    r->look = (struct store_look){.ns = r->ns,
                                  .names = r->names,
                                  .cursor = r->kind == CURSOR_LAST ? 0 : r->cursor,
                                  .moved_only = r->moved_only,
                                  .done = on_look,
                                  .arg = r};
    r->store->ops->look(r->store->impl, &r->look);
}

void replay_reset(struct replay *r)
{
    for (size_t i = 0; i < r->count; i++)
        replay_item_release(&r->items[i]);
    free(r->items);
    note_ends_free(r->ends, r->end_count);
    r->items = NULL;
    r->ends = NULL;
    r->count = r->end_count = 0;
}
