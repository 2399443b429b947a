/* SPDX-License-Identifier: Apache-2.0 */
/* What does not fit is dropped by the stream's own choice, and told where it is missing: one block
 * for a run of events, with the highest of their ids, so that a resume brings none of them again
 * and the count stays true. docs/protocol.md, 6.3. */
#include <assert.h>
#include <stdlib.h>

#include "relay/core/gap.h"
#include "relay/core/outbox_parts.h"

/* --- the block -------------------------------------------------------------------------------- */

/* Whether slot @i is the block of the latest run, and no byte of it has gone. */
static bool is_open_at(const struct outbox *o, uint32_t i)
{
    const struct event *ev = frame_queue_at(&o->queue, i);
    return (ev ? ev == o->more->drop.block : o->has_hole) && (i > 0 || !o->head_sent);
}

/* Back to an empty slot, as it is about to grow. */
static void reopen(struct outbox *o, uint32_t i)
{
    struct outbox_drop *drop = &o->more->drop;
    struct event **slot = frame_queue_slot(&o->queue, i);
    if (!*slot)
        return;
    o->bytes -= event_frame(*slot).len;
    event_unref(*slot);
    event_unref(drop->block);
    *slot = drop->block = NULL;
    o->has_hole = true;
}

static uint32_t hole_of(const struct outbox *o)
{
    uint32_t i = 0;
    while (frame_queue_at(&o->queue, i))
        i++;
    return i;
}

/* Without control events nothing is told, and no slot is left; but its id counts. */
static void close_quietly(struct outbox *o, uint32_t at)
{
    struct outbox_untold untold = {0};
    frame_queue_remove(&o->queue, at);
    if (!o->more->drop.id)
        return;
    outbox_untold_add(&untold, o->more->drop.id);
    if (at < o->queue.ring.count)
        outbox_untold_settle(o, &untold, frame_queue_slot(&o->queue, at));
    else if (o->carries)
        o->owes_id = true;
}

void outbox_settle(struct outbox *o, const struct outbox_teller *teller)
{
    if (!o->has_hole)
        return;
    struct outbox_drop *drop = &o->more->drop;
    uint32_t at = hole_of(o);
    o->has_hole = false;
    if (teller->control != CONTROL_ON) {
        close_quietly(o, at);
        return;
    }
    drop->block = gap_dropped(teller->config, drop->id, drop->count);
    *frame_queue_slot(&o->queue, at) = event_ref(drop->block);
    o->bytes += event_frame(drop->block).len;
}

/* A run begins: the one before is told as it is. */
static void begin_run(struct outbox *o, const struct outbox_teller *teller)
{
    struct outbox_drop *drop = &outbox_more(o)->drop;
    outbox_settle(o, teller);
    event_unref(drop->block);
    *drop = (struct outbox_drop){0};
    o->has_hole = true;
}

static void count(struct outbox *o, uint64_t events, uint64_t id)
{
    struct outbox_more *more = o->more;
    more->drop.count += events;
    if (id > more->drop.id)
        more->drop.id = id;
    more->dropped += events;
    more->counts.dropped += events;
}

/* --- dropping --------------------------------------------------------------------------------- */

void outbox_drop_newest(struct outbox *o, const struct event *ev,
                        const struct outbox_teller *teller)
{
    uint32_t last = o->queue.ring.count - 1;
    assert(!o->offered);
    if (o->queue.ring.count && o->more && is_open_at(o, last)) {
        reopen(o, last);
    } else {
        begin_run(o, teller);
        frame_queue_put(&o->queue, NULL);
    }
    count(o, event_count(ev), event_id(ev));
    if (event_id(ev))
        o->told = event_id(ev);
}

bool outbox_drop_oldest(struct outbox *o, const struct outbox_teller *teller)
{
    uint32_t i = outbox_first_free(o);
    uint64_t id = 0;
    assert(!o->offered);
    while (i < o->queue.ring.count && !outbox_may_go(frame_queue_at(&o->queue, i)))
        i++;
    if (i >= o->queue.ring.count)
        return false;
    bool grows = i > 0 && o->more && is_open_at(o, i - 1);
    if (grows) {
        reopen(o, i - 1);
    } else {
        uint32_t hole = o->has_hole ? hole_of(o) : i, events = o->queue.ring.count;
        begin_run(o, teller);
        i -= hole < i && o->queue.ring.count < events;
    }
    struct event *ev = frame_queue_at(&o->queue, i);
    if (grows)
        frame_queue_remove(&o->queue, i);
    else
        *frame_queue_slot(&o->queue, i) = NULL;
    o->bytes -= event_frame(ev).len;
    outbox_untold_id(ev, &id);
    count(o, event_count(ev), id);
    event_unref(ev);
    return true;
}

/* Those that may go, and stand together, last in the queue: from the result on, before *end. */
static uint32_t find_tail(const struct outbox *o, uint32_t *end)
{
    uint32_t first = outbox_first_free(o), start;
    *end = o->queue.ring.count;
    while (*end > first && !outbox_may_go(frame_queue_at(&o->queue, *end - 1)))
        (*end)--;
    start = *end;
    while (start > first && outbox_may_go(frame_queue_at(&o->queue, start - 1)))
        start--;
    return start;
}

/* A block of their run stands behind them, or one of their slots becomes it. */
uint32_t outbox_drop_tail(struct outbox *o, const struct outbox_teller *teller)
{
    uint32_t end, start, gone;
    assert(!o->offered);
    outbox_settle(o, teller);
    start = find_tail(o, &end);
    if (start >= end)
        return 0;
    gone = (end - start + 1) / 2;
    bool grows = end < o->queue.ring.count && o->more && is_open_at(o, end);
    if (grows)
        reopen(o, end);
    else
        begin_run(o, teller);
    for (uint32_t i = end - gone; i < end; i++) {
        struct event **slot = frame_queue_slot(&o->queue, i);
        uint64_t id = 0;
        outbox_untold_id(*slot, &id);
        o->bytes -= event_frame(*slot).len;
        count(o, event_count(*slot), id);
        event_unref(*slot);
        *slot = NULL;
    }
    frame_queue_close_up(&o->queue, grows ? end : end - 1, grows ? gone : gone - 1);
    return gone;
}

uint64_t outbox_let_go(struct outbox *o, uint64_t cursor, const struct outbox_teller *teller)
{
    uint64_t from = o->waits && o->more->from < cursor ? o->more->from : cursor;
    if (o->waits) {
        struct pending *p = &o->more->pending;
        for (uint32_t i = 0; i < p->used; i++)
            if (p->items[i].event && !event_id(p->items[i].event))
                outbox_drop_newest(o, p->items[i].event, teller);
        pending_reset(p);
        o->waits = o->is_due = false;
    }
    return from > o->told ? from : o->told;
}

struct outbox_counts outbox_take_counts(struct outbox *o)
{
    struct outbox_counts counts = {0};
    if (o->more) {
        counts = o->more->counts;
        o->more->counts = (struct outbox_counts){0};
    }
    return counts;
}
