/* SPDX-License-Identifier: Apache-2.0 */
/* The bridges of the configuration that read streams. Bus thread. */
#pragma once
#include "relay/redis/redis_bridge.h"

struct redis_bridges;

struct redis_bridges *redis_bridges_new(struct ev_loop *loop, struct redis_target *target,
                                        struct config *config,
                                        const struct redis_bridge_handler *handler, void *arg,
                                        struct metrics *metrics);
void redis_bridges_free(struct redis_bridges *bridges);
void redis_bridges_start(struct redis_bridges *bridges);
void redis_bridges_drop(struct redis_bridges *bridges, const char *why);
/* Those that are new begin, those that are gone end (their groups stay), the others go on. */
void redis_bridges_configure(struct redis_bridges *bridges, struct config *config);
/* The functions can be called (or not, for now). */
void redis_bridges_enable(struct redis_bridges *bridges, bool enabled);
void redis_bridges_drain(struct redis_bridges *bridges);
