/* SPDX-License-Identifier: Apache-2.0 */
/* What is let go though it would fit, as all events of the node together take too much memory. A
 * frame that the socket has begun stays, and so do the blocks that are no events. */
#include <assert.h>

#include "relay/core/outbox_parts.h"

static uint64_t arrival_us(const struct event *ev, uint64_t unknown_us)
{
    uint64_t arrival = event_arrival_us(ev);
    return arrival ? arrival : unknown_us;
}

static uint64_t oldest_pending_us(const struct outbox *o, uint64_t unknown_us)
{
    const struct pending *p = outbox_pending(o);
    for (uint32_t i = 0; i < p->used; i++)
        if (p->items[i].event)
            return arrival_us(p->items[i].event, unknown_us);
    return UINT64_MAX;
}

uint64_t outbox_oldest_us(const struct outbox *o, uint64_t unknown_us)
{
    uint32_t i = outbox_first_free(o);
    if (o->more && o->more->kept > i)
        i = o->more->kept;
    for (; i < o->queue.ring.count; i++) {
        const struct event *ev = frame_queue_at(&o->queue, i);
        if (ev && outbox_may_go(ev))
            return arrival_us(ev, unknown_us);
    }
    return oldest_pending_us(o, unknown_us);
}

/* --- back to the log -------------------------------------------------------------------------- */

/* Who carries ids is told one by what comes first, or would forget the one that it has: so the
 * first that tells one stays. */
static uint32_t first_to_go(const struct outbox *o)
{
    uint64_t id;
    for (uint32_t i = 0; o->carries && i < o->queue.ring.count; i++)
        if (outbox_untold_id(frame_queue_at(&o->queue, i), &id))
            return i + 1;
    return outbox_first_free(o);
}

/* Behind the last block that tells an id and is no event, and the last that ends a topic, or tells
 * of that: what comes before those is below what the client will have been told, or before an end
 * that it must not come behind. */
static uint32_t retreat_start(const struct outbox *o)
{
    uint32_t first = first_to_go(o), i = o->queue.ring.count;
    uint64_t id;
    for (; i > first; i--) {
        const struct event *ev = frame_queue_at(&o->queue, i - 1);
        if (!outbox_may_go(ev) && (event_end(ev) != END_NONE || outbox_untold_id(ev, &id)))
            break;
    }
    return i;
}

struct retreat {
    uint32_t gone;
    uint64_t first_id;       /* of what is in the log; 0: nothing is */
    bool owes;               /* the first that told an id told another's */
    struct frame_queue lost; /* what is in no log: references */
};

static void take_off(struct outbox *o, struct retreat *r, struct event **slot)
{
    uint64_t id = event_id(*slot), told;
    if (!id && !r->first_id && outbox_untold_id(*slot, &told))
        r->owes = true;
    if (id && !r->first_id)
        r->first_id = event_first_id(*slot);
    o->bytes -= event_frame(*slot).len;
    if (id)
        event_unref(*slot);
    else
        frame_queue_put(&r->lost, *slot);
    *slot = NULL;
    r->gone++;
}

/* What no log has is told as dropped. */
static void tell_lost(struct outbox *o, struct retreat *r, const struct outbox_teller *teller)
{
    while (r->lost.ring.count) {
        struct event *ev = frame_queue_take(&r->lost);
        outbox_drop_newest(o, ev, teller);
        event_unref(ev);
    }
}

uint32_t outbox_retreat(struct outbox *o, uint64_t *cursor, const struct outbox_teller *teller)
{
    struct retreat r = {0};
    assert(!o->offered);
    outbox_settle(o, teller);
    for (uint32_t i = retreat_start(o); i < o->queue.ring.count; i++) {
        struct event **slot = frame_queue_slot(&o->queue, i);
        if (outbox_may_go(*slot))
            take_off(o, &r, slot);
    }
    frame_queue_close_up(&o->queue, o->queue.ring.count, r.gone);
    if (r.first_id)
        o->told = *cursor = r.first_id - 1;
    o->owes_id |= r.owes;
    tell_lost(o, &r, teller);
    r.gone += outbox_pending(o)->count;
    *cursor = outbox_let_go(o, *cursor, teller);
    outbox_more(o)->kept = o->queue.ring.count;
    return r.gone;
}

/* --- dropping --------------------------------------------------------------------------------- */

uint32_t outbox_drop_before(struct outbox *o, uint64_t before_us,
                            const struct outbox_teller *teller)
{
    uint32_t gone = 0;
    while (outbox_oldest_us(o, 0) < before_us && outbox_drop_oldest(o, teller))
        gone++;
    return gone;
}
