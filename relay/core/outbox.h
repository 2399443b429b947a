/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for one connection: pending (accepted, not yet committed) and the queue (committed,
 * first in, first out), what is dropped of it, and the bytes that its socket gets. No I/O: the
 * worker moves the bytes. One thread.
 *
 * The id rule: nothing overtakes. Committing moves all that is pending, in order of ids, each event
 * with its own; so what leaves early takes along what waits. docs/architecture.md, "Lanes". */
#pragma once
#include <sys/uio.h>

#include "relay/config/config.h"
#include "relay/core/frame_queue.h"
#include "relay/core/pending.h"
#include "relay/kit/metrics.h"

/* How a stream's frames travel. */
struct outbox_form {
    bool chunked;   /* each is an HTTP chunk: else the body ends with the connection */
    uint8_t format; /* enum event_format */
    /* Packed by this one; NULL: plain. The worker's. */
    struct gzip *packer;
    struct gzip_sum sum; /* of what was sent before; with a packer */
};

/* The end of a gzip stream as a chunk, and the last chunk. */
enum { OUTBOX_END_MAX = CHUNK_HEAD_MAX + GZIP_END_BYTES + CHUNK_END_BYTES + CHUNK_LAST_BYTES };

/* Of a stream that is sent compressed. */
struct outbox_gzip {
    struct gzip *packer; /* the worker's */
    struct gzip_sum sum; /* of what the socket has */
    char end[OUTBOX_END_MAX];
};

struct outbox_limits {
    uint32_t max_events;
    size_t max_bytes;
};

/* How it is told that events were dropped. */
struct outbox_teller {
    const struct config *config;
    enum config_control control;
};

/* What happened to events since outbox_take_counts(). */
struct outbox_counts {
    uint64_t dropped, merged, joined, expired;
};

/* The latest run of events that were dropped. Its block stands in the queue where they would: an
 * empty slot until the next write, as most of them grow. */
struct outbox_drop {
    struct event *block; /* a reference; NULL: its slot is empty, or there is none */
    uint64_t id;         /* the highest that went; 0: none had one */
    uint64_t count;
};

/* Of streams that need it. */
struct outbox_more {
    struct pending pending;
    uint64_t from; /* what had been committed, or passed over, when the first of them came */
    struct outbox_drop drop;
    uint64_t dropped; /* in all */
    uint32_t kept;    /* frames at the queue's front that outbox_retreat() cannot take */
    struct outbox_counts counts;
};

struct outbox {
    /* What each delivery touches comes first. */
    uint32_t head_sent; /* bytes, as sent, of the first queued frame, or of the end, that the
                           socket has */
    bool chunked : 1;
    bool ends : 1;     /* nothing is added any more */
    bool owes_end : 1; /* its end is more than the connection's, and the socket has not all of it */
    bool owes_id : 1;  /* it stands at `told`, but has not been sent that id */
    bool carries : 1;  /* no block of our own tells its id: outbox_stand_at() */
    bool has_ttl : 1;  /* an event in its queue may have one: outbox_expire() */
    bool has_hole : 1; /* the block of the latest drop is still to be made: outbox_settle() */
    bool waits : 1;    /* something is pending */
    bool is_due : 1;   /* … and to be committed as soon as the queue is empty */
    unsigned format : 2; /* outbox_form.format */
    bool is_plain : 1;   /* it is sent events as they are */
    bool offered;        /* a write is being made: nothing is taken off meanwhile */
    uint64_t told;       /* the highest id that the client has been sent, or will from the queue */
    struct frame_queue queue;
    size_t bytes;             /* queued; plain, also where the stream is sent others */
    struct outbox_gzip *gzip; /* NULL: the stream is plain */

    struct outbox_more *more; /* NULL: nothing was ever pending or dropped */
};

void outbox_init(struct outbox *o, const struct outbox_form *form);
void outbox_reset(struct outbox *o);

/* A control event, a heartbeat, a position: not somebody's event. */
static inline bool outbox_is_own(const struct event *ev)
{
    return !event_topic(ev).ptr;
}

/* --- the queue -------------------------------------------------------------------------------- */

/* outbox_put() to a client that owes an id, or of a frame without bytes. */
void outbox_put_owing(struct outbox *o, struct event *ev);

/* Queues it, whatever the limits (takes a reference). An empty frame with an id:
 * outbox_stand_at(). */
static inline void outbox_put(struct outbox *o, struct event *ev)
{
    uint64_t id = event_id(ev);
    if (id)
        o->told = id;
    if (o->owes_id || event_frame(ev).len == 0) {
        outbox_put_owing(o, ev);
        return;
    }
    o->bytes += event_frame(ev).len;
    frame_queue_put(&o->queue, event_ref(ev));
}

/* The client is complete up to @id, and is not sent it now: the next block that has no id of its
 * own carries it, so that the client keeps it (an EventSource forgets its last id at the first
 * blank line that no id came before). */
void outbox_stand_at(struct outbox *o, uint64_t id);
/* Queues a block that does nothing but tell an id. */
void outbox_put_position(struct outbox *o, uint64_t id);
/* Takes what is over off the queue, from the front on, until @max frames are left there that are
 * not; never the frame that the socket has begun. Returns how many; they are counted. Settled
 * before. Nothing to do where has_ttl is not set. */
