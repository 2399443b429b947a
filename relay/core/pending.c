/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/pending.h"

#include <stdlib.h>

#include "common/mem.h"

enum { ITEMS_START = 8, INDEX_START = 16 };

void pending_reset(struct pending *p)
{
    for (uint32_t i = 0; i < p->used; i++)
        event_unref(p->items[i].event);
    free(p->items);
    free(p->index);
    *p = (struct pending){0};
}

/* --- the index -------------------------------------------------------------------------------- */

static void index_add(struct pending *p, uint32_t item)
{
    uint32_t mask = p->index_cap - 1, at = p->items[item].slot & mask;
    while (p->index[at])
        at = (at + 1) & mask;
    p->index[at] = item + 1;
    p->index_used++;
}

/* Of all items, for at least as many more. */
static void index_make(struct pending *p)
{
    uint32_t cap = INDEX_START;
    while (cap < 4 * p->count)
        cap *= 2;
    free(p->index);
    p->index = mem_zero(cap, sizeof(*p->index));
    p->index_cap = cap;
    p->index_used = 0;
    for (uint32_t i = 0; i < p->used; i++)
        if (p->items[i].event && event_lane(p->items[i].event) == LANE_COALESCED)
            index_add(p, i);
}

static struct pending_item *index_find(const struct pending *p, const struct event *ev)
{
    if (!p->index)
        return NULL;
    uint32_t mask = p->index_cap - 1;
    for (uint32_t at = event_slot(ev) & mask; p->index[at]; at = (at + 1) & mask) {
        struct pending_item *item = &p->items[p->index[at] - 1];
        if (item->slot == event_slot(ev) && item->event && event_has_slot_of(item->event, ev))
            return item;
    }
    return NULL;
}

/* --- the items -------------------------------------------------------------------------------- */

/* Room for one more: the holes', where they are many. */
static void make_room(struct pending *p)
{
    if (p->used < p->cap)
        return;
    if (!p->cap || p->count > p->used / 2) {
        p->cap = p->cap ? 2 * p->cap : ITEMS_START;
        p->items = mem_resize(p->items, p->cap * sizeof(*p->items));
        return;
    }
    uint32_t to = 0;
    for (uint32_t i = 0; i < p->used; i++)
        if (p->items[i].event)
            p->items[to++] = p->items[i];
    p->used = to;
    if (p->index)
        index_make(p);
}

static void take_in(struct pending *p, uint32_t at, struct event *ev)
{
    p->items[at] = (struct pending_item){event_ref(ev), event_slot(ev)};
    p->used++;
    p->count++;
    p->bytes += event_frame(ev).len;
    p->has_ttl |= event_has_ttl(ev);
}

void pending_put(struct pending *p, struct event *ev)
{
    make_room(p);
    take_in(p, p->used, ev);
    if (event_lane(ev) != LANE_COALESCED)
        return;
    if (!p->index || 2 * p->index_used >= p->index_cap)
        index_make(p);
    else
        index_add(p, p->used - 1);
}

/* Whether it stands behind one with @id. What has no id stays behind what it arrived after. */
static bool is_behind(const struct pending_item *item, uint64_t id)
{
    return item->event && event_id(item->event) > id;
}

void pending_insert(struct pending *p, struct event *ev)
{
    uint32_t at = 0;
    make_room(p);
    while (at < p->used && !is_behind(&p->items[at], event_id(ev)))
        at++;
    for (uint32_t i = p->used; i > at; i--)
        p->items[i] = p->items[i - 1];
    take_in(p, at, ev);
    index_make(p);
}

static void item_drop(struct pending *p, struct pending_item *item)
{
    p->count--;
    p->bytes -= event_frame(item->event).len;
    event_unref(item->event);
    item->event = NULL;
}

enum pending_found pending_supersede(struct pending *p, const struct event *ev)
{
    struct pending_item *item = index_find(p, ev);
    if (!item)
        return PENDING_NONE;
    if (event_id(item->event) > event_id(ev))
        return PENDING_NEWER;
    item_drop(p, item);
    return PENDING_REPLACED;
}

size_t pending_expire(struct pending *p, const struct event_clock *now)
{
    size_t gone = 0;
    bool has_ttl = false;
    for (uint32_t i = 0; i < p->used && p->has_ttl; i++) {
        struct pending_item *item = &p->items[i];
        if (!item->event)
            continue;
        if (event_is_over(item->event, now)) {
            item_drop(p, item);
            gone++;
        } else {
            has_ttl |= event_has_ttl(item->event);
        }
    }
    p->has_ttl = has_ttl;
    return gone;
}

uint64_t pending_first_id(const struct pending *p)
{
    for (uint32_t i = 0; i < p->used; i++)
        if (p->items[i].event && event_id(p->items[i].event))
            return event_id(p->items[i].event);
    return 0;
}
