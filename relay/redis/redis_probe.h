/* SPDX-License-Identifier: Apache-2.0 */
/* Proves every `redis.probe` that the subscriber connection still hears: what is published to a
 * private channel on the commands connection must come back on it. A connection can be deaf without
 * an error: packets that are dropped silently, a proxy that hangs, a primary that is none any more.
 * Also asks whether the server still is a primary. Bus thread. */
#pragma once
#include "relay/config/config.h"
#include "relay/redis/redis_conn.h"

struct redis_probe;

struct redis_probe_handler {
    void (*heard)(void *arg); /* once after each begin(): the connection hears, or none can tell */
    void (*passed)(void *arg, uint64_t mark); /* redis_probe_mark() */
    void (*dead)(void *arg, const char *why); /* two periods without what was due */
    void (*replica)(void *arg);               /* the server of the commands connection is none to
                                                 write to; perhaps within a callback of it */
};

/* @commands is borrowed. */
struct redis_probe *redis_probe_new(struct ev_loop *loop, struct redis_conn *commands,
                                    struct config *config,
                                    const struct redis_probe_handler *handler, void *arg,
                                    struct metrics *metrics);
void redis_probe_free(struct redis_probe *probe);
void redis_probe_configure(struct redis_probe *probe, struct config *config);

struct slice redis_probe_channel(const struct redis_probe *probe); /* P:probe:<16 hex digits> */

/* The subscriber connection stands (or does not). Nothing is missed before begin(). */
void redis_probe_begin(struct redis_probe *probe);
void redis_probe_end(struct redis_probe *probe);
/* The channel is subscribed to: the first probe goes out at once. */
void redis_probe_listen(struct redis_probe *probe);
/* It may not be: the connection counts as hearing, and nobody looks after it. */
void redis_probe_refused(struct redis_probe *probe, struct slice reply);
/* @count answers are due on the subscriber connection (have come): a connection on which nothing
 * comes back is dead, too. */
void redis_probe_expect(struct redis_probe *probe, size_t count);
void redis_probe_answered(struct redis_probe *probe, size_t count);
/* Sends a probe now. When it comes back, passed() is called with this number or a higher one: all
 * that was published before this call has come by then. 0: it cannot be sent. */
uint64_t redis_probe_mark(struct redis_probe *probe);
/* A message has come on the channel. */
void redis_probe_hear(struct redis_probe *probe, struct slice payload);
/* The subscriber connection is not being read (or is again): what does not come then is not missed.
 */
void redis_probe_hold(struct redis_probe *probe, bool held);
/* The commands connection has come up: it may lead to another server than before. */
void redis_probe_now(struct redis_probe *probe);
