/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to Redis: connects, logs in, makes sure that it has a primary, reconnects with
 * jittered backoff, pipelines commands. With redis_reply and redis_tls the only user of hiredis
 * (its non-blocking synchronous context: see docs/architecture.md for why not its async API). One
 * thread.
 *
 * An answer that only a Redis gives that is no usable primary (redis_reply_is_unusable) is handed
 * out like any other; then all connections of the target are dropped. */
#pragma once
#include <ev.h>

#include "relay/kit/metrics.h"
#include "relay/redis/redis_reply.h"
#include "relay/redis/redis_target.h"

struct redis_conn;

struct redis_conn_handler {
    void (*up)(void *arg); /* connected and logged in */
    void (*down)(void *arg,
                 const char *why); /* lost, or could not be made; after all pending callbacks */
    /* A message on a subscribed connection, or an acknowledgement; NULL where the connection never
     * subscribes. */
    void (*push)(void *arg, const struct redis_reply *reply);
};

/* @reply is NULL when the connection broke before an answer came: the command may have run or not.
 */
typedef void (*redis_done)(void *arg, const struct redis_reply *reply);

/* @name: for CLIENT SETNAME and the log. @target is borrowed and must outlive it; while it has no
 * address the connection waits for one. */
struct redis_conn *redis_conn_new(struct ev_loop *loop, struct redis_target *target,
                                  const char *name, const struct redis_conn_handler *handler,
                                  void *arg, struct metrics *metrics);
void redis_conn_free(
    struct redis_conn *conn); /* pending callbacks get NULL; `down` is not called */
void redis_conn_start(struct redis_conn *conn);
/* Drops the connection and makes a new one. @why is for the log. Inside a callback of it: right
 * after. */
void redis_conn_drop(struct redis_conn *conn, const char *why);

/* Queues a command; sent at the end of the loop turn. False: not connected, nothing was queued.
 * @done may be NULL. */
bool redis_conn_send(struct redis_conn *conn, const struct slice *argv, size_t argc,
                     redis_done done, void *arg);
/* The same for commands whose answers come as pushes ((P)(UN)SUBSCRIBE). */
bool redis_conn_send_push(struct redis_conn *conn, const struct slice *argv, size_t argc);

bool redis_conn_is_up(const struct redis_conn *conn);
/* Stops or goes on reading: flow control. Commands wait, too. */
void redis_conn_pause(struct redis_conn *conn, bool paused);
