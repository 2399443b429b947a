/* SPDX-License-Identifier: Apache-2.0 */
/* How far Redis's clock is from this machine's: it gives the ids, so it judges ages (since, ttl).
 * Asked at each connect, and as often as the subscriber connection is probed. Bus thread. */
#pragma once
#include "relay/config/config.h"
#include "relay/redis/redis_conn.h"

struct redis_clock;

/* @conn is borrowed. */
struct redis_clock *redis_clock_new(struct ev_loop *loop, struct redis_conn *conn,
                                    struct config *config, struct metrics *metrics);
void redis_clock_free(struct redis_clock *clock); /* after the connection is closed */
void redis_clock_configure(struct redis_clock *clock, struct config *config);

/* The connection has come up, perhaps to another server. */
void redis_clock_ask(struct redis_clock *clock);
/* Microseconds that Redis's clock is ahead; below 0: behind. 0 until it has been asked. Any thread.
 */
int64_t redis_clock_offset_us(const struct redis_clock *clock);
uint64_t
redis_clock_now_us(const struct redis_clock *clock); /* what time it is there. Any thread */
