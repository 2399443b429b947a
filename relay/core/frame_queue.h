/* SPDX-License-Identifier: Apache-2.0 */
/* Counted events in the order in which they leave; owns no memory while it holds one or none. A
 * slot may be NULL for whoever keeps track of it. No bound of its own. One thread. */
#pragma once
#include "common/event.h"
#include "common/ring.h"

struct frame_queue {
    union {
        struct event **slots;
        struct event *one; /* ring.cap is 0 */
    };
    struct ring ring;
};

static inline struct event *frame_queue_at(const struct frame_queue *q, uint32_t i)
{
    return q->ring.cap ? q->slots[ring_at(&q->ring, i)] : q->one;
}

static inline struct event **frame_queue_slot(struct frame_queue *q, uint32_t i)
{
    return q->ring.cap ? &q->slots[ring_at(&q->ring, i)] : &q->one;
}

void frame_queue_grow(struct frame_queue *q);

/* Takes the reference over. */
static inline void frame_queue_put(struct frame_queue *q, struct event *ev)
{
    if (q->ring.count == 0 && !q->ring.cap) {
        q->one = ev;
        q->ring.count = 1;
        return;
    }
    if (q->ring.count >= q->ring.cap)
        frame_queue_grow(q);
    q->slots[ring_push(&q->ring)] = ev;
}

/* The first, and its reference. The memory goes back once it is empty: an idle client costs no
 * queue. */
struct event *frame_queue_take(struct frame_queue *q);
/* The same of the last. */
struct event *frame_queue_take_last(struct frame_queue *q);
/* Takes out slot @i, whose event is the caller's. Cheap near the front. */
void frame_queue_remove(struct frame_queue *q, uint32_t i);
/* Takes out the @gone slots among the first @end that are NULL. */
void frame_queue_close_up(struct frame_queue *q, uint32_t end, size_t gone);
void frame_queue_clear(struct frame_queue *q);
