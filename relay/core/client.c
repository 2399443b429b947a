/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/client.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/sse.h"

enum { RING_START = 8 };

static struct event *event_at(const struct client_queue *q, uint32_t i)
{
    return q->ring.cap ? q->slots[ring_at(&q->ring, i)] : q->one;
}

static struct event **slot_at(struct client_queue *q, uint32_t i)
{
    return q->ring.cap ? &q->slots[ring_at(&q->ring, i)] : &q->one;
}

static void events_grow(struct client_queue *q)
{
    struct event *one = q->ring.cap ? NULL : q->one;
    if (one)
        *q = (struct client_queue){0};
    q->slots = ring_grow(&q->ring, q->slots, sizeof(*q->slots), RING_START);
    if (one)
        q->slots[ring_push(&q->ring)] = one;
}

static void events_put(struct client_queue *q, struct event *ev)
{
    if (q->ring.count == 0 && !q->ring.cap) {
        q->one = ev;
        q->ring.count = 1;
        return;
    }
    if (q->ring.count >= q->ring.cap)
        events_grow(q);
    q->slots[ring_push(&q->ring)] = ev;
}

/* The memory goes back once it is empty: an idle client costs no queue. */
static struct event *events_take(struct client_queue *q)
{
    struct event *ev = event_at(q, 0);
    if (q->ring.count > 1) {
        ring_pop(&q->ring);
    } else {
        if (q->ring.cap)
            free(q->slots);
        *q = (struct client_queue){0};
    }
    return ev;
}

/* Takes out the @gone slots among the first @end that are NULL. */
static void events_close_up(struct client_queue *q, uint32_t end, size_t gone)
{
    uint32_t to = end;
    for (uint32_t i = end; i-- > 0;)
        if (*slot_at(q, i))
            *slot_at(q, --to) = *slot_at(q, i);
    while (gone-- > 0)
        events_take(q);
}

static void events_clear(struct client_queue *q)
{
    while (q->ring.count)
        event_unref(events_take(q));
}

void client_init(struct client *c, struct subscription *sub, const struct client_form *form)
{
    *c = (struct client){.state = CLIENT_OPENING,
                         .any_type = subscription_request(sub)->types.count == 0,
                         .chunked = form->chunked,
                         .owes_end = form->chunked || form->packer,
                         .sub = subscription_ref(sub)};
    if (!form->packer)
        return;
    c->gzip = mem_zero(1, sizeof(*c->gzip));
    c->gzip->packer = form->packer;
    c->gzip->sum = form->sum;
}

void client_reset(struct client *c)
{
    events_clear(&c->queue);
    events_clear(&c->held);
    subscription_unref(c->sub);
    free(c->gzip);
    *c = (struct client){.state = CLIENT_CLOSING};
}

void client_renew(struct client *c, struct subscription *sub)
{
    subscription_ref(sub);
    subscription_unref(c->sub);
    c->sub = sub;
}

static bool is_control(const struct event *ev)
{
    return !event_topic(ev).ptr;
}

void client_stand_at(struct client *c, uint64_t id)
{
    c->cursor = c->told = id;
    c->owes_id = c->carries = true;
}

/* Not a comment. */
static bool is_block(const struct event *ev)
{
    struct slice frame = event_frame(ev);
    return frame.len > 1 && memcmp(frame.ptr + frame.len - 2, "\n\n", 2) == 0;
}

/* The frame as it goes out to a client that owes an id; a reference. */
static struct event *settle_id(struct client *c, struct event *ev)
{
    if (!is_block(ev))
        return event_ref(ev);
    c->owes_id = false;
    return event_id(ev) ? event_ref(ev) : event_new_with_id(ev, c->told);
}

/* Apart from queue_put(), which runs for each delivery: in there it would cost that a twentieth. */
__attribute__((noinline)) static void queue_put_owing(struct client *c, struct event *ev)
{
    if (event_frame(ev).len == 0) { /* a gap that is not told: no write would take it off again */
        c->owes_id |= event_id(ev) > 0;
        return;
    }
    struct event *settled = settle_id(c, ev);
    c->queued_bytes += event_frame(settled).len;
    events_put(&c->queue, settled);
}

