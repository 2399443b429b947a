/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of outbox share, for them only: outbox.c (queue, pending, bytes), outbox_drop.c
 * (what does not fit), outbox_relief.c (what fits, and is let go all the same). */
#pragma once
#include "relay/core/outbox.h"

struct outbox_more *outbox_more(struct outbox *o);

/* The first frame of which the socket has nothing yet. */
static inline uint32_t outbox_first_free(const struct outbox *o)
{
    return o->head_sent && o->queue.ring.count;
}

/* Whether it may be dropped: somebody's event, and not the one that ends a topic. NULL: no. */
static inline bool outbox_may_go(const struct event *ev)
{
    return ev && !outbox_is_own(ev) && event_end(ev) == END_NONE;
}

/* The ids that went with what was taken off the queue, until a block tells a later one. */
struct outbox_untold {
    bool any;
    uint64_t first, last;
};

/* Whether a frame tells an id, and which. */
bool outbox_untold_id(const struct event *ev, uint64_t *id);
void outbox_untold_add(struct outbox_untold *untold, uint64_t id);
/* The block in @slot stays, and comes behind those. To a client that carries them it may be the
 * first of the connection: without an id an EventSource would forget the one that it has. */
void outbox_untold_settle(struct outbox *o, struct outbox_untold *untold, struct event **slot);
/* Nothing in the queue tells the last of them. Who carries owes it; others keep the id that they
 * have, and a heartbeat tells how far they are. */
void outbox_untold_end(struct outbox *o, const struct outbox_untold *untold);
