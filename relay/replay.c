#include "relay/replay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"

enum {
    RANGE_MAX = 32, /* entries per read and topic: bounds what large events may cost for a moment */
    RANGE_MIN = 4,
};

static const struct strings no_names = {NULL, 0};

static struct replay_item *item_add(struct replay *r)
{
    if ((r->count & (r->count - 1)) == 0) /* grows at powers of two */
        r->items = mem_resize(r->items, (r->count ? r->count * 2 : 1) * sizeof(*r->items));
    struct replay_item *item = &r->items[r->count++];
    *item = (struct replay_item){0};
    return item;
}

static void gap_add(struct replay *r, uint64_t from, uint64_t to, enum gap_reason reason,
                    const char *topic)
{
    struct replay_item *item = item_add(r);
    item->id = to;
    item->from = from;
    item->reason = reason;
    item->topic = topic ? mem_dup(topic, strlen(topic)) : NULL;
}

static void item_release(struct replay_item *item)
{
    event_unref(item->event);
    free(item->topic);
}

/* Whether the horizon says that a cursor may have lost something that no chain can tell. */
static bool below_horizon(const struct replay *r, uint64_t cursor)
{
    return r->kind == CURSOR_ID && cursor < r->look.horizon;
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
    bool asked_for_what_is_there = r->kind == CURSOR_ALL || r->kind == CURSOR_LAST;
    uint64_t at = r->cursor;
    if (asked_for_what_is_there && range->count)
        at = range->entries[0].id; /* history is given as it is: no gap before its start */
    else if (asked_for_what_is_there)
        at = topic->last;

    for (size_t i = 0; i < range->count; i++) {
        struct store_entry *entry = &range->entries[i];
        if (entry->has_prev && entry->prev > at && entry->prev < entry->id)
            gap_add(r, at, entry->prev, GAP_TRIMMED, topic->name);
        else if (entry->has_prev && entry->prev == 0 && topic->exact)
            check_beginning(r, at, entry->id);
        at = entry->id;
        if (!entry->event)
            continue;
        struct replay_item *item = item_add(r);
        item->id = entry->id;
        item->event = entry->event;
        entry->event = NULL;
    }
    if (!range->more && topic->last > at)
        gap_add(r, at, topic->last, GAP_EXPIRED, topic->name);
}

static void check_horizon(struct replay *r)
{
    if (!below_horizon(r, r->cursor))
        return;
    bool chainless = r->repair;
    for (size_t i = 0; i < r->look.count; i++)
        chainless |= r->look.topics[i].exact && r->look.topics[i].last == 0;
    for (size_t i = 0; i < r->names->count; i++)
        chainless |= name_is_pattern(slice_of(r->names->items[i]));
    if (chainless)
        gap_add(r, r->cursor, r->look.horizon, horizon_reason(r), NULL);
}

/* By id; a gap before an event of the same id. */
static int item_compare(const void *a, const void *b)
{
    const struct replay_item *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (x->event != NULL) - (y->event != NULL);
}

static size_t group_end(const struct replay *r, size_t first)
{
    size_t end = first + 1;
    while (end < r->count && r->items[end].id == r->items[first].id)
        end++;
    return end;
}

/* The wider of two gaps that end without an event between them. */
static void gap_merge(struct replay_item *gap, struct replay_item *other)
{
    gap->from = other->from < gap->from ? other->from : gap->from;
    gap->id = other->id;
    free(gap->topic);
    gap->topic = NULL;
    item_release(other);
}

/* Appends what is kept of one id's items to the first @kept: gaps, then one event. Returns the new
 * number. One client is told of neighbouring gaps once. A repair serves clients of many topics:
 * each gap is for its own. */
static size_t group_keep(struct replay *r, size_t first, size_t end, size_t kept)
{
    struct replay_item event = {0};
    for (size_t i = first; i < end; i++) {
        struct replay_item item = r->items[i];
        if (item.event && event.event)
            item_release(&item); /* the same event through another topic */
        else if (item.event)
            event = item;
        else if (!r->repair && kept && !r->items[kept - 1].event)
            gap_merge(&r->items[kept - 1], &item);
        else
            r->items[kept++] = item;
    }
    if (event.event) {
        for (size_t i = kept; i > 0 && !r->items[i - 1].event && r->items[i - 1].id == event.id;
             i--)
            r->items[i - 1].tied = true;
        r->items[kept++] = event;
    }
    return kept;
}

/* Cuts the sorted items to what the page may hold; sets end and final. */
static void cut_page(struct replay *r, uint64_t bound, bool more)
{
    size_t kept = 0, bytes = 0, next = 0;
    uint64_t events = 0;
    bool cut = false, overflow = false;
    r->end = bound;
    uint64_t last = r->cursor;
    while (next < r->count && r->items[next].id <= bound) {
        size_t end = group_end(r, next);
        struct event *ev = r->items[end - 1].event;
        size_t len = ev ? event_frame(ev).len : 0;
        overflow = ev && events >= r->budget;
        cut = ev && events && (events >= r->max_events || bytes + len > r->max_bytes);
        if (cut || overflow)
            break;
        last = r->items[next].id;
        kept = group_keep(r, next, end, kept);
        next = end;
        events += ev != NULL;
        bytes += len;
    }
    for (; next < r->count; next++)
        item_release(&r->items[next]);
    r->count = kept;
    r->final = !cut && !more;
    if (cut)
        r->end = last;
    if (overflow) {
        /* item_add() grows at powers of two, and what was cut may have left the array larger: safe
         * either way. */
        r->items = mem_resize(r->items, (kept + 1) * sizeof(*r->items));
        r->items[kept] = (struct replay_item){
            .id = r->position, .from = last, .reason = GAP_OVERFLOW, .event = NULL, .topic = NULL};
        r->count = kept + 1;
        r->end = r->position;
        r->final = true;
    }
}

