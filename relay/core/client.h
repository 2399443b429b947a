/* SPDX-License-Identifier: Apache-2.0 */
/* One stream's state and its bounded queue of frames. No I/O: the worker moves the bytes. One
 * thread.
 *
 *     OPENING ──page──▶ REPLAY ──final page──▶ LIVE ──▶ CLOSING
 *
 * While a read of the log is under way, live events are held beside the queue (bounded like it).
 * When the page that meets the live tail arrives, what is held and newer than the page follows it:
 * that is the hand-over without a hole. When the hold overflowed, nothing is lost but time: the log
 * is read once more. docs/architecture.md, "The hand-over from log to live". */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/event.h"
#include "common/ring.h"
#include "relay/core/subscription.h"

enum client_state { CLIENT_OPENING, CLIENT_REPLAY, CLIENT_LIVE, CLIENT_CLOSING };

struct client_limits {
    uint32_t max_events;
    size_t max_bytes;
};

/* Counted events in their order; owns no memory while it holds one or none. */
struct client_queue {
    union {
        struct event **slots;
        struct event *one; /* ring.cap is 0 */
    };
    struct ring ring;
};

/* The end of a gzip stream as a chunk, and the last chunk. */
enum { CLIENT_END_MAX = CHUNK_HEAD_MAX + GZIP_END_BYTES + CHUNK_END_BYTES + CHUNK_LAST_BYTES };

/* Of a stream that is sent compressed. */
struct client_gzip {
    struct gzip *packer; /* the worker's */
    struct gzip_sum sum; /* of what the socket has */
    char end[CLIENT_END_MAX];
};

/* How a stream's frames travel. */
struct client_form {
    bool chunked; /* each is an HTTP chunk: else the body ends with the connection */
    /* Packed by this one; NULL: plain. The worker's. */
    struct gzip *packer;
    struct gzip_sum sum; /* of what was sent before; with a packer */
};

/* Embedded in the worker's stream for the cache's sake. Read it freely, change it through the
 * functions below. */
struct client {
    /* What each delivery touches comes first: 64 bytes. */
    enum client_state state : 8;
    bool reading;           /* a read of the log is under way: live events are held */
    bool any_type;          /* it filters no types */
    bool hold_overflow : 1; /* more came than could be held: read again */
    bool chunked : 1;
    bool owes_end : 1; /* its end is more than the connection's, and the socket has not all of it */
    bool owes_id : 1;  /* it stands at `told`, but has not been sent that id */
    bool carries : 1;  /* no block of our own tells its id: client_stand_at() */
    bool has_ttl : 1;  /* an event in its queue may have one: client_expire() */
    uint32_t head_sent; /* bytes, as sent, of the first queued frame, or of the end, that the
                           socket has */
    uint64_t cursor;    /* everything wanted up to this id has been queued */
    uint64_t told;      /* the highest id that the client has been sent, or will from the queue */
    struct client_queue queue;
    size_t queued_bytes;      /* plain, also where the stream is compressed */
    struct client_gzip *gzip; /* NULL: the stream is plain */

    struct client_queue held;
    size_t held_bytes;
    uint64_t replayed; /* events that came from the log */
    struct subscription *sub;
};

enum client_push { CLIENT_QUEUED, CLIENT_HELD, CLIENT_SKIPPED, CLIENT_DROPPED, CLIENT_FULL };

/* Takes a reference to @sub. When it is closing and the queue is empty, the end of the gzip stream
 * and the last chunk are what is left to send. */
void client_init(struct client *c, struct subscription *sub, const struct client_form *form);
void client_reset(struct client *c);
/* Another subscription from now on (takes a reference), to the same topics and types: its grant was
 * renewed. A read under way goes on for the old one, and its page is filtered by the new. */
void client_renew(struct client *c, struct subscription *sub);

/* Offers a live event. QUEUED: it will be sent (a reference is taken). HELD: a read is under way.
 * SKIPPED: not for this client, or it has it already, or the log will bring it. FULL: over the
 * limit and not queued; the caller decides. */
enum client_push client_push(struct client *c, const struct client_limits *limits,
                             struct event *ev);

/* Offers an event that turned up after later ones, to a live client. QUEUED: it had none of those
 * yet, so order is kept. SKIPPED: it cannot have it any more. */
enum client_push client_push_late(struct client *c, const struct client_limits *limits,
                                  struct event *ev);

/* What becomes of a live event that is over: whoever it is for is complete without it. True: that
 * is this client. */
bool client_pass_over(struct client *c, const struct event *ev);
/* Takes what is over off the queue, from the front on, until @max frames are left there that are
 * not; never the frame that the socket has begun. Returns how many. Nothing to do where has_ttl is
 * not set. */
size_t client_expire(struct client *c, const struct event_clock *now, uint32_t max);

/* Queues a frame of our own (control event, heartbeat) whatever the limits; callers send few. Takes
 * over the reference. An empty frame with an id: client_stand_at(). */
void client_put_control(struct client *c, struct event *ev);
/* The client is complete up to @id, and is not sent it now: the next block that has no id of its
 * own carries it, so that the client keeps it (an EventSource forgets its last id at the first
 * blank line that no id came before). */
void client_stand_at(struct client *c, uint64_t id);
/* Queues a block that does nothing but tell the id up to which the client is complete. */
void client_put_position(struct client *c);

/* A read of the log starts: hold what comes from now on. Not while one is under way. */
void client_read_begin(struct client *c);
/* How much the next read may bring, so that the queue stays within its limits. */
void client_room(const struct client *c, const struct client_limits *limits, uint32_t *events,
                 size_t *bytes);
/* The read's page: @events in order, complete up to @cursor; @final: that meets the live tail.
 * Events are referenced, not taken. True: the client is live now; false: read on from c->cursor
 * (once there is room). */
bool client_page(struct client *c, const struct client_limits *limits, struct event *const *events,
                 size_t count, uint64_t cursor, bool final);

/* Describes up to @max_frames frames and about @max_bytes (plain) bytes from the queue's front.
 * Returns the number of entries. 0 though there is output: another thread is just compressing the
 * first frame; try again in the next loop turn. */
int client_frames(const struct client *c, struct iovec *iov, int max_frames, size_t max_bytes);
/* The socket took @bytes of them. Returns how many events (not control frames) were completed. */
size_t client_sent(struct client *c, size_t bytes);

/* Moves to CLOSING. With @keep_queue what is queued will still be sent; otherwise only the frame
 * the socket has begun, and the end. Returns the number of events dropped. */
size_t client_close(struct client *c, bool keep_queue);

static inline bool client_has_output(const struct client *c)
{
    return c->queue.ring.count > 0 || (c->owes_end && c->state == CLIENT_CLOSING);
}
