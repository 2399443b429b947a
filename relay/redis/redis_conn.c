/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/redis/redis_conn_parts.h"
#include "relay/redis/redis_tls.h"

enum {
    READS_PER_TURN = 16, /* of 16 KB: reading and flushing alternate */
    RETRY_FIRST_MS = 50,
    RETRY_MAX_MS = 5000,
    RETRY_FLAPPING_MAX_MS = 500, /* while logging in works, but does not hold */
};
#define STEADY_US UINT64_C(1000000) /* up for that long: whatever ended it is new */

/* --- going down and coming back ------------------------------------------------------------- */

static void close_context(struct redis_conn *conn)
{
    ev_io_stop(conn->loop, &conn->read);
    ev_io_stop(conn->loop, &conn->write);
    ev_timer_stop(conn->loop, &conn->timer);
    if (conn->ctx)
        redisFree(conn->ctx);
    conn->ctx = NULL;
    conn->tls = NULL;
    conn->unusable = false;
    conn->state = CONN_IDLE;
    /* Callbacks may send again: that fails as the state is idle. */
    while (conn->pending_ring.count) {
        struct pending p = redis_conn_next(conn);
        if (p.done)
            p.done(p.arg, NULL);
    }
}

static void log_down(struct redis_conn *conn, bool was_up)
{
    uint64_t skipped = 0;
    if (conn->target->quiet)
        return;
    bool news = was_up || strcmp(conn->why, conn->told) != 0;
    memcpy(conn->told, conn->why, sizeof(conn->told));
    if (log_limit_pass(&conn->down_limit, clock_mono_us(), &skipped) || news)
        log_put(LOG_WARN,
                was_up ? "Redis connection lost, reconnecting"
                       : "cannot reach Redis yet, trying on",
                "connection", conn->name, "reason", conn->why, "attempts_not_logged",
                log_u64(skipped), NULL);
}

/* Between half and all of the interval, so that many nodes do not come at once. */
static void retry_later(struct redis_conn *conn, bool was_up)
{
    bool steady = was_up && clock_mono_us() - conn->up_since_us > STEADY_US;
    if (conn->moved || steady)
        conn->retry_ms = RETRY_FIRST_MS;
    else if (was_up && conn->retry_ms > RETRY_FLAPPING_MAX_MS)
        conn->retry_ms = RETRY_FLAPPING_MAX_MS;
    double jitter = 0.5 + 0.5 * (double)(random() % 1000) / 1000.0;
    redis_conn_set_timer(conn, conn->moved ? 0. : (double)conn->retry_ms / 1000.0 * jitter);
    conn->moved = false;
    conn->retry_ms = conn->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : conn->retry_ms * 2;
}

static void go_down(struct redis_conn *conn, const char *why)
{
    if (why != conn->why)
        snprintf(conn->why, sizeof(conn->why), "%s", why);
    bool was_up = conn->state == CONN_UP;
    conn->drop_wanted = false;
    close_context(conn);
    log_down(conn, was_up);
    conn->handler->down(conn->arg, conn->why);
    retry_later(conn, was_up);
    if (conn->target->lost)
        conn->target->lost(conn->target->arg);
}

/* hiredis leaves errstr empty for some system errors, and knows little of TLS. */
static void go_down_ctx(struct redis_conn *conn)
{
    struct buf why = {0};
    if (conn->target->tls)
        redis_tls_put_error(conn->target->tls, conn->tls, &why);
    if (!why.len)
        buf_puts(&why, conn->ctx && conn->ctx->errstr[0] ? conn->ctx->errstr : "connection closed");
    buf_putc(&why, '\0');
    go_down(conn, why.ptr);
    buf_reset(&why);
}

/* The login is done. */
static void went_up(struct redis_conn *conn)
{
    if (conn->paused)
        ev_io_stop(conn->loop, &conn->read);
    conn->up_since_us = clock_mono_us();
    ev_timer_stop(conn->loop, &conn->timer);
    if (!conn->target->quiet) {
        if (conn->ever_up)
            metrics_add(conn->metrics, M_REDIS_RECONNECTS, 1);
        log_put(LOG_INFO, conn->ever_up ? "Redis connection is back" : "connected to Redis",
                "connection", conn->name, NULL);
    }
    conn->ever_up = true;
    conn->down_limit = (struct log_limit){0};
    conn->handler->up(conn->arg);
}

/* --- I/O ------------------------------------------------------------------------------------ */

/* A callback asked for the connection to go; now that none is running it may. */
static bool drop_if_wanted(struct redis_conn *conn)
{
    if (!conn->drop_wanted)
        return false;
    go_down(conn, conn->why);
    return true;
}

/* Those that asked at the same time get their own answers first: what they say is certain, a
 * connection that breaks is not. */
