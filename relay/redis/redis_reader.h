/* SPDX-License-Identifier: Apache-2.0 */
/* What the bus reads in Redis: what has moved in a namespace (sse_since; sse_look), and the entries
 * of a topic's log. What somebody else wrote there, and is no topic or event, is counted, logged
 * once in a while, and passed over. Bus thread. */
#pragma once
#include "relay/bus/store.h"
#include "relay/redis/redis_clock.h"
#include "relay/redis/redis_conn.h"

struct redis_reader;

struct redis_reader_handler {
    /* Redis said no, to @what, which the next answer may not; the reads that it is about end with
     * ERR_AGAIN right after. */
    void (*refused)(void *arg, const char *what, const struct redis_reply *reply);
    /* An answer to a look, which may write: it tells whether Redis takes writes now. One that is
     * refused for that reason is answered by a function that only reads. */
    void (*looked)(void *arg, const struct redis_reply *reply);
};

/* @conn and @clock are borrowed. */
struct redis_reader *redis_reader_new(struct redis_conn *conn, const struct redis_clock *clock,
                                      struct config *config,
                                      const struct redis_reader_handler *handler, void *arg,
                                      struct metrics *metrics);
/* After the connection is closed, which ends every read with ERR_AGAIN. */
void redis_reader_free(struct redis_reader *reader);
void redis_reader_configure(struct redis_reader *reader, struct config *config);

/* Both as in struct store_ops. ERR_AGAIN at once while there is no connection. */
void redis_reader_look(struct redis_reader *reader, struct store_look *look); /* by a function */
void redis_reader_range(struct redis_reader *reader, struct store_range *range);