static void queue_put(struct client *c, struct event *ev)
{
    uint64_t id = event_id(ev);
    if (id) {
        c->cursor = id;
        c->told = id;
    }
    if (c->owes_id || event_frame(ev).len == 0) {
        queue_put_owing(c, ev);
        return;
    }
    c->queued_bytes += event_frame(ev).len;
    events_put(&c->queue, event_ref(ev));
}

void client_put_position(struct client *c)
{
    struct buf b = {0};
    sse_put_position(&b, c->cursor);
    c->owes_id = false;
    client_put_control(c, event_new_frame(c->cursor, buf_slice(&b)));
    buf_reset(&b);
}

static bool queue_fits(const struct client *c, const struct client_limits *limits, size_t bytes)
{
    /* An empty queue takes any event: one that is larger than the limit must not be stuck forever.
     */
    if (c->queue.ring.count == 0)
        return true;
    return c->queue.ring.count < limits->max_events && c->queued_bytes + bytes <= limits->max_bytes;
}

/* What is wanted is about to be queued. Here, and not there, a ttl costs nothing to events that
 * have none. */
__attribute__((noinline)) static bool is_wanted_special(struct client *c, const struct event *ev)
{
    c->has_ttl |= event_has_ttl(ev);
    return subscription_wants_event(c->sub, ev);
}

static bool is_wanted(struct client *c, const struct event *ev)
{
    if (is_control(ev))
        return true;
    if (c->any_type && event_is_plain(ev))
        return true;
    return is_wanted_special(c, ev);
}

static enum client_push hold(struct client *c, const struct client_limits *limits, struct event *ev)
{
    if (c->hold_overflow)
        return CLIENT_SKIPPED;
    size_t bytes = event_frame(ev).len;
    if (c->held.ring.count >= limits->max_events ||
        (c->held.ring.count && c->held_bytes + bytes > limits->max_bytes)) {
        /* Not a loss: these events are in the log, and it will be read again. */
        c->hold_overflow = true;
        events_clear(&c->held);
        return CLIENT_SKIPPED;
    }
    c->held_bytes += bytes;
    events_put(&c->held, event_ref(ev));
    return CLIENT_HELD;
}

enum client_push client_push(struct client *c, const struct client_limits *limits, struct event *ev)
{
    uint64_t id = event_id(ev);
    if (c->state == CLIENT_CLOSING || (id && id <= c->cursor))
        return CLIENT_SKIPPED;
    if (!is_wanted(c, ev)) {
        if (c->state == CLIENT_LIVE && id)
            c->cursor = id;
        return CLIENT_SKIPPED;
    }
    if (c->reading)
        return hold(c, limits, ev);
    if (c->state != CLIENT_LIVE && id)
        return CLIENT_SKIPPED;
    if (!queue_fits(c, limits,
                    event_frame(ev).len)) /* while it catches up, its queue is full by design */
        return c->state == CLIENT_LIVE ? CLIENT_FULL : CLIENT_DROPPED;
    queue_put(c, ev);
    return CLIENT_QUEUED;
}

enum client_push client_push_late(struct client *c, const struct client_limits *limits,
                                  struct event *ev)
{
    uint64_t cursor = c->cursor;
    if (c->state != CLIENT_LIVE || c->reading || event_id(ev) <= c->told)
        return CLIENT_SKIPPED;
    if (!queue_fits(c, limits, event_frame(ev).len))
        return CLIENT_FULL;
    c->has_ttl |= event_has_ttl(ev);
    queue_put(c, ev);
    c->cursor = cursor; /* it has not gone back */
    return CLIENT_QUEUED;
}

/* --- events that are over --------------------------------------------------------------------- */

bool client_pass_over(struct client *c, const struct event *ev)
{
    uint64_t id = event_id(ev);
    if (c->state == CLIENT_CLOSING || (id && id <= c->cursor))
        return false;
    if (c->state == CLIENT_LIVE && id)
        c->cursor = id;
    return is_wanted(c, ev);
}

/* The ids that went with what was taken off, until a block tells a later one. */
struct untold {
    bool any;
    uint64_t first, last;
};

static void untold_add(struct untold *untold, const struct event *ev)
{
    uint64_t id;
    if (!sse_frame_id(event_frame(ev), &id))
        return;
    if (!untold->any)
        untold->first = id;
    untold->last = id;
    untold->any = true;
}