static void note_unusable(struct redis_conn *conn, const struct redis_reply *reply)
{
    struct slice text = redis_reply_unusable(reply);
    if (conn->unusable || !text.ptr || conn->state != CONN_UP || !conn->target->primary_only)
        return;
    conn->unusable = true;
    snprintf(conn->why, sizeof(conn->why), "this Redis is no usable primary: %.*s", (int)text.len,
             text.ptr);
}

static void dispatch(struct redis_conn *conn, redisReply *reply)
{
    const struct redis_reply *view = (const struct redis_reply *)(const void *)reply;
    conn->in_callback = true;
    /* A subscribed connection's answers are pushes; it has commands of its own only while it logs
     * in. */
    if (conn->pending_ring.count) {
        struct pending p = redis_conn_next(conn);
        if (reply->type == REDIS_REPLY_ERROR)
            metrics_add(conn->metrics, M_REDIS_ERRORS, 1);
        note_unusable(conn, view);
        bool was_up = conn->state == CONN_UP;
        if (p.done)
            p.done(p.arg, view);
        if (!was_up && conn->state == CONN_UP)
            went_up(conn);
    } else if (conn->handler->push) {
        conn->handler->push(conn->arg, view);
    } else {
        snprintf(conn->why, sizeof(conn->why), "an answer that nothing had asked for");
        conn->drop_wanted = true;
    }
    conn->in_callback = false;
    freeReplyObject(reply);
}

/* Hands out every complete reply. False: the connection is gone. */
static bool drain_replies(struct redis_conn *conn)
{
    while (!conn->paused || conn->state == CONN_LOGIN) {
        void *reply = NULL;
        if (redisGetReplyFromReader(conn->ctx, &reply) != REDIS_OK) {
            go_down_ctx(conn);
            return false;
        }
        if (!reply)
            return true;
        dispatch(conn, reply);
        if (drop_if_wanted(conn))
            return false;
    }
    return true;
}

static void read_some(struct redis_conn *conn)
{
    for (int i = 0; i < READS_PER_TURN && conn->state != CONN_IDLE; i++) {
        errno = 0;
        if (redisBufferRead(conn->ctx) != REDIS_OK) {
            go_down_ctx(conn);
            return;
        }
        bool drained = errno == EAGAIN || errno == EWOULDBLOCK;
        if (!drain_replies(conn) || drained || (conn->paused && conn->state == CONN_UP))
            break;
    }
    if (conn->tls && ev_is_active(&conn->read) && redis_tls_has_pending(conn->tls))
        ev_feed_event(conn->loop, &conn->read, EV_READ);
}

static void handshake(struct redis_conn *conn);

static void on_read(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_conn *conn = w->data;
    if (conn->state == CONN_HANDSHAKE) {
        handshake(conn);
        return;
    }
    read_some(conn);
    if (conn->unusable) {
        redis_target_drop(conn->target, conn->why);
        return;
    }
    if (conn->state == CONN_UP) {
        if (conn->pending_ring.count)
            redis_conn_set_timer(conn, conn->target->reply_timeout_s);
        else
            ev_timer_stop(conn->loop, &conn->timer);
    }
}

static void send_output(struct redis_conn *conn)
{
    int done = 0;
    if (redisBufferWrite(conn->ctx, &done) != REDIS_OK) {
        go_down_ctx(conn);
        return;
    }
    conn->unsent = !done;
    if (done)
        ev_io_stop(conn->loop, &conn->write);
    else
        ev_io_start(conn->loop, &conn->write);
}

static void begin_login(struct redis_conn *conn)
{
    ev_io_stop(conn->loop, &conn->write);
    ev_io_start(conn->loop, &conn->read);
    redis_conn_login(conn);
    send_output(conn);
}

static void handshake(struct redis_conn *conn)
{
    switch (redis_tls_handshake(conn->tls)) {
    case TLS_WANTS_READ:
        ev_io_stop(conn->loop, &conn->write);
        ev_io_start(conn->loop, &conn->read);
        return;
    case TLS_WANTS_WRITE:
        ev_io_stop(conn->loop, &conn->read);
        ev_io_start(conn->loop, &conn->write);
        return;
    case TLS_DONE:
        begin_login(conn);
        return;
    case TLS_FAILED:
        go_down_ctx(conn);
        return;
    }
}

