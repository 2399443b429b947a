/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/outbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/sse.h"
#include "relay/core/outbox_parts.h"

void outbox_init(struct outbox *o, const struct outbox_form *form)
{
    *o = (struct outbox){.chunked = form->chunked,
                         .format = form->format & 3U,
                         .is_plain = !form->format && !form->packer,
                         .owes_end = form->chunked || form->packer};
    if (!form->packer)
        return;
    o->gzip = mem_zero(1, sizeof(*o->gzip));
    o->gzip->packer = form->packer;
    o->gzip->sum = form->sum;
}

void outbox_reset(struct outbox *o)
{
    frame_queue_clear(&o->queue);
    if (o->more) {
        pending_reset(&o->more->pending);
        event_unref(o->more->drop.block);
        free(o->more);
    }
    free(o->gzip);
    *o = (struct outbox){.ends = true};
}

/* --- the queue -------------------------------------------------------------------------------- */

void outbox_stand_at(struct outbox *o, uint64_t id)
{
    o->told = id;
    o->owes_id = o->carries = true;
}

/* Not a comment. */
static bool is_block(const struct event *ev)
{
    struct slice frame = event_frame(ev);
    return frame.len > 1 && memcmp(frame.ptr + frame.len - 2, "\n\n", 2) == 0;
}

/* The frame as it goes out to a client that owes an id; a reference. */
static struct event *settle_id(struct outbox *o, struct event *ev)
{
    if (!is_block(ev))
        return event_ref(ev);
    o->owes_id = false;
    return event_id(ev) ? event_ref(ev) : event_new_with_id(ev, o->told);
}

/* Apart from outbox_put(), which runs for each delivery: in there it would cost that a twentieth.
 */
__attribute__((noinline)) void outbox_put_owing(struct outbox *o, struct event *ev)
{
    if (event_frame(ev).len == 0) { /* a gap that is not told: no write would take it off again */
        o->owes_id |= event_id(ev) > 0;
        return;
    }
    struct event *settled = settle_id(o, ev);
    o->bytes += event_frame(settled).len;
    frame_queue_put(&o->queue, settled);
}

void outbox_put_position(struct outbox *o, uint64_t id)
{
    struct buf b = {0};
    sse_put_position(&b, id);
    o->owes_id = false;
    struct event *ev = event_new_frame(id, buf_slice(&b));
    outbox_put(o, ev);
    event_unref(ev);
    buf_reset(&b);
}

/* --- events that are over --------------------------------------------------------------------- */

/* The id that goes with a frame which is taken off. */
bool outbox_untold_id(const struct event *ev, uint64_t *id)
{
    return sse_frame_id(event_frame(ev), id);
}

void outbox_untold_add(struct outbox_untold *untold, uint64_t id)
{
    if (!untold->any)
        untold->first = id;
    untold->last = id;
    untold->any = true;
}

void outbox_untold_settle(struct outbox *o, struct outbox_untold *untold, struct event **slot)
{
    struct event *ev = *slot;
    uint64_t ignored;
    if (outbox_untold_id(ev, &ignored)) {
        untold->any = false;
        return;
    }
    if (!o->carries || !is_block(ev))
        return;
    *slot = event_new_with_id(ev, untold->last);
    o->bytes += event_frame(*slot).len - event_frame(ev).len;
    event_unref(ev);
    untold->any = false;
}

void outbox_untold_end(struct outbox *o, const struct outbox_untold *untold)
{
    if (!untold->any)
        return;
    if (o->carries)
        o->owes_id = true;
    else if (o->told >= untold->first)
        o->told = untold->first - 1;
}

static void drop_slot(struct outbox *o, struct outbox_untold *untold, struct event **slot)
{
    uint64_t id;
    if (outbox_untold_id(*slot, &id))
        outbox_untold_add(untold, id);
    o->bytes -= event_frame(*slot).len;
    event_unref(*slot);
    *slot = NULL;
}

size_t outbox_expire(struct outbox *o, const struct event_clock *now, uint32_t max)
{
    struct outbox_untold untold = {0};
    uint32_t count = o->queue.ring.count, i = outbox_first_free(o), kept = 0;
    size_t gone = 0;
    bool has_ttl = false;
    assert(!o->offered && !o->has_hole);
    for (; i < count && (kept < max || untold.any); i++) {
        struct event **slot = frame_queue_slot(&o->queue, i);
        if (event_is_over(*slot, now)) {
            drop_slot(o, &untold, slot);
            gone++;
            continue;
        }
        if (untold.any)
            outbox_untold_settle(o, &untold, slot);
        has_ttl |= event_has_ttl(*slot);
        kept++;
    }
    if (i == count) {
        o->has_ttl = has_ttl;
        outbox_untold_end(o, &untold);
    }
    if (gone) {
        outbox_more(o)->counts.expired += gone;
        frame_queue_close_up(&o->queue, i, gone);
    }
    return gone;
}