/* For the last N: everything before the N-th event from the end goes, and gaps that would stand
 * before it. */
static void keep_last(struct replay *r, uint64_t n)
{
    size_t events = 0, first = r->count;
    uint64_t id = 0;
    for (size_t i = r->count; i > 0; i--) {
        const struct replay_item *item = &r->items[i - 1];
        if (!item->event)
            continue;
        if (item->id != id && ++events > n)
            break;
        id = item->id;
        first = i - 1;
    }
    for (size_t i = 0; i < first; i++)
        item_release(&r->items[i]);
    if (first)
        memmove(r->items, r->items + first, (r->count - first) * sizeof(*r->items));
    r->count -= first;
}

static void finish(struct replay *r, enum err e)
{
    for (size_t i = 0; i < r->range_count; i++)
        store_range_reset(&r->ranges[i]);
    free(r->ranges);
    free(r->sources);
    r->ranges = NULL;
    r->sources = NULL;
    r->range_count = 0;
    store_look_reset(&r->look);
    r->done(r, e);
}

static void merge(struct replay *r)
{
    uint64_t bound = r->position;
    bool more = false;
    for (size_t i = 0; i < r->range_count; i++) {
        struct store_range *range = &r->ranges[i];
        if (range->more && !range->reverse && range->scanned < r->position) {
            bound = range->scanned < bound ? range->scanned : bound;
            more = true;
        }
        follow_chain(r, r->sources[i], range);
    }
    check_horizon(r);
    if (r->count)
        qsort(r->items, r->count, sizeof(*r->items), item_compare);
    if (r->kind == CURSOR_LAST)
        keep_last(r, r->cursor);
    bool history = r->kind == CURSOR_LAST || r->kind == CURSOR_ALL;
    if (history) {
        r->start = r->count ? r->items[0].id - 1 : r->position;
        r->cursor = r->start;
    }
    if (r->kind == CURSOR_SINCE) {
        /* Asked for by time, so nothing before the namespace's birth can be missing: a client that
         * resumes from this start must not be told of a loss. */
        if (r->start < r->look.horizon)
            r->start = r->look.horizon;
        if (r->count && r->items[0].id <= r->start)
            r->start = r->items[0].id - 1;
    }
    cut_page(r, bound, more);
    finish(r, OK);
}

static void on_range(struct store_range *range, enum err e)
{
    struct replay *r = range->arg;
    if (e)
        r->error = e;
    if (--r->waiting == 0) {
        if (r->error)
            finish(r, r->error);
        else
            merge(r);
    }
}

static void read_ranges(struct replay *r)
{
    bool reverse = r->kind == CURSOR_LAST;
    size_t sources = 0;
    uint64_t after = reverse ? 0 : r->cursor;
    r->ranges = mem_zero(r->look.count ? r->look.count : 1, sizeof(*r->ranges));
    r->sources = mem_zero(r->look.count ? r->look.count : 1, sizeof(struct store_topic *));
    for (size_t i = 0; i < r->look.count; i++) {
        if (r->look.topics[i].last <= after)
            continue;
        r->sources[sources] = &r->look.topics[i];
        r->ranges[sources++] = (struct store_range){.ns = r->ns,
                                                    .topic = r->look.topics[i].name,
                                                    .after = after,
                                                    .upto = r->position,
                                                    .reverse = reverse,
                                                    .done = on_range,
                                                    .arg = r};
    }
    r->range_count = sources;
    if (!sources) {
        merge(r);
        return;
    }
    size_t limit = r->max_events / sources;
    limit = limit > RANGE_MAX ? RANGE_MAX : limit < RANGE_MIN ? RANGE_MIN : limit;
    r->waiting = sources + 1; /* one for this loop: a store may answer at once */
    for (size_t i = 0; i < sources; i++) {
        r->ranges[i].limit = reverse ? r->cursor : limit;
        r->store->ops->range(r->store->impl, &r->ranges[i]);
    }
    on_range(&(struct store_range){.arg = r}, OK);
}

static void live_from(struct replay *r, uint64_t start)
{
    r->start = start;
    r->end = r->position;
    r->final = true;
    finish(r, OK);
}

static void on_look(struct store_look *look, enum err e)
{
    struct replay *r = look->arg;
    if (e) {
        finish(r, e);
        return;
    }
    r->position = look->position;
    bool unknown = r->kind == CURSOR_UNKNOWN || (r->kind == CURSOR_ID && r->cursor > r->position);
    if (unknown) {
        gap_add(r, UINT64_MAX, r->position, GAP_UNKNOWN_ID, NULL);
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
    read_ranges(r);
}

void replay_start(struct replay *r)
{
    assert(r->max_events > 0);
    if (r->kind == CURSOR_SINCE && r->cursor > 0)
        r->cursor--; /* events of that very microsecond are wanted, too */
    bool position_only = r->kind == CURSOR_NONE || r->kind == CURSOR_UNKNOWN;
    bool everything = r->kind == CURSOR_ALL || r->kind == CURSOR_LAST;
    r->error = OK;
    if (r->kind == CURSOR_ALL)
        r->cursor = 0;
    r->look = (struct store_look){.ns = r->ns,
                                  .names = position_only ? &no_names : r->names,
                                  .cursor = everything ? 0 : r->cursor,
                                  .moved_only = r->repair,
                                  .done = on_look,
                                  .arg = r};
    r->store->ops->look(r->store->impl, &r->look);
}

void replay_reset(struct replay *r)
{
    for (size_t i = 0; i < r->count; i++)
        item_release(&r->items[i]);
    free(r->items);
    r->items = NULL;
    r->count = 0;
}
