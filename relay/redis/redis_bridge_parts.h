/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of redis_bridge share: redis_bridge.c (whose turn it is, what is read), which uses
 * redis_bridge_move.c (entries on their way to topics). */
#pragma once
#include "relay/core/bridge.h"
#include "relay/kit/log.h"
#include "relay/kit/random.h"
#include "relay/redis/redis_bridge.h"

/* What was read and sent on at once. */
struct redis_bridge_batch {
    size_t count, bytes; /* entries, and what they had */
    size_t dropped;      /* of which these are no events */
    const char *why;     /* the last of them; static */
};

struct redis_bridge {
    struct ev_loop *loop;
    struct config *config;
    const struct config_bridge *rule; /* the configuration's */
    const struct redis_bridge_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct redis_conn *conn;
    char owner[RANDOM_TOKEN_LEN + 1]; /* of the lease: this object, and no other in the world */
    struct buf id;                    /* name_put_bridge() */
    bool enabled, draining;
    bool asking;    /* an answer is due, after which it goes on */
    bool holds;     /* it has the lease, or had when it was told last */
    bool is_behind; /* what was read before, and not acknowledged, goes first */
    unsigned step;  /* entries asked for at a time: fewer where they are large */
    unsigned failures;
    uint64_t renewed_us;
    uint64_t lag;       /* of which the gauge knows */
    bool may_not_ask;   /* for the lag: Redis has refused it on this connection */
    struct buf cursor;  /* of XAUTOCLAIM */
    struct buf sent_id; /* of the last entry of the batch */
    struct buf last_id; /* of the last entry that is done; empty: none yet */
    struct bridge reading;
    struct redis_bridge_batch batch; /* whose answer is due */
    struct log_limit failed_limit, dropped_limit, ended_limit, deleted_limit;
    ev_timer wait;
};

/* redis_bridge_move.c */

/* Sends the entries (an array of {id, fields}) to be published; what is no event is only
 * acknowledged. False: the connection is gone. */
bool redis_bridge_move(struct redis_bridge *bridge, const struct redis_reply *entries,
                       redis_done done);
/* Counts and logs what the answer says of the batch; *stopped is why not all of it is done
 * (SLICE_NONE: it is). */
void redis_bridge_settle(struct redis_bridge *bridge, const struct redis_reply *reply,
                         struct slice *stopped);
/* Entries that were deleted from the stream before they could be published. */
void redis_bridge_count_deleted(struct redis_bridge *bridge, size_t count);
/* Sends FCALL sse_bridge without entries: takes, keeps (or with @ttl_ms 0 gives back) the lease. */
bool redis_bridge_lease(struct redis_bridge *bridge, uint64_t ttl_ms, redis_done done);

enum { REDIS_BRIDGE_LEASE_MS = 6000 };
