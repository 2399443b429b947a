/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a stream share, for them only: stream.c (opening, sending,
 * time, ending), stream_blocks.c (the blocks that are no events), stream_lease.c (what a grant adds
 * to its life), stream_flow.c (when it is sent what waits, and how it falls behind),
 * stream_gzip.c (what is compressed), stream_read.c (asking for the log), stream_ends.c (topics
 * that have ended), stream_topics.c (which topics it has). */
#pragma once
#include "relay/fanout/stream.h"

/* Of a stream whose topics have changed. Hung to its first inline place in the index, which it does
 * not need any more: nobody else pays for it. */
struct stream_topics {
    struct topic_sub *subs; /* in place of those that came with the stream … */
    uint32_t inline_count;  /* … which were so many */
    uint64_t *owed_from; /* of each: nothing at or below that is owed; UINT64_MAX: not known yet */
    bool is_addressed;   /* the last one is of its connection, and nobody has asked for it */
    TAILQ_HEAD(, look) looks; /* stream_topics.c's */
};

/* Its places in the index, one for each of its topics. */
static inline struct topic_sub *stream_subs(struct stream *s)
{
    const struct stream_topics *topics = s->subs[0].owner;
    return s->has_new_topics ? topics->subs : s->subs;
}

/* How many of its topics it was asked for. */
static inline uint32_t stream_asked_topics(const struct stream *s)
{
    const struct stream_topics *topics = s->subs[0].owner;
    return s->sub_count - (s->has_new_topics && topics->is_addressed);
}

/* How many of those lie in the stream itself. */
static inline uint32_t stream_inline_subs(const struct stream *s)
{
    const struct stream_topics *topics = s->subs[0].owner;
    return s->has_new_topics ? topics->inline_count : s->sub_count;
}

static inline enum config_control stream_control(const struct stream *s)
{
    return subscription_control(s->client.sub, s->shared->config->control_events);
}

/* stream_blocks.c. Whether it may be told what is no event: relay.connected has come before. */
bool stream_blocks_are_on(const struct stream *s);
/* Each queues a block; those in the middle where stream_blocks_are_on(), which those of pauses and
 * topics look at themselves. */
void stream_blocks_put_connected(struct stream *s, uint64_t start);
void stream_blocks_put_expiring(struct stream *s, uint64_t left_ms);
void stream_blocks_put_paused(struct stream *s, const char *name); /* "paused", "resumed" */
void stream_blocks_put_topics(struct buf *json, const struct strings *topics); /* a member */
void stream_blocks_put_subscribed(struct stream *s, const struct strings *topics, uint64_t from);
void stream_blocks_put_unsubscribed(struct stream *s, const struct strings *topics);
void stream_blocks_put_end(struct stream *s, const struct note_end *end);
void stream_blocks_put_shutdown(struct stream *s, const char *reason);
void stream_blocks_put_heartbeat(struct stream *s);

/* stream_lease.c. Memory for a stream with so many topics, zeroed, with room for what a grant needs
 * where it has one. */
struct stream *stream_lease_alloc(const struct subscription_request *request,
                                  const struct stream_form *form);
void stream_lease_free(struct stream *s);
/* Those that follow are for streams that have a lease. Enters the worker's tables. */
void stream_lease_open(struct stream *s, const struct stream_form *form);
/* Leaves them, and gives the ticket back. */
void stream_lease_over(struct stream *s);
/* Another grant holds from now on. */
void stream_lease_renew(struct stream *s);
/* What is queued next tells the client an id. */
void stream_lease_tells_id(struct stream *s);
/* A write has completed @frames from the front of the queue, @events of them events. */
void stream_lease_sent(struct stream *s, size_t frames, size_t events);
/* What is queued is about to be dropped, but for a frame that the socket has begun to take. */
void stream_lease_dropped(struct stream *s);
/* What its grant's end asks for now; *left_ms: until then. */
enum lease_due stream_lease_due(struct stream *s, uint64_t *left_ms);
/* When to ask that next, by the monotonic clock; UINT64_MAX: never. */
uint64_t stream_lease_due_ms(struct stream *s);

/* stream_gzip.c. A stream is compressed from here on … */
struct gzip *stream_gzip_join(struct stream_shared *shared);
void stream_gzip_leave(struct stream *s); /* … to here; of others nothing happens */
void stream_gzip_account(
    struct stream_shared *shared); /* what was compressed since the last time */

/* stream_read.c. Asks for what it begins with, and then for the log's next page, if it still needs
 * one. */
void stream_read(struct stream *s, enum cursor_kind kind, uint64_t cursor);
void stream_read_page(struct stream *s);
void stream_read_cancel(struct stream *s); /* what is on its way is not for it any more */
/* A page is on its way that its topics have outdated: asks for it again. */
void stream_read_anew(struct stream *s);
/* Whether it has, and the node, for the next page. */
bool stream_read_has_room(const struct stream *s);

/* stream_flow.c. Something is pending: sees to it that it goes out in time. */
void stream_flow_wait(struct stream *s);
/* The interval may be another one: what waits goes when that is over. */
void stream_flow_configure(struct stream *s);
/* Its queue is empty: what should have gone before goes now. */
void stream_flow_drained(struct stream *s);
/* Brings counters and gauges up to what has happened to its events. False: it has dropped more than
 * a stream may. */
bool stream_flow_account(struct stream *s);
/* Asks for the log's next page, where it needs one and has room, unless it rests: one that is
 * behind when it is its turn. */
void stream_flow_read_on(struct stream *s);
/* Of a blocked one: when to look whether its socket still moves, by the monotonic clock;
 * UINT64_MAX: it is not asked for. */
uint64_t stream_flow_stall_due_ms(const struct stream *s);
/* Whether it has output and for too long nothing of it has moved. */
bool stream_flow_is_stalled(struct stream *s, uint64_t now_ms);
void stream_flow_over(struct stream *s);

/* stream_ends.c. It has just taken the page. True: that makes an end of the stream. */
bool stream_ends_page(struct stream *s, const struct note_read *note);
/* What is known of topics that it has just got, where it is live. True: that makes an end of it. */
bool stream_ends_looked(struct stream *s, const struct note_read *note);
void stream_ends_over(struct stream *s);

/* stream_topics.c. */
void stream_topics_enter(struct stream *s);
void stream_topics_leave(struct stream *s);
/* The two that follow: true: the stream is to end, as all topics that it has have ended. */
bool stream_topics_change(struct stream *s, const struct strings *add, const struct strings *remove,
                          struct note_control *asked);
/* A read that the stream itself has not asked for has come back; takes it over. */
bool stream_topics_looked(struct stream *s, struct note_read *note);
void stream_topics_close(struct stream *s);
void stream_topics_over(struct stream *s);
