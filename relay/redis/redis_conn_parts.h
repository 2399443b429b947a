/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of redis_conn share: redis_conn.c (up and down, I/O), which uses
 * redis_conn_commands.c (what is sent, and who waits for the answers; the login). */
#pragma once
#include <hiredis/hiredis.h>

#include "common/ring.h"
#include "relay/kit/log.h"
#include "relay/redis/redis_conn.h"

enum conn_state { CONN_IDLE, CONN_CONNECTING, CONN_HANDSHAKE, CONN_LOGIN, CONN_UP };

struct pending {
    redis_done done;
    void *arg;
};

struct redis_conn {
    struct ev_loop *loop;
    struct redis_target *target;
    struct redis_follower follower;
    char *name;
    const struct redis_conn_handler *handler;
    void *arg;
    struct metrics *metrics;
    enum conn_state state;
    bool started, paused, in_callback, drop_wanted;
    bool moved;    /* the target is elsewhere now: no waiting before the next connect */
    bool unusable; /* an answer said so: all of the target's connections have to go */
    bool ever_up;
    bool unsent; /* hiredis holds output */
    uint64_t retry_ms, up_since_us;
    char why[256];  /* why it went down, or has to */
    char told[256]; /* what was logged last: another reason is news */
    struct log_limit down_limit;
    redisContext *ctx;
    struct redis_tls_session *tls; /* the context owns it; NULL: plain text */
    struct ring pending_ring;
    struct pending *pending; /* answers due: the ring's slots */
    ev_io read, write;
    ev_timer timer; /* by state: reconnect; connect, login or reply timeout */
    ev_prepare flush;
};

/* redis_conn_commands.c */
void redis_conn_set_timer(struct redis_conn *conn, double seconds);
struct pending redis_conn_next(struct redis_conn *conn); /* whose answer comes; there must be one */
/* Sends it. The callback of its last answer ends it: state CONN_UP, or drop_wanted. */
void redis_conn_login(struct redis_conn *conn);
