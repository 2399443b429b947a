/* SPDX-License-Identifier: Apache-2.0 */
/* sse_position: makes a namespace known to Redis, with the settings of this node. Bus thread. */
#pragma once
#include "relay/config/config.h"
#include "relay/redis/redis_conn.h"

/* @seen: the counter is not to be below it; 0: nothing is known. False: there is no connection. */
bool redis_position_ask(struct redis_conn *conn, const struct config *config, const char *ns,
                        uint64_t seen, redis_done done, void *arg);