static void on_connected(struct redis_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(conn->ctx->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error) {
        go_down(conn, strerror(error));
        return;
    }
    if (!conn->target->path) {
        int on = 1;
        setsockopt(conn->ctx->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(conn->ctx->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (!conn->target->tls_only) {
        begin_login(conn);
        return;
    }
    conn->state = CONN_HANDSHAKE;
    conn->tls = redis_tls_begin(conn->target->tls, conn->ctx, conn->target->host);
    if (conn->tls)
        handshake(conn);
    else
        go_down_ctx(conn);
}

static void on_write(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_conn *conn = w->data;
    if (conn->state == CONN_CONNECTING)
        on_connected(conn);
    else if (conn->state == CONN_HANDSHAKE)
        handshake(conn);
    else if (conn->state != CONN_IDLE)
        send_output(conn);
}

/* Commands of one turn leave in one write. */
static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_conn *conn = w->data;
    if (conn->unsent && conn->state == CONN_UP && !ev_is_active(&conn->write))
        send_output(conn);
}

static void connect_now(struct redis_conn *conn)
{
    const struct redis_target *target = conn->target;
    if (!redis_target_is_known(target))
        return; /* it tells when it is */
    if (target->tls_only && !target->tls) {
        go_down(conn, "the certificates cannot be used");
        return;
    }
    conn->ctx = target->path ? redisConnectUnixNonBlock(target->path)
                             : redisConnectNonBlock(target->host, (int)target->port);
    if (!conn->ctx || conn->ctx->err) {
        go_down_ctx(conn);
        return;
    }
    fcntl(conn->ctx->fd, F_SETFD, FD_CLOEXEC);
    conn->state = CONN_CONNECTING;
    conn->unsent = false;
    ev_io_set(&conn->read, conn->ctx->fd, EV_READ);
    ev_io_set(&conn->write, conn->ctx->fd, EV_WRITE);
    ev_io_start(conn->loop, &conn->write);
    redis_conn_set_timer(conn, target->connect_timeout_s);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_conn *conn = w->data;
    switch (conn->state) {
    case CONN_IDLE:
        connect_now(conn);
        return;
    case CONN_CONNECTING:
        go_down(conn, "connecting took too long");
        return;
    case CONN_HANDSHAKE:
        go_down(conn, "the TLS handshake took too long");
        return;
    case CONN_LOGIN:
        go_down(conn, "no answer to the login");
        return;
    case CONN_UP:
        if (conn->pending_ring.count && !conn->paused)
            go_down(conn, "no answer in time");
        return;
    }
}

/* The target's: see struct redis_follower. */
static void on_target(void *arg, const char *why, bool moved)
{
    struct redis_conn *conn = arg;
    conn->moved |= moved;
    if (conn->state != CONN_IDLE)
        redis_conn_drop(conn, why);
    else if (conn->started && moved)
        retry_later(conn, false);
}

struct redis_conn *redis_conn_new(struct ev_loop *loop, struct redis_target *target,
                                  const char *name, const struct redis_conn_handler *handler,
                                  void *arg, struct metrics *metrics)
{
    struct redis_conn *conn = mem_zero(1, sizeof(*conn));
    conn->loop = loop;
    conn->target = target;
    conn->follower = (struct redis_follower){.drop = on_target, .arg = conn};
    TAILQ_INSERT_TAIL(&target->followers, &conn->follower, link);
    conn->name = mem_dup(name, strlen(name));
    conn->handler = handler;
    conn->arg = arg;
    conn->metrics = metrics;
    conn->retry_ms = RETRY_FIRST_MS;
    ev_init(&conn->read, on_read);
    ev_init(&conn->write, on_write);
    ev_init(&conn->timer, on_timer);
    ev_prepare_init(&conn->flush, on_flush);
    conn->read.data = conn->write.data = conn->timer.data = conn->flush.data = conn;
    /* After every other watcher that may still queue a command in this turn: else it would wait for
     * the next. */
    ev_set_priority(&conn->flush, EV_MINPRI);
    ev_prepare_start(loop, &conn->flush);
    return conn;
}

void redis_conn_free(struct redis_conn *conn)
{
    if (!conn)
        return;
    TAILQ_REMOVE(&conn->target->followers, &conn->follower, link);
    close_context(conn);
    ev_prepare_stop(conn->loop, &conn->flush);
    free(conn->pending);
    free(conn->name);
    free(conn);
}

void redis_conn_start(struct redis_conn *conn)
{
    conn->started = true;
    connect_now(conn);
}

void redis_conn_drop(struct redis_conn *conn, const char *why)
{
    if (conn->in_callback) {
        snprintf(conn->why, sizeof(conn->why), "%s", why);
        conn->drop_wanted = true;
    } else if (conn->state != CONN_IDLE) {
        go_down(conn, why);
    }
}

bool redis_conn_is_up(const struct redis_conn *conn)
{
    return conn->state == CONN_UP;
}

void redis_conn_pause(struct redis_conn *conn, bool paused)
{
    if (conn->paused == paused)
        return;
    conn->paused = paused;
    if (conn->state != CONN_UP)
        return;
    if (paused) {
        ev_io_stop(conn->loop, &conn->read);
    } else {
        ev_io_start(conn->loop, &conn->read);
        ev_feed_event(conn->loop, &conn->read, EV_READ); /* hiredis may hold replies already */
    }
}