/* --- what is pending -------------------------------------------------------------------------- */

struct outbox_more *outbox_more(struct outbox *o)
{
    if (!o->more)
        o->more = mem_zero(1, sizeof(*o->more));
    return o->more;
}

void outbox_supersede(struct outbox *o, const struct event *ev)
{
    if (!o->waits || event_lane(ev) != LANE_COALESCED)
        return;
    struct outbox_more *more = o->more;
    more->counts.merged += pending_supersede(&more->pending, ev) == PENDING_REPLACED;
    o->waits = more->pending.count > 0;
}

/* Nothing may wait any more: then nothing is due, and it needs no memory. */
static void settle_pending(struct outbox *o)
{
    if (o->more->pending.count)
        return;
    pending_reset(&o->more->pending);
    o->waits = o->is_due = false;
}

void outbox_pass_over(struct outbox *o, const struct event *ev)
{
    if (!o->waits)
        return;
    outbox_supersede(o, ev);
    settle_pending(o);
}

size_t outbox_expire_pending(struct outbox *o, const struct event_clock *now)
{
    if (!o->waits)
        return 0;
    size_t gone = pending_expire(&o->more->pending, now);
    o->more->counts.expired += gone;
    settle_pending(o);
    return gone;
}

void outbox_wait(struct outbox *o, struct event *ev, uint64_t cursor)
{
    struct outbox_more *more = outbox_more(o);
    if (!o->waits)
        more->from = cursor;
    pending_put(&more->pending, ev);
    o->waits = true;
}

void outbox_wait_late(struct outbox *o, struct event *ev)
{
    struct outbox_more *more = outbox_more(o);
    if (event_lane(ev) == LANE_COALESCED) {
        enum pending_found found = pending_supersede(&more->pending, ev);
        more->counts.merged += found != PENDING_NONE;
        if (found == PENDING_NEWER)
            return;
    }
    /* Should all of it be let go, the log is read from before this one. */
    if (event_id(ev) <= more->from)
        more->from = event_id(ev) - 1;
    pending_insert(&more->pending, ev);
    o->waits = true;
}

static bool joins(const struct event *ev, const struct event *next)
{
    return event_lane(ev) == LANE_APPENDED && event_has_slot_of(next, ev) &&
           event_end(ev) == END_NONE && event_end(next) == END_NONE &&
           slice_eq(event_type(ev), event_type(next)) && !event_has_ttl(ev) && !event_has_ttl(next);
}

/* Puts the first of @events, with what joins it. Returns how many. */
static size_t put_run(struct outbox *o, struct event *const *events, size_t count)
{
    size_t run = 1;
    o->has_ttl |= event_has_ttl(events[0]); /* outbox_expire() has looked only at the queue */
    while (run < count && joins(events[0], events[run]))
        run++;
    if (run == 1) {
        outbox_put(o, events[0]);
        return 1;
    }
    struct event *joined = event_join(events, run);
    outbox_put(o, joined);
    event_unref(joined);
    o->more->counts.joined += run - 1;
    return run;
}

void outbox_commit(struct outbox *o)
{
    o->is_due = false;
    if (!o->waits)
        return;
    struct pending *p = &o->more->pending;
    struct event **events = mem_alloc(p->count * sizeof(struct event *));
    size_t count = 0;
    for (uint32_t i = 0; i < p->used; i++)
        if (p->items[i].event)
            events[count++] = p->items[i].event;
    for (size_t i = 0; i < count;)
        i += put_run(o, events + i, count - i);
    free(events);
    pending_reset(p);
    o->waits = false;
}

