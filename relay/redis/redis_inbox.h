/* SPDX-License-Identifier: Apache-2.0 */
/* Moves what publishers XADDed to namespace inboxes on to its topics, by FCALL sse_drain: exactly
 * once and in order, whoever of the nodes calls it. Has a connection of its own, as it waits in
 * XREAD BLOCK. An inbox that cannot be drained is left alone for a while, and disturbs no other.
 * Bus thread. */
#pragma once
#include "relay/config/config.h"
#include "relay/redis/redis_conn.h"

struct redis_inbox;

struct redis_inbox *redis_inbox_new(struct ev_loop *loop, struct redis_target *target,
                                    struct config *config, struct metrics *metrics);
void redis_inbox_free(struct redis_inbox *inbox);
void redis_inbox_start(struct redis_inbox *inbox);
void redis_inbox_drop(struct redis_inbox *inbox, const char *why);
void redis_inbox_configure(struct redis_inbox *inbox, struct config *config);
/* The functions can be called (or not, for now). */
void redis_inbox_enable(struct redis_inbox *inbox, bool enabled);
/* Namespaces with clients here, besides inbox.namespaces. Adding twice is adding once. */
void redis_inbox_add(struct redis_inbox *inbox, const char *ns);
void redis_inbox_remove(struct redis_inbox *inbox, const char *ns);