size_t outbox_expire(struct outbox *o, const struct event_clock *now, uint32_t max);

/* --- what is pending -------------------------------------------------------------------------- */

static inline const struct pending *outbox_pending(const struct outbox *o)
{
    static const struct pending none;
    return o->more ? &o->more->pending : &none;
}

/* Events and bytes, pending and queued. */
static inline uint32_t outbox_events(const struct outbox *o)
{
    return o->queue.ring.count + (o->waits ? o->more->pending.count : 0);
}

static inline size_t outbox_bytes(const struct outbox *o)
{
    return o->bytes + (o->waits ? o->more->pending.bytes : 0);
}

/* An empty outbox takes any event: one that is larger than the limit must not be stuck for ever. */
static inline bool outbox_fits(const struct outbox *o, const struct outbox_limits *limits,
                               size_t bytes)
{
    if (o->queue.ring.count == 0 && !o->waits)
        return true;
    return outbox_events(o) < limits->max_events && outbox_bytes(o) + bytes <= limits->max_bytes;
}

/* It waits for outbox_commit() (a reference is taken). @cursor: what was complete before it. */
void outbox_wait(struct outbox *o, struct event *ev, uint64_t cursor);
/* The same of one that came after later ones. It goes where a newer version of it waits already. */
void outbox_wait_late(struct outbox *o, struct event *ev);
/* What waits of a coalesced event is older than @ev, and goes. */
void outbox_supersede(struct outbox *o, const struct event *ev);
/* The same for one that is over, and does not wait here itself. */
void outbox_pass_over(struct outbox *o, const struct event *ev);
/* Drops what is over of what is pending. Returns how many; they are counted. Nothing to do where
 * outbox_pending()->has_ttl is not set. */
size_t outbox_expire_pending(struct outbox *o, const struct event_clock *now);
/* Moves what is pending to the queue. */
void outbox_commit(struct outbox *o);
/* Drops what is pending, which is in the log; what has no id is told as dropped. Returns the id
 * behind which the log has it. @cursor: what has been accepted. */
uint64_t outbox_let_go(struct outbox *o, uint64_t cursor, const struct outbox_teller *teller);
/* The id up to which the client is complete with what is queued. @cursor: with what is pending. */
uint64_t outbox_position(const struct outbox *o, uint64_t cursor);

/* --- what is dropped -------------------------------------------------------------------------- */

/* @ev does not go in: told at the end of the queue. */
void outbox_drop_newest(struct outbox *o, const struct event *ev,
                        const struct outbox_teller *teller);
/* The first queued event goes that may, and is told where it stood. False: there is none. */
bool outbox_drop_oldest(struct outbox *o, const struct outbox_teller *teller);
/* The same of all that came before @before_us. Nothing is pending. Returns how many. */
uint32_t outbox_drop_before(struct outbox *o, uint64_t before_us,
                            const struct outbox_teller *teller);
/* The later half of what stands last in the queue goes, one at least, if there is something that
 * may. Returns how many. */
uint32_t outbox_drop_tail(struct outbox *o, const struct outbox_teller *teller);
/* Makes the block of the latest drop, where that is still to be done. */
void outbox_settle(struct outbox *o, const struct outbox_teller *teller);
/* What it did since the last time. */
struct outbox_counts outbox_take_counts(struct outbox *o);

/* --- what is let go as the node has too much ----------------------------------------------------
 */

/* When the first came that could be let go and was not found to stay, by the monotonic clock:
 * @unknown_us where it was read from the log, UINT64_MAX where there is none. */
uint64_t outbox_oldest_us(const struct outbox *o, uint64_t unknown_us);
/* Its socket takes something again. */
static inline void outbox_moves(struct outbox *o)
{
    if (o->more)
        o->more->kept = 0;
}

/* Lets go of what the log has, pending or queued; what has no id is told as dropped. *cursor: what
 * has been accepted; it goes back to where the log is to be read from. Returns how many went. */
uint32_t outbox_retreat(struct outbox *o, uint64_t *cursor, const struct outbox_teller *teller);

/* --- bytes ------------------------------------------------------------------------------------ */

static inline bool outbox_has_output(const struct outbox *o)
{
    return o->queue.ring.count > 0 || (o->owes_end && o->ends);
}

/* Describes up to @max_frames frames and about @max_bytes (plain) bytes from the queue's front.
 * Returns the number of entries. 0 though there is output: another thread is just compressing the
 * first frame; try again in the next loop turn. Settled before; from here to outbox_sent(), or
 * outbox_not_offered(), nothing may be taken off. */
int outbox_frames(struct outbox *o, struct iovec *iov, int max_frames, size_t max_bytes);
/* It took none. */
static inline void outbox_not_offered(struct outbox *o)
{
    o->offered = false;
}

/* The socket took @bytes of them. Returns how many events (not control frames) were completed. */
size_t outbox_sent(struct outbox *o, size_t bytes);
/* The same, and the events are counted there by their types. */
size_t outbox_sent_by_type(struct outbox *o, size_t bytes, struct metrics *metrics);
/* Nothing is added any more. With @keep what is queued or pending will still be sent; otherwise
 * only the frame the socket has begun, and the end. Returns the number of events dropped. */
size_t outbox_close(struct outbox *o, bool keep);
