/* SPDX-License-Identifier: Apache-2.0 */
/* One client's stream: opening, reading the log, sending what is queued, ending. Worker thread. */
#pragma once
#include "common/mem.h"
#include "relay/core/client.h"
#include "relay/core/node.h"
#include "relay/fanout/id_pool.h"
#include "relay/fanout/id_table.h"
#include "relay/fanout/interest.h"
#include "relay/fanout/lease.h"
#include "relay/kit/bucket.h"
#include "relay/kit/wheel.h"
#include "relay/kit/writer.h"

enum { STREAM_FRAMES_PER_WRITE = 64 };

enum stream_close_reason {
    CLOSE_CLIENT,
    CLOSE_SLOW,
    CLOSE_LIFETIME,
    CLOSE_DRAIN,
    CLOSE_ERROR,
    CLOSE_EXPIRED,  /* its grant has ended … */
    CLOSE_REVOKED,  /* … or was ended */
    CLOSE_REPLACED, /* its ticket has opened another */
    CLOSE_STALLED,  /* its socket takes nothing */
    CLOSE_ENDED,    /* all of its topics have */
};

struct stream {
    /* What each delivery touches comes first, with the first half of client: 128 bytes. */
    struct stream_shared *shared;
    TAILQ_ENTRY(stream) turn_link; /* among the dirty, or among the blocked, which never are both */
    uint64_t stamp; /* the last event it was offered: names that overlap offer it again */
    uint64_t last_write_ms;
    int fd; /* -1: the preamble is still on its way */
    bool dirty, blocked, doomed, over_soon;
    enum client_state counted_state : 8;
    bool has_lease : 1;      /* stream_lease() */
    bool has_new_topics : 1; /* others than it came with: stream_topics.c */
    uint16_t patience_ms;    /* once it is closing: for its last bytes */
    uint32_t counted_events;
    struct client client;

    size_t counted_bytes;
    struct wheel_entry timer;
    struct id_entry id;       /* in shared->by_id */
    void *connection;         /* whose it is: shared.end */
    uint64_t gap_told;        /* up to here it has been told of gaps */
    unsigned era;             /* note_read.era, of its last page */
    uint32_t sub_count;       /* of its topics: stream_subs() */
    uint64_t start;           /* it is owed what came after this */
    uint64_t horizon;         /* note_read.horizon */
    uint64_t live_from;       /* what is above must come by the live path */
    struct note_read *read;   /* under way at the bus */
    struct stream_flow *flow; /* stream_flow.c's; NULL: it never needed one */
    struct stream_ends *ends; /* stream_ends.c's; NULL: none waits */
    uint64_t end_ms;          /* max_lifetime; UINT64_MAX: none */
    uint32_t heartbeat_ms;
    uint32_t received; /* bytes that the client sent */
    ev_io io;
    LIST_ENTRY(stream) all_link;
    struct topic_sub subs[];
};

TAILQ_HEAD(stream_queue, stream);
LIST_HEAD(stream_list, stream);

/* What the streams of one worker share: fanout.c sets it up. */
struct stream_shared {
    struct ev_loop *loop;
    unsigned worker;
    struct node *node;
    void (*end)(void *connection); /* gives it back to be closed, soon; stream_over() follows */
    struct config *config;
    struct metrics *metrics;
    struct interest *interest;
    struct client_limits limits;
    struct event *heartbeat, *comment; /* comment: the heartbeat of a stream that has no id yet */
    struct wheel *wheel;               /* fires stream_timer(), with this */
    struct stream_list all;
    size_t count;
    struct stream_queue dirty;   /* to be flushed at the end of the turn */
    struct stream_queue blocked; /* their sockets take nothing now */
    /* To be closed once nobody walks the index: too slow, or ended. */
    struct stream **doomed;
    size_t doomed_count;
    uint64_t turn_ms; /* when the flush under way began */
    bool draining;
    struct gzip *gzip; /* there is one while there are streams that need it */
    size_t gzip_streams;
    struct leases *leases; /* of the streams that have a grant */
    struct flows *flows;   /* stream_flow.c's */
    struct id_pool ids;
    struct id_table by_id;
};

/* NULL: nobody asked who it is. It lies in front of the stream: two pointers and an allocation less
 * for each. */
static inline struct lease *stream_lease(struct stream *s)
{
    return s->has_lease ? (struct lease *)(void *)s - 1 : NULL;
}

static inline struct stream *stream_of_lease(struct lease *lease)
{
    return (struct stream *)(void *)(lease + 1);
}

/* It has something to send: it is flushed at the end of the turn, unless its socket is not ready.
 */
static inline void stream_mark_dirty(struct stream *s)
{
    if (s->dirty || s->blocked || s->fd < 0 || s->over_soon)
        return;
    s->dirty = true;
    TAILQ_INSERT_TAIL(&s->shared->dirty, s, turn_link);
}

/* It is to be closed once nobody walks the index. */
static inline void stream_doom(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    if (s->doomed || s->client.state == CLIENT_CLOSING)
        return;
    s->doomed = true;
    shared->doomed = mem_grow(shared->doomed, shared->doomed_count, sizeof(*shared->doomed));
    shared->doomed[shared->doomed_count++] = s;
}

