#include "relay/redis_conn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/log.h"

enum {
    READS_PER_TURN = 16, /* of 16 KB: reading and flushing alternate */
    RETRY_FIRST_MS = 50,
    RETRY_MAX_MS = 5000,
};
static const double CONNECT_TIMEOUT_S = 5.0;
static const double REPLY_TIMEOUT_S = 10.0; /* without a byte while an answer is due */

enum conn_state { CONN_IDLE, CONN_CONNECTING, CONN_LOGIN, CONN_UP };

struct pending {
    redis_done done;
    void *arg;
};

struct redis_conn {
    struct ev_loop *loop;
    const struct redis_url *url;
    char *name;
    const struct redis_conn_handler *handler;
    void *arg;
    struct metrics *metrics;
    enum conn_state state;
    bool paused, in_callback, drop_wanted;
    bool ever_up;
    bool unsent; /* hiredis holds output */
    unsigned login_left;
    uint64_t retry_ms;
    char why[256]; /* why it went down */
    struct log_limit down_limit;
    redisContext *ctx;
    struct pending *pending; /* ring of answers due */
    size_t pending_cap, pending_head, pending_count;
    ev_io read, write;
    ev_timer timer; /* by state: reconnect, connect timeout, reply timeout */
    ev_prepare flush;
};

/* --- replies -------------------------------------------------------------------------------- */

static const redisReply *raw(const struct redis_reply *reply)
{
    return (const redisReply *)(const void *)reply;
}

enum redis_type redis_reply_type(const struct redis_reply *reply)
{
    switch (raw(reply)->type) {
    case REDIS_REPLY_INTEGER:
        return REDIS_INTEGER;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return REDIS_STRING;
    case REDIS_REPLY_ERROR:
        return REDIS_ERROR;
    case REDIS_REPLY_ARRAY:
        return REDIS_ARRAY;
    default: /* hiredis's own numbers: RESP3 adds some, which RESP2 never sends */
        return REDIS_NIL;
    }
}

struct slice redis_reply_text(const struct redis_reply *reply)
{
    enum redis_type type = redis_reply_type(reply);
    if (type != REDIS_STRING && type != REDIS_ERROR)
        return SLICE_NONE;
    return (struct slice){raw(reply)->str, (size_t)raw(reply)->len};
}

int64_t redis_reply_number(const struct redis_reply *reply)
{
    uint64_t n;
    if (redis_reply_type(reply) == REDIS_INTEGER)
        return raw(reply)->integer;
    if (redis_reply_type(reply) == REDIS_STRING &&
        slice_u64(redis_reply_text(reply), INT64_MAX, &n) == OK)
        return (int64_t)n;
    return -1;
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_ARRAY ? raw(reply)->elements : 0;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t i)
{
    assert(i < redis_reply_count(reply));
    return (const struct redis_reply *)(const void *)raw(reply)->element[i];
}

bool redis_reply_is_error(const struct redis_reply *reply, const char *prefix)
{
    return redis_reply_type(reply) == REDIS_ERROR &&
           slice_has_prefix(redis_reply_text(reply), slice_of(prefix));
}

/* --- pending answers ------------------------------------------------------------------------ */

static void pending_put(struct redis_conn *conn, struct pending p)
{
    if (conn->pending_count == conn->pending_cap) {
        size_t cap = conn->pending_cap ? conn->pending_cap * 2 : 64;
        struct pending *ring = mem_alloc(cap * sizeof(*ring));
        for (size_t i = 0; i < conn->pending_count; i++)
            ring[i] = conn->pending[(conn->pending_head + i) % conn->pending_cap];
        free(conn->pending);
        conn->pending = ring;
        conn->pending_cap = cap;
        conn->pending_head = 0;
    }
    conn->pending[(conn->pending_head + conn->pending_count++) % conn->pending_cap] = p;
}

static struct pending pending_take(struct redis_conn *conn)
{
    struct pending p = conn->pending[conn->pending_head];
    conn->pending_head = (conn->pending_head + 1) % conn->pending_cap;
    conn->pending_count--;
    return p;
}

/* --- going down and coming back ------------------------------------------------------------- */

static void set_timer(struct redis_conn *conn, double seconds)
{
    ev_timer_stop(conn->loop, &conn->timer);
    ev_timer_set(&conn->timer, seconds, 0.);
    ev_timer_start(conn->loop, &conn->timer);
}

