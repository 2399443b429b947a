/* SPDX-License-Identifier: Apache-2.0 */
/* The store in Redis: docs/protocol.md, "Redis". Three connections: one subscribed
 * (redis_channels), one for commands, one that waits at the inboxes (redis_inbox). Bus thread. */
#pragma once
#include "relay/bus/bus.h"

/* A store_maker. The configuration's URL must parse. */
struct store store_redis_new(struct ev_loop *loop, struct bus *bus,
                             const struct store_events *events, struct config *config,
                             struct metrics *metrics);