/* What its answer has begun with. */
struct stream_form {
    bool chunked;               /* its body goes in HTTP chunks; else it ends with the connection */
    const struct gzip_sum *sum; /* of the preamble, and the stream is gzip; NULL: it is plain */
    const struct connection_id *id; /* NULL: one is made */
    const char *ticket; /* of a stream with a grant: the hash of the ticket that it was opened with:
                           given back at its end; NULL: none. Copied */
};

/* A stream on @connection, whose preamble is still to be sent; takes over the request's contents.
 */
struct stream *stream_open(struct stream_shared *shared, void *connection,
                           struct subscription_request *request, const struct stream_form *form);
/* Its socket is ours now. */
void stream_start(struct stream *s, int fd);
/* Its connection is over: the stream is gone. */
void stream_over(struct stream *s);

/* What others find it by: fanout_make_id(). */
static inline void stream_id(const struct stream *s, struct connection_id *out)
{
    uint64_t secret = s->id.secret;
    *out = (struct connection_id){s->shared->node->tag, s->shared->worker,
                                  connection_id_slot(secret), secret};
}

/* Slot and secret are what count of @id. NULL: there is none. */
struct stream *stream_find(const struct stream_shared *shared, const struct connection_id *id);
/* The hash of the ticket that it was opened with; NULL: there was none. */
const char *stream_ticket(struct stream *s);

/* The page that it has asked for; takes the note over. */
void stream_take_page(struct stream *s, struct note_read *note);

/* Roughly uniform in [low, high]; for spreading only. */
uint64_t stream_spread(uint64_t low, uint64_t high);

/* Its lanes wait from now on; or go on, at once. False: it was so already. docs/protocol.md, 4.8.
 */
bool stream_pause(struct stream *s);
bool stream_resume(struct stream *s);
/* How many of its topics it was asked for: all, but the topic of its connection at the end. */
uint32_t stream_count_asked(const struct stream *s);
/* Of a topic that it has, NULL: of any: nothing at or below is owed to it, as it got the topic
 * later than it came. 0: what it came with. */
uint64_t stream_owed_from(const struct stream *s, const char *topic);
/* It has the topic of its connection from now on, if it had not: its first event has come, or is
 * about to be told of as missing. */
void stream_address(struct stream *s);
/* Other topics, of which it may have all: those in @add (valid) are there afterwards, those in
 * @remove are not. Takes @asked, which goes back to the bus with its answer: 200, once Redis has
 * acknowledged what is new, and as detail the stream's topics as `"topics":[…]`; 400: there would
 * be too many; 404: the stream has ended meanwhile. */
void stream_change_topics(struct stream *s, const struct strings *add, const struct strings *remove,
                          struct note_control *asked);

/* Brings the gauges up to what the stream is now. */
void stream_account(struct stream *s);
/* What time it is for events. */
struct event_clock stream_clock(const struct stream_shared *shared);
/* What became of an event that it was offered, where that is more than to be queued. False: the
 * stream has to end, as it is too slow. */
bool stream_flow_pushed(struct stream *s, enum client_push pushed);
/* It has just been offered @ev, which ends its topic. Where that makes an end of the stream, it is
 * doomed: it may be in the middle of a walk through the index. */
void stream_ends_live(struct stream *s, const struct event *ev);
/* Whether all that it asked for has ended, and it has been told so. */
bool stream_ends_are_all(struct stream *s);
/* Describes the stream's next write to w->iov, which has room for STREAM_FRAMES_PER_WRITE. False:
 * there is nothing to write now; stream_settle() then. */
bool stream_offer(struct stream *s, struct writer_write *w);
/* The write has been made: what follows from its result. */
void stream_written(struct stream *s, const struct writer_write *w);
/* Once a stream has written what it could: the rest in the next turn, or the next page of the log,
 * or its end. */
void stream_settle(struct stream *s);
/* From here on nothing is added; with @keep_queue what is queued is still sent, then the stream
 * ends. */
void stream_close(struct stream *s, enum stream_close_reason reason, bool keep_queue);
/* The same, where the client is to know why: what is queued, relay.shutdown with the reason, a
 * clean end. Whose right has gone is sent what is queued only if its socket takes it at once. */
void stream_end(struct stream *s, enum stream_close_reason reason);
/* Nothing more will be sent: gives the connection back to be closed; stream_over() follows. */
void stream_finish(struct stream *s);
/* Another grant for the same stream (a reference is taken); it has one. */
void stream_renew(struct stream *s, struct grant *grant);
/* Its wheel entry fired: heartbeat, end of life or of its grant, or the end of its patience while
 * closing. */
void stream_timer(struct wheel_entry *entry, void *shared);
/* Sets heartbeat and timer anew after a change of configuration. */
void stream_configure(struct stream *s);
/* Ends it by @end_ms, with relay.shutdown. */
void stream_drain(struct stream *s, uint64_t end_ms);

/* What the worker needs for the streams' flow. */
struct flows *stream_flows_new(struct stream_shared *shared);
void stream_flows_configure(struct flows *flows);
/* @each may end the pause, and the stream. */
void stream_flows_each_paused(struct flows *flows, void (*each)(struct stream *s, void *arg),
                              void *arg);
void stream_flows_free(struct flows *flows); /* after all streams are over */
