/* SPDX-License-Identifier: Apache-2.0 */
/* One stream's state: the way from the log to the live events, and what becomes of each on its way
 * into the outbox. No I/O: the worker moves the bytes. One
 * thread.
 *
 *     OPENING ──page──▶ REPLAY ──final page──▶ LIVE ──▶ CLOSING
 *
 * While a read of the log is under way, live events are held beside the queue (bounded like it).
 * When the page that meets the live tail arrives, what is held and newer than the page follows it:
 * that is the hand-over without a hole. When the hold overflowed, nothing is lost but time: the log
 * is read once more. docs/architecture.md, "The hand-over from log to live". */
#pragma once
#include "relay/core/outbox.h"
#include "relay/core/subscription.h"

enum client_state { CLIENT_OPENING, CLIENT_REPLAY, CLIENT_LIVE, CLIENT_CLOSING };

/* What holds for all clients of a worker. */
struct client_limits {
    uint32_t max_events;
    size_t max_bytes;
    enum slow_policy slow;                /* of those that did not ask for another */
    struct outbox_teller teller;          /* how it is told what was dropped */
    struct event_clock (*now)(void *arg); /* to find what is over; NULL: nothing is */
    void *arg;
};

/* Embedded in the worker's stream for the cache's sake. Read it freely, change it through the
 * functions below. */
struct client {
    /* What each delivery touches comes first: 72 bytes. */
    enum client_state state : 8;
    bool reading;           /* a read of the log is under way: live events are held */
    bool any_type;          /* it filters no types */
    bool hold_overflow : 1; /* more came than could be held: read again */
    bool is_behind : 1;     /* it did not keep up, and reads on from the log */
    bool is_paused : 1;     /* what waits for a flush waits on … */
    bool rests : 1;         /* … and was too much: the log is read once something wakes it */
    uint32_t buffer;        /* events: its own bound; UINT32_MAX: it has none */
    uint64_t cursor;        /* everything wanted up to this id has been queued, or is pending */
    struct outbox out;

    struct frame_queue held;
    size_t held_bytes;
    uint64_t replayed; /* events that came from the log, since it fell behind */
    struct subscription *sub;
};

enum client_push {
    CLIENT_QUEUED,
    CLIENT_PENDING, /* it waits for client_commit() */
    CLIENT_FLUSHED, /* queued, and with it what was pending */
    CLIENT_HELD,
    CLIENT_SKIPPED,
    CLIENT_DROPPED, /* told, and counted: outbox_take_counts() */
    CLIENT_BEHIND,  /* what was pending is let go: the log brings it */
    CLIENT_WOKEN,   /* the log brings it, and what a pause has let go: read that now */
    CLIENT_FULL,
};

/* Takes a reference to @sub. When it is closing and the queue is empty, the end of the gzip stream
 * and the last chunk are what is left to send. */
void client_init(struct client *c, struct subscription *sub, const struct outbox_form *form);
void client_reset(struct client *c);
/* Another subscription from now on (takes a reference), to the same topics and types: its grant was
 * renewed. A read under way goes on for the old one, and its page is filtered by the new. */
void client_renew(struct client *c, struct subscription *sub);

/* Offers a live event (a reference is taken where it stays). HELD: a read is under way. SKIPPED:
 * not for this client, or it has it already, or the log will bring it. FULL: over the limit, and
 * its stream is to end. */
enum client_push client_push(struct client *c, const struct client_limits *limits,
                             struct event *ev);

/* Offers an event that turned up after later ones, to a live client. QUEUED, PENDING, FLUSHED: it
 * had none of those yet, so order is kept. SKIPPED: it cannot have it any more. */
enum client_push client_push_late(struct client *c, const struct client_limits *limits,
                                  struct event *ev);

/* What becomes of a live event that is over: whoever it is for is complete without it. True: it was
 * for this client, and only the caller can count it. A coalesced one may be held: what it replaces
 * comes with the read that is under way. */
bool client_pass_over(struct client *c, const struct client_limits *limits, struct event *ev);
/* The same of one that turned up after later ones, and was for this client. */
void client_pass_over_late(struct client *c, const struct event *ev);

/* Moves what is pending to the queue: when its flush is due, and the queue is empty. */
static inline void client_commit(struct client *c)
{
    outbox_commit(&c->out);
}

/* From now on nothing pending is flushed for its lane's sake; an instant event takes it along. What
 * becomes too much for the outbox is let go, whatever the policy, and read from the log later.
 * docs/protocol.md, 4.8. */
void client_pause(struct client *c);
/* The caller commits what is pending, as soon as the queue is empty; or, where it was let go, reads
 * the log: true. */
bool client_resume(struct client *c);

/* Queues a frame of our own (control event, heartbeat) whatever the limits; callers send few. Takes
 * over the reference. */
void client_put_control(struct client *c, struct event *ev);
/* The client is complete up to @id, and is not sent it now: outbox_stand_at(). */
void client_stand_at(struct client *c, uint64_t id);
/* The id up to which it is complete with what it has been sent, or will from the queue. */
uint64_t client_position(const struct client *c);
/* All up to @id has come to it live, and it has what it wanted of that: the next position says so.
 */
void client_stand_behind(struct client *c, uint64_t id);
/* Queues a block that does nothing but tell that. */
void client_put_position(struct client *c);
/* Before each write: makes what is told of drops. */
void client_settle(struct client *c, const struct client_limits *limits);

/* A read of the log starts: hold what comes from now on. Not while one is under way. */
void client_read_begin(struct client *c);
/* How much the next read may bring, so that the queue stays within its limits. */
void client_room(const struct client *c, const struct client_limits *limits, uint32_t *events,
                 size_t *bytes);
/* How full it is of what it may hold itself, pending and queued; above 1 with what is never
 * dropped. */
double client_fullness(const struct client *c, const struct client_limits *limits);
/* Whether there is room for a page at the pace at which the socket drains: half of the queue. */
bool client_has_room(const struct client *c, const struct client_limits *limits);
/* The read's page: @events in order, complete up to @cursor; @final: that meets the live tail.
 * Events are referenced, not taken. True: the client is live now; false: read on from c->cursor
 * (once there is room). */
bool client_page(struct client *c, const struct client_limits *limits, struct event *const *events,
                 size_t count, uint64_t cursor, bool final);

/* When the first event that it could let go came, by the monotonic clock: @unknown_us where it was
 * read from the log, UINT64_MAX where there is none. */
uint64_t client_oldest_us(const struct client *c, uint64_t unknown_us);
/* The events of the node take too much memory: lets go of what waits, by its policy; by drop-oldest
 * what came before @before_us. BEHIND, DROPPED, FULL: as of an event that did not fit. SKIPPED:
 * there was nothing. *gone: so many events went. */
enum client_push client_relieve(struct client *c, const struct client_limits *limits,
                                uint64_t before_us, uint32_t *gone);

/* Moves to CLOSING. With @keep_queue what is queued or pending will still be sent; otherwise only
 * the frame the socket has begun, and the end. Returns the number of events dropped. */
size_t client_close(struct client *c, bool keep_queue);
