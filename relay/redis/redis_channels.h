/* SPDX-License-Identifier: Apache-2.0 */
/* The subscribed connection: SUBSCRIBE for topics, PSUBSCRIBE for patterns, each live event handed
 * on once. Bus thread.
 *
 * Redis delivers a message once for each matching subscription of a connection, directly one after
 * the other. So a run of messages of one channel is one PUBLISH until a subscription turns up in it
 * for the second time. */
#pragma once
#include "relay/redis/redis_conn.h"
#include "relay/bus/store.h"

struct redis_channels;

struct redis_channels_handler {
    void (*heard)(
        void *arg,
        struct store_name *name); /* Redis has acknowledged: nothing is missed from here on */
    void (*event)(void *arg, struct event *ev, uint64_t workers); /* borrowed */
    /* A live message is too large to be taken apart: its event, if it was one, is in the log. */
    void (*oversize)(void *arg, struct slice ns);
    /* After a connect: all names that were watched then are heard (or refused, and tried again),
     * and a probe has come back. */
    void (*ready)(void *arg);
    void (*down)(void *arg);
    void (*passed)(void *arg, uint64_t mark); /* redis_channels_mark() */
    void (*replica)(void *arg); /* the server of the commands connection is no primary any more */
    void (*addressed)(void *arg, struct event *ev); /* store_events.addressed */
    /* A message on a name that is not for events. */
    void (*told)(void *arg, const struct store_name *name, struct slice text);
    /* A message on the channel of others @channel, which a bridge is about. */
    void (*bridged)(void *arg, const struct store_name *name, struct slice channel,
                    struct slice payload);
};

/* @commands: to publish probes on; borrowed. */
struct redis_channels *redis_channels_new(struct ev_loop *loop, struct redis_target *target,
                                          struct redis_conn *commands, struct config *config,
                                          const struct redis_channels_handler *handler, void *arg,
                                          struct metrics *metrics);
void redis_channels_free(struct redis_channels *channels);
void redis_channels_start(struct redis_channels *channels);
void redis_channels_configure(struct redis_channels *channels, struct config *config);

void redis_channels_watch(struct redis_channels *channels, struct store_name *name);
void redis_channels_unwatch(struct redis_channels *channels, struct store_name *name);
void redis_channels_rewatch(struct redis_channels *channels, struct store_name *name);

void redis_channels_commands_up(struct redis_channels *channels);
void redis_channels_drop(struct redis_channels *channels, const char *why);

/* From a connect until redis_channels_listen() events with an id are left to the repair, which
 * reads the log up to a position that is taken afterwards; with authentication those without one
 * are dropped, as a stream may have been revoked meanwhile. listen() ends that and pauses, so that
 * the repair's events come first. */
void redis_channels_listen(struct redis_channels *channels);
/* A mark in the stream of messages: passed() is called with it, or a later one, once all that was
 * published before has come. 0: there can be none now. */
uint64_t redis_channels_mark(struct redis_channels *channels);
/* Two independent reasons to stop reading; either holds. */
enum channels_pause { CHANNELS_REPAIR = 1, CHANNELS_BACKPRESSURE = 2 };
void redis_channels_pause(struct redis_channels *channels, enum channels_pause reason, bool paused);
