/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the library that are not about events (tickets, revocations), and messages for other
 * relays: each one command, and what its answer means. Bus thread. */
#pragma once
#include "relay/bus/store.h"
#include "relay/redis/redis_conn.h"

struct redis_calls;

struct redis_calls_handler {
    /* Redis said no, to @what, which the next answer may not; nothing was done. */
    void (*refused)(void *arg, const char *what, const struct redis_reply *reply);
    /* An answer to a call, which may write: it tells whether Redis takes writes now. */
    void (*called)(void *arg, const struct redis_reply *reply);
};

/* @conn is borrowed. */
struct redis_calls *redis_calls_new(struct redis_conn *conn, const char *prefix,
                                    const struct redis_calls_handler *handler, void *arg);
/* After the connection is closed, which ends every call. */
void redis_calls_free(struct redis_calls *calls);

/* Both as in struct store_ops. ERR_AGAIN at once while there is no connection. */
void redis_calls_call(struct redis_calls *calls, struct store_call *call);
void redis_calls_tell(struct redis_calls *calls, struct store_telling *telling);
