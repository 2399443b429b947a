/* SPDX-License-Identifier: Apache-2.0 */
/* One bridge from a foreign stream to topics: docs/protocol.md, 9.1. Of all relays the one that has
 * the lease in Redis reads the stream by its consumer group, and FCALL sse_bridge publishes and
 * acknowledges in one step, if the lease is still its own: so whatever breaks, and whoever goes on,
 * each entry is published once and in order. Has a connection of its own, as it waits in XREADGROUP
 * BLOCK. Bus thread. */
#pragma once
#include "relay/config/config.h"
#include "relay/redis/redis_conn.h"

struct redis_bridge;

struct redis_bridge_handler {
    void (*library_lost)(void *arg); /* an answer says that the functions are gone */
};

/* @rule: a stream's; it belongs to @config, of which this keeps a reference. */
struct redis_bridge *redis_bridge_new(struct ev_loop *loop, struct redis_target *target,
                                      struct config *config, const struct config_bridge *rule,
                                      const struct redis_bridge_handler *handler, void *arg,
                                      struct metrics *metrics);
void redis_bridge_free(struct redis_bridge *bridge);
void redis_bridge_start(struct redis_bridge *bridge);
void redis_bridge_drop(struct redis_bridge *bridge, const char *why);
/* Whether @rule is about its stream and group. */
bool redis_bridge_is(const struct redis_bridge *bridge, const struct config_bridge *rule);
/* A new configuration; @rule is about the same stream and group. It holds for what is read from now
 * on. */
void redis_bridge_configure(struct redis_bridge *bridge, struct config *config,
                            const struct config_bridge *rule);
/* The functions can be called (or not, for now). */
void redis_bridge_enable(struct redis_bridge *bridge, bool enabled);
/* The node ends: reads no more, and gives the lease back. */
void redis_bridge_drain(struct redis_bridge *bridge);
