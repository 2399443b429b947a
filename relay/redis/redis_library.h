/* SPDX-License-Identifier: Apache-2.0 */
/* Sees to it that Redis is new enough and has our function library (common/sse_relay.lua), never
 * replacing a newer one. */
#pragma once
#include "relay/redis/redis_conn.h"

struct redis_library;

/* @ready: the functions can be called. @failed: not for now, and @why; the problem is logged, with
 * what to do, and tried again every few seconds. */
struct redis_library *redis_library_new(struct ev_loop *loop, struct redis_conn *conn,
                                        const char *prefix, void (*ready)(void *arg),
                                        void (*failed)(void *arg, const char *why), void *arg);
void redis_library_free(struct redis_library *library); /* after the connection is closed */
/* On a fresh connection, or when a function was missing. Does nothing while under way. */
void redis_library_ensure(struct redis_library *library);
/* Which process answers: Redis's run_id, "" where INFO is not allowed. Known once it is ready. */
const char *redis_library_server(const struct redis_library *library);
/* The last failure was that this is a node of a cluster. */
bool redis_library_is_in_cluster(const struct redis_library *library);
void redis_library_stop(struct redis_library *library); /* the connection is down */
