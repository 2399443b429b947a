/* What the bus reads in Redis: what has moved in a namespace (sse_since), and the entries of a
 * topic's log. What somebody else wrote there, and is no topic or event, is counted, logged once in
 * a while, and passed over. Bus thread. */
#pragma once
#include "relay/bus/store.h"
#include "relay/redis/redis_conn.h"

struct redis_reader;

/* @conn is borrowed. @refused: Redis said no, to @what, which the next answer may not; the reads
 * that it is about end with ERR_AGAIN right after. */
struct redis_reader *redis_reader_new(struct redis_conn *conn, struct config *config,
                                      void (*refused)(void *arg, const char *what,
                                                      const struct redis_reply *reply),
                                      void *arg, struct metrics *metrics);
/* After the connection is closed, which ends every read with ERR_AGAIN. */
void redis_reader_free(struct redis_reader *reader);
void redis_reader_configure(struct redis_reader *reader, struct config *config);

/* Both as in struct store_ops. ERR_AGAIN at once while there is no connection. */
void redis_reader_look(struct redis_reader *reader, struct store_look *look); /* by a function */
void redis_reader_range(struct redis_reader *reader, struct store_range *range);