uint64_t outbox_position(const struct outbox *o, uint64_t cursor)
{
    uint64_t first = o->waits ? pending_first_id(&o->more->pending) : 0;
    return first ? first - 1 : cursor;
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* NULL: another thread is making it. */
static const struct gzip_block *wire_block(const struct outbox *o, struct event *ev)
{
    struct event_form *form = event_form(ev, o->format);
    return form ? event_form_block(ev, form, o->gzip->packer) : NULL;
}

/* Of a stream that is not sent what most are: apart from wire_frame(), which runs for each
 * delivery.
 */
__attribute__((noinline)) static struct slice wire_frame_special(const struct outbox *o,
                                                                 struct event *ev)
{
    if (!o->gzip) {
        const struct event_form *form = event_form(ev, o->format);
        if (!form)
            return SLICE_NONE;
        return o->chunked ? event_form_chunk(form) : event_form_frame(form);
    }
    const struct gzip_block *block = wire_block(o, ev);
    if (!block)
        return SLICE_NONE;
    return o->chunked ? gzip_block_chunk(block) : gzip_block_bytes(block);
}

/* The bytes of a queued event on this stream; SLICE_NONE: another thread is making them. */
static struct slice wire_frame(const struct outbox *o, uint32_t i)
{
    struct event *ev = frame_queue_at(&o->queue, i);
    if (o->is_plain)
        return o->chunked ? event_chunk(ev) : event_frame(ev);
    return wire_frame_special(o, ev);
}

/* What tells the client that its stream is whole. */
static struct slice wire_end(const struct outbox *o)
{
    if (!o->gzip)
        return SLICE_LIT(CHUNK_LAST);
    char *bytes = o->gzip->end + CHUNK_HEAD_MAX; /* always the same: it may go in pieces */
    gzip_end(bytes, &o->gzip->sum);
    if (!o->chunked)
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

int outbox_frames(struct outbox *o, struct iovec *iov, int max_frames, size_t max_bytes)
{
    int n = 0;
    size_t bytes = 0;
    size_t skip = o->head_sent;
    assert(!o->has_hole);
    if (o->queue.ring.count == 0 && outbox_has_output(o)) {
        iov[0] = iovec_of(wire_end(o), skip);
        n = 1;
    }
    for (uint32_t i = 0; i < o->queue.ring.count && n < max_frames && bytes < max_bytes; i++) {
        struct slice frame = wire_frame(o, i);
        if (!frame.ptr)
            break;
        iov[n] = iovec_of(frame, skip);
        /* Plain bytes where it is compressed: deflating takes its time, too. */
        bytes += o->gzip ? event_frame(frame_queue_at(&o->queue, i)).len : iov[n].iov_len;
        skip = 0;
        n++;
    }
    o->offered = n > 0;
    return n;
}

/* Of one that the socket has whole. */
static void count_type(const struct event *ev, struct metrics *metrics)
{
    if (event_count(ev))
        metrics_add_type(metrics, event_type_slot(ev), event_count(ev));
}

/* Compiled for each of the two below: mostly nothing is counted by type. */
static inline size_t sent(struct outbox *o, size_t bytes, struct metrics *metrics)
{
    size_t events = 0;
    o->offered = false;
    while (bytes > 0 && o->queue.ring.count) {
        struct event *ev = frame_queue_at(&o->queue, 0);
        size_t left = wire_frame(o, 0).len - o->head_sent;
        if (bytes < left) {
            o->head_sent += (uint32_t)bytes;
            return events;
        }
        bytes -= left;
        o->head_sent = 0;
        if (o->gzip)
            gzip_sum_add(&o->gzip->sum, wire_block(o, ev));
        o->bytes -= event_frame(ev).len;
        events += event_count(ev);
        if (metrics)
            count_type(ev, metrics);
        event_unref(frame_queue_take(&o->queue));
    }
    if (bytes > 0) { /* of the end */
        o->head_sent += (uint32_t)bytes;
        o->owes_end = o->head_sent < wire_end(o).len;
    }
    return events;
}

size_t outbox_sent(struct outbox *o, size_t bytes)
{
    return sent(o, bytes, NULL);
}

size_t outbox_sent_by_type(struct outbox *o, size_t bytes, struct metrics *metrics)
{
    return sent(o, bytes, metrics);
}

size_t outbox_close(struct outbox *o, bool keep)
{
    assert(!o->offered);
    o->ends = true;
    if (keep) {
        outbox_commit(o);
        return 0;
    }
    size_t dropped = 0;
    if (o->waits) {
        dropped = o->more->pending.count;
        pending_reset(&o->more->pending);
    }
    o->waits = o->is_due = o->has_hole = false;
    struct event *begun = o->head_sent ? frame_queue_take(&o->queue) : NULL;
    while (o->queue.ring.count) {
        struct event *ev = frame_queue_take(&o->queue);
        dropped += ev ? event_count(ev) : 0;
        event_unref(ev);
    }
    o->bytes = 0;
    if (begun) {
        frame_queue_put(&o->queue, begun);
        o->bytes = event_frame(begun).len;
    }
    return dropped;
}