/* The block in @slot stays, and comes behind those. To a client that carries them it may be the
 * first of the connection: without an id an EventSource would forget the one that it has. */
static void untold_settle(struct client *c, struct untold *untold, struct event **slot)
{
    struct event *ev = *slot;
    uint64_t ignored;
    if (sse_frame_id(event_frame(ev), &ignored)) {
        untold->any = false;
        return;
    }
    if (!c->carries || !is_block(ev))
        return;
    *slot = event_new_with_id(ev, untold->last);
    c->queued_bytes += event_frame(*slot).len - event_frame(ev).len;
    event_unref(ev);
    untold->any = false;
}

/* Nothing in the queue tells the last of them. Who carries owes it; others keep the id that they
 * have, and a heartbeat tells how far they are. */
static void untold_end(struct client *c, const struct untold *untold)
{
    if (!untold->any)
        return;
    if (c->carries)
        c->owes_id = true;
    else if (c->told >= untold->first)
        c->told = untold->first - 1;
}

static void drop_slot(struct client *c, struct event **slot)
{
    c->queued_bytes -= event_frame(*slot).len;
    event_unref(*slot);
    *slot = NULL;
}

size_t client_expire(struct client *c, const struct event_clock *now, uint32_t max)
{
    struct untold untold = {0};
    uint32_t count = c->queue.ring.count, i = c->head_sent && count, kept = 0;
    size_t gone = 0;
    bool has_ttl = false;
    for (; i < count && (kept < max || untold.any); i++) {
        struct event **slot = slot_at(&c->queue, i);
        if (event_is_over(*slot, now)) {
            untold_add(&untold, *slot);
            drop_slot(c, slot);
            gone++;
            continue;
        }
        if (untold.any)
            untold_settle(c, &untold, slot);
        has_ttl |= event_has_ttl(*slot);
        kept++;
    }
    if (i == count) {
        c->has_ttl = has_ttl;
        untold_end(c, &untold);
    }
    if (gone)
        events_close_up(&c->queue, i, gone);
    return gone;
}

/* --- what is no event ------------------------------------------------------------------------- */

void client_put_control(struct client *c, struct event *ev)
{
    queue_put(c, ev);
    event_unref(ev);
}

void client_read_begin(struct client *c)
{
    c->reading = true;
    c->hold_overflow = false;
    c->held_bytes = 0;
}

void client_room(const struct client *c, const struct client_limits *limits, uint32_t *events,
                 size_t *bytes)
{
    *events =
        c->queue.ring.count < limits->max_events ? limits->max_events - c->queue.ring.count : 1;
    *bytes = c->queued_bytes < limits->max_bytes ? limits->max_bytes - c->queued_bytes : 1;
}

/* It was wanted when it came, but its subscription may have been renewed since. */
static bool is_held_due(struct client *c, const struct event *ev)
{
    return (!event_id(ev) || event_id(ev) > c->cursor) && is_wanted(c, ev);
}

/* What was held while the last page was read follows it, if the queue can take it all. */
static bool release_held(struct client *c, const struct client_limits *limits)
{
    size_t bytes = c->queued_bytes;
    uint32_t count = c->queue.ring.count;
    for (uint32_t i = 0; i < c->held.ring.count; i++) {
        struct event *ev = event_at(&c->held, i);
        if (!is_held_due(c, ev))
            continue;
        bytes += event_frame(ev).len;
        count++;
    }
    if (count > limits->max_events || (count > 1 && bytes > limits->max_bytes))
        return false;
    while (c->held.ring.count) {
        struct event *ev = events_take(&c->held);
        if (is_held_due(c, ev))
            queue_put(c, ev);
        event_unref(ev);
    }
    return true;
}

bool client_page(struct client *c, const struct client_limits *limits, struct event *const *events,
                 size_t count, uint64_t cursor, bool final)
{
    c->reading = false;
    for (size_t i = 0; i < count; i++) {
        struct event *ev = events[i];
        if ((event_id(ev) && event_id(ev) <= c->cursor) || !is_wanted(c, ev))
            continue;
        queue_put(c, ev);
        if (!is_control(ev))
            c->replayed++;
    }
    if (cursor > c->cursor)
        c->cursor = cursor;
    if (final && !c->hold_overflow && release_held(c, limits)) {
        c->state = CLIENT_LIVE;
        return true;
    }
    events_clear(&c->held);
    c->state = CLIENT_REPLAY;
    return false;
}