static void close_context(struct redis_conn *conn)
{
    ev_io_stop(conn->loop, &conn->read);
    ev_io_stop(conn->loop, &conn->write);
    ev_timer_stop(conn->loop, &conn->timer);
    if (conn->ctx)
        redisFree(conn->ctx);
    conn->ctx = NULL;
    conn->state = CONN_IDLE;
    /* Callbacks may send again: that fails as the state is idle. */
    while (conn->pending_count) {
        struct pending p = pending_take(conn);
        if (p.done)
            p.done(p.arg, NULL);
    }
}

static void go_down(struct redis_conn *conn, const char *why)
{
    snprintf(conn->why, sizeof(conn->why), "%s", why);
    bool was_up = conn->state == CONN_UP;
    close_context(conn);
    uint64_t skipped = 0;
    if (was_up || log_limit_pass(&conn->down_limit, clock_mono_us(), &skipped))
        log_put(LOG_WARN,
                was_up ? "Redis connection lost, reconnecting"
                       : "cannot reach Redis yet, trying on",
                "connection", conn->name, "reason", conn->why, "attempts_not_logged",
                log_u64(skipped), NULL);
    conn->handler->down(conn->arg, conn->why);
    if (was_up)
        conn->retry_ms = RETRY_FIRST_MS;
    /* Between half and all of the interval, so that many nodes do not come at once. */
    double jitter = 0.5 + 0.5 * (double)(random() % 1000) / 1000.0;
    set_timer(conn, (double)conn->retry_ms / 1000.0 * jitter);
    conn->retry_ms = conn->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : conn->retry_ms * 2;
}

/* hiredis leaves errstr empty for some system errors. */
static void go_down_ctx(struct redis_conn *conn)
{
    char why[160];
    snprintf(why, sizeof(why), "%s",
             conn->ctx && conn->ctx->errstr[0] ? conn->ctx->errstr : "connection closed");
    go_down(conn, why);
}

static void went_up(struct redis_conn *conn)
{
    conn->state = CONN_UP;
    if (conn->paused)
        ev_io_stop(conn->loop, &conn->read);
    conn->retry_ms = RETRY_FIRST_MS;
    ev_timer_stop(conn->loop, &conn->timer);
    if (conn->ever_up)
        metrics_add(conn->metrics, M_REDIS_RECONNECTS, 1);
    log_put(LOG_INFO, conn->ever_up ? "Redis connection is back" : "connected to Redis",
            "connection", conn->name, NULL);
    conn->ever_up = true;
    conn->down_limit = (struct log_limit){0};
    conn->handler->up(conn->arg);
}

/* --- login ---------------------------------------------------------------------------------- */

static bool append(struct redis_conn *conn, const struct slice *argv, size_t argc)
{
    const char *small_ptr[32] = {NULL};
    size_t small_len[32] = {0};
    const char **ptr = argc > 32 ? mem_alloc(argc * sizeof(*ptr)) : small_ptr;
    size_t *len = argc > 32 ? mem_alloc(argc * sizeof(*len)) : small_len;
    for (size_t i = 0; i < argc; i++) {
        ptr[i] = argv[i].ptr;
        len[i] = argv[i].len;
    }
    int rc = redisAppendCommandArgv(conn->ctx, (int)argc, ptr, len);
    if (argc > 32) {
        free(ptr);
        free(len);
    }
    metrics_add(conn->metrics, M_REDIS_COMMANDS, 1);
    conn->unsent = true;
    return rc == REDIS_OK;
}

static void on_login(void *arg, const struct redis_reply *reply)
{
    struct redis_conn *conn = arg;
    conn->login_left--;
    if (!reply || conn->state != CONN_LOGIN)
        return;
    /* CLIENT SETNAME is a courtesy: an ACL may forbid it. It is always the last. */
    if (conn->login_left > 0 && redis_reply_type(reply) == REDIS_ERROR) {
        struct slice text = redis_reply_text(reply);
        snprintf(conn->why, sizeof(conn->why), "Redis refused the login: %.*s", (int)text.len,
                 text.ptr);
        conn->drop_wanted = true;
        return;
    }
    if (conn->login_left == 0 && !conn->drop_wanted)
        went_up(conn);
}

