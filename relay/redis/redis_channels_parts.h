/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of redis_channels share: redis_channels.c (who wants what, the connection), which
 * uses redis_channels_hear.c (messages) and redis_channels_ask.c (SUBSCRIBE and its answers), and
 * below them redis_channels_registry.c (the channels by their text). Bus thread. */
#pragma once
#include <stdlib.h>
#include <sys/queue.h>

#include "common/envelope.h"
#include "common/hash.h"
#include "relay/kit/log.h"
#include "relay/redis/redis_channels.h"

/* What Redis has been told last, and has said. */
enum channel_state {
    CHANNEL_NEW,   /* nothing yet, or to UNSUBSCRIBE */
    CHANNEL_ASKED, /* to SUBSCRIBE */
    CHANNEL_HEARD,
    CHANNEL_REFUSED, /* asked for alone, and Redis said no: asked for again now and then */
};

/* A channel or glob in Redis. Several patterns may share a glob. It stays as long as somebody wants
 * it, Redis has it, or an answer about it is due. */
struct channel {
    char *text;
    enum store_subject subject;
    bool glob;
    bool alone; /* ask for it in a command of its own: with it a batch was refused */
    enum channel_state state;
    unsigned due; /* answers on the way: only the last one counts */
    bool awaited; /* the node is not ready without its answer */
    uint64_t run; /* the run in which it last delivered */
    uint64_t workers;
    struct store_name **names;
    size_t name_count;
    bool in_todo;
    TAILQ_ENTRY(channel) todo;
    UT_hash_handle hh;
};

TAILQ_HEAD(channel_list, channel);

/* A command on the way. Redis answers in order, with an answer for each channel or with one error.
 */
struct ask {
    STAILQ_ENTRY(ask) link;
    bool probe; /* the probe's channel, which is no struct channel */
    bool glob, leaving;
    size_t count, answered;
    struct channel *channels[]; /* they stay while answers are due */
};

STAILQ_HEAD(ask_queue, ask);

struct redis_channels {
    struct redis_conn *conn;
    struct redis_probe *probe;
    struct ev_loop *loop;
    struct config *config;
    const struct redis_channels_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct channel *direct, *globs; /* by text */
    struct channel_list todo;       /* to be looked at at the end of the turn */
    struct ask_queue asks;          /* oldest first */
    size_t awaited, refused;        /* channels that are so */
    bool starting; /* from a connect until ready: the probe has not come back, or answers are due */
    bool proven;   /* the probe has */
    bool deaf;     /* events with an id are left to the repair */
    bool told_unreachable; /* that this relay may not hear its own channels */
    unsigned pauses;
    struct envelope envelope;
    /* the run of messages that is being received */
    uint64_t run;
    struct buf run_channel;
    struct event *run_event; /* NULL: it was no event */
    uint64_t run_workers;    /* who has it */
    struct log_limit invalid_limit, refused_limit;
    ev_prepare flush;
    ev_timer again; /* for those that were refused */
};

/* redis_channels_registry.c */
struct channel *redis_channels_find(struct redis_channels *ch, bool glob, struct slice text);
/* That of a name; makes it where there is none. */
struct channel *redis_channels_get(struct redis_channels *ch, const struct store_name *name);
/* It is looked at at the end of the turn. */
void redis_channels_todo(struct redis_channels *ch, struct channel *c);
/* No longer wanted and not known to Redis: frees it. */
void redis_channels_release(struct redis_channels *ch, struct channel *c);
void redis_channels_remove(struct redis_channels *ch, struct channel *c); /* frees it anyway */

/* redis_channels_ask.c */
void redis_channels_ask_probe(struct redis_channels *ch);
void redis_channels_ask_todo(struct redis_channels *ch);
void redis_channels_ask_again(struct redis_channels *ch); /* what was refused */
/* An array or an error that is no message. Afterwards the node may be ready. */
void redis_channels_answer(struct redis_channels *ch, const struct redis_reply *reply);
void redis_channels_forget_asks(struct redis_channels *ch);

/* redis_channels_hear.c */
void redis_channels_addressed(struct redis_channels *channels, const struct store_name *name,
                              struct slice payload);
void redis_channels_message(struct redis_channels *ch, struct channel *c, struct slice channel,
                            struct slice payload);
void redis_channels_bridge(struct redis_channels *ch, struct channel *c, struct slice channel,
                           struct slice payload);
void redis_channels_run_end(struct redis_channels *ch);