/* The bytes of a queued event on this stream; SLICE_NONE: another thread is making them. */
static struct slice wire_frame(const struct client *c, uint32_t i)
{
    struct event *ev = event_at(&c->queue, i);
    if (!c->gzip)
        return c->chunked ? event_chunk(ev) : event_frame(ev);
    const struct gzip_block *block = event_block(ev, c->gzip->packer);
    if (!block)
        return SLICE_NONE;
    return c->chunked ? gzip_block_chunk(block) : gzip_block_bytes(block);
}

/* What tells the client that its stream is whole. */
static struct slice wire_end(const struct client *c)
{
    if (!c->gzip)
        return SLICE_LIT(CHUNK_LAST);
    char *bytes = c->gzip->end + CHUNK_HEAD_MAX; /* always the same: it may go in pieces */
    gzip_end(bytes, &c->gzip->sum);
    if (!c->chunked)
        return (struct slice){bytes, GZIP_END_BYTES};
    memcpy(bytes + GZIP_END_BYTES, CHUNK_END CHUNK_LAST, CHUNK_END_BYTES + CHUNK_LAST_BYTES);
    size_t head = chunk_put_head(bytes, GZIP_END_BYTES);
    return (struct slice){bytes - head, head + GZIP_END_BYTES + CHUNK_END_BYTES + CHUNK_LAST_BYTES};
}

/* sendmsg() reads only; struct iovec just has no const form. */
static struct iovec iovec_of(struct slice bytes, size_t skip)
{
    return (struct iovec){(void *)(uintptr_t)(bytes.ptr + skip), bytes.len - skip};
}

int client_frames(const struct client *c, struct iovec *iov, int max_frames, size_t max_bytes)
{
    int n = 0;
    size_t bytes = 0;
    size_t skip = c->head_sent;
    if (c->queue.ring.count == 0 && client_has_output(c)) {
        iov[0] = iovec_of(wire_end(c), skip);
        return 1;
    }
    for (uint32_t i = 0; i < c->queue.ring.count && n < max_frames && bytes < max_bytes; i++) {
        struct slice frame = wire_frame(c, i);
        if (!frame.ptr)
            break;
        iov[n] = iovec_of(frame, skip);
        /* Plain bytes where it is compressed: deflating takes its time, too. */
        bytes += c->gzip ? event_frame(event_at(&c->queue, i)).len : iov[n].iov_len;
        skip = 0;
        n++;
    }
    return n;
}

size_t client_sent(struct client *c, size_t bytes)
{
    size_t events = 0;
    while (bytes > 0 && c->queue.ring.count) {
        struct event *ev = event_at(&c->queue, 0);
        size_t left = wire_frame(c, 0).len - c->head_sent;
        if (bytes < left) {
            c->head_sent += (uint32_t)bytes;
            return events;
        }
        bytes -= left;
        c->head_sent = 0;
        if (c->gzip)
            gzip_sum_add(&c->gzip->sum, event_block(ev, c->gzip->packer));
        c->queued_bytes -= event_frame(ev).len;
        events += !is_control(ev);
        event_unref(events_take(&c->queue));
    }
    if (bytes > 0) { /* of the end */
        c->head_sent += (uint32_t)bytes;
        c->owes_end = c->head_sent < wire_end(c).len;
    }
    return events;
}

size_t client_close(struct client *c, bool keep_queue)
{
    c->state = CLIENT_CLOSING;
    c->reading = false;
    events_clear(&c->held);
    if (keep_queue)
        return 0;
    size_t dropped = 0;
    struct event *begun = c->head_sent ? events_take(&c->queue) : NULL;
    while (c->queue.ring.count) {
        struct event *ev = events_take(&c->queue);
        dropped += !is_control(ev);
        event_unref(ev);
    }
    c->queued_bytes = 0;
    if (begun) {
        events_put(&c->queue, begun);
        c->queued_bytes = event_frame(begun).len;
    }
    return dropped;
}
