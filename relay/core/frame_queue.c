/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/frame_queue.h"

#include <stdlib.h>

enum { RING_START = 8 };

void frame_queue_grow(struct frame_queue *q)
{
    struct event *one = q->ring.cap ? NULL : q->one;
    bool had_one = !q->ring.cap && q->ring.count;
    if (had_one)
        *q = (struct frame_queue){0};
    q->slots = ring_grow(&q->ring, q->slots, sizeof(struct event *), RING_START);
    if (had_one)
        q->slots[ring_push(&q->ring)] = one;
}

static void let_memory_go(struct frame_queue *q)
{
    if (q->ring.cap)
        free(q->slots);
    *q = (struct frame_queue){0};
}

struct event *frame_queue_take(struct frame_queue *q)
{
    struct event *ev = frame_queue_at(q, 0);
    if (q->ring.count > 1)
        ring_pop(&q->ring);
    else
        let_memory_go(q);
    return ev;
}

struct event *frame_queue_take_last(struct frame_queue *q)
{
    struct event *ev = frame_queue_at(q, q->ring.count - 1);
    if (q->ring.count > 1)
        q->ring.count--;
    else
        let_memory_go(q);
    return ev;
}

void frame_queue_remove(struct frame_queue *q, uint32_t i)
{
    for (; i > 0; i--)
        *frame_queue_slot(q, i) = frame_queue_at(q, i - 1);
    frame_queue_take(q);
}

void frame_queue_close_up(struct frame_queue *q, uint32_t end, size_t gone)
{
    uint32_t to = end;
    for (uint32_t i = end; i-- > 0;)
        if (frame_queue_at(q, i))
            *frame_queue_slot(q, --to) = frame_queue_at(q, i);
    while (gone-- > 0)
        frame_queue_take(q);
}

void frame_queue_clear(struct frame_queue *q)
{
    while (q->ring.count)
        event_unref(frame_queue_take(q));
}