static void login_send(struct redis_conn *conn, const struct slice *argv, size_t argc)
{
    if (append(conn, argv, argc)) {
        pending_put(conn, (struct pending){on_login, conn});
        conn->login_left++;
    }
}

static void login(struct redis_conn *conn)
{
    const struct redis_url *url = conn->url;
    conn->state = CONN_LOGIN;
    conn->login_left = 0;
    if (url->password && url->user)
        login_send(
            conn, (struct slice[]){SLICE_LIT("AUTH"), slice_of(url->user), slice_of(url->password)},
            3);
    else if (url->password)
        login_send(conn, (struct slice[]){SLICE_LIT("AUTH"), slice_of(url->password)}, 2);
    if (url->db) {
        char db[16];
        snprintf(db, sizeof(db), "%u", url->db);
        login_send(conn, (struct slice[]){SLICE_LIT("SELECT"), slice_of(db)}, 2);
    }
    char name[64];
    snprintf(name, sizeof(name), "sse-relay-%s", conn->name);
    login_send(conn, (struct slice[]){SLICE_LIT("CLIENT"), SLICE_LIT("SETNAME"), slice_of(name)},
               3);
}

/* --- I/O ------------------------------------------------------------------------------------ */

/* A callback asked for the connection to go; now that none is running it may. */
static bool drop_if_wanted(struct redis_conn *conn)
{
    if (!conn->drop_wanted)
        return false;
    conn->drop_wanted = false;
    char why[256];
    snprintf(why, sizeof(why), "%s", conn->why);
    go_down(conn, why);
    return true;
}

static void dispatch(struct redis_conn *conn, redisReply *reply)
{
    const struct redis_reply *view = (const struct redis_reply *)(const void *)reply;
    conn->in_callback = true;
    /* A subscribed connection's answers are pushes; it has commands of its own only while it logs
     * in. */
    if (conn->pending_count) {
        struct pending p = pending_take(conn);
        if (reply->type == REDIS_REPLY_ERROR)
            metrics_add(conn->metrics, M_REDIS_ERRORS, 1);
        if (p.done)
            p.done(p.arg, view);
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

static void on_read(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_conn *conn = w->data;
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
    if (conn->state == CONN_UP) {
        if (conn->pending_count)
            set_timer(conn, REPLY_TIMEOUT_S);
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
    if (conn->url->host) {
        int on = 1;
        setsockopt(conn->ctx->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(conn->ctx->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    ev_io_stop(conn->loop, &conn->write);
    ev_io_start(conn->loop, &conn->read);
    login(conn);
    send_output(conn);
}

static void on_write(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_conn *conn = w->data;
    if (conn->state == CONN_CONNECTING)
        on_connected(conn);
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
    const struct redis_url *url = conn->url;
    conn->ctx = url->path ? redisConnectUnixNonBlock(url->path)
                          : redisConnectNonBlock(url->host, (int)url->port);
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
    set_timer(conn, CONNECT_TIMEOUT_S);
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
    case CONN_LOGIN:
        go_down(conn, "no answer to the login");
        return;
    case CONN_UP:
        if (conn->pending_count && !conn->paused)
            go_down(conn, "no answer for 10 s");
        return;
    }
}

struct redis_conn *redis_conn_new(struct ev_loop *loop, const struct redis_url *url,
                                  const char *name, const struct redis_conn_handler *handler,
                                  void *arg, struct metrics *metrics)
{
    struct redis_conn *conn = mem_zero(1, sizeof(*conn));
    conn->loop = loop;
    conn->url = url;
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
    close_context(conn);
    ev_prepare_stop(conn->loop, &conn->flush);
    free(conn->pending);
    free(conn->name);
    free(conn);
}

void redis_conn_start(struct redis_conn *conn)
{
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

bool redis_conn_send(struct redis_conn *conn, const struct slice *argv, size_t argc,
                     redis_done done, void *arg)
{
    if (conn->state != CONN_UP || !append(conn, argv, argc))
        return false;
    if (conn->pending_count == 0)
        set_timer(conn, REPLY_TIMEOUT_S);
    pending_put(conn, (struct pending){done, arg});
    return true;
}

bool redis_conn_send_push(struct redis_conn *conn, const struct slice *argv, size_t argc)
{
    return conn->state == CONN_UP && append(conn, argv, argc);
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
