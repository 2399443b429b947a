#include "relay/front.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/wheel.h"

enum {
    HEADER_DEADLINE_MS =
        10000, /* from the connection's start to the end of its first request's headers */
    REQUEST_DEADLINE_MS = 30000, /* from there to the end of the answer, streams apart */
    IDLE_DEADLINE_MS = 75000,    /* between requests */
    WHEEL_TICK_MS = 500,
    RUNS_PER_TURN = 64,
    STREAM_BLOCK = 512,   /* libmicrohttpd allocates this per stream */
    POOL_OVERHEAD = 4096, /* of a connection's pool beside the request's header: parsed pairs, our
                             answer's header */
};
/* Each resume makes libmicrohttpd walk all suspended connections (141 us at 9,000): so they are
 * resumed together. */
static const double END_BATCH_S = 0.02;

struct peer;
LIST_HEAD(call_list, front_call);
TAILQ_HEAD(ending_list, front_call);

struct front {
    struct ev_loop *loop;
    struct MHD_Daemon *daemon;
    const struct front_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct front_limits limits;
    struct wheel *wheel;
    struct call_list suspended;
    struct ending_list ending;
    size_t calls;  /* that the handler has seen and that are not over */
    bool stopping; /* nothing may be suspended any more */
    ev_io epoll;
    ev_timer tick, end_batch, again;
};

/* One TCP connection. */
struct peer {
    struct wheel_entry deadline; /* first: the wheel hands this pointer back */
    struct front *front;
    int fd;
};

enum call_state {
    CALL_READING,
    CALL_HANDLING,
    CALL_ANSWERED,
    CALL_PREAMBLE,
    CALL_STREAMING,
    CALL_ENDING
};

struct front_call {
    struct front *front;
    struct MHD_Connection *connection;
    struct peer *peer;
    enum call_state state;
    bool suspended, in_handler, too_large;
    bool seen; /* by the handler: it is told when the call is over */
    char *method, *path;
    struct buf body, preamble;
    struct request_pair *query;
    size_t query_count;
    struct request_view view;
    struct MHD_Response *response; /* made while suspended, queued after the resume */
    unsigned status;
    void *user;
    LIST_ENTRY(front_call) suspended_link;
    TAILQ_ENTRY(front_call) ending_link;
};

static uint64_t now_ms(void)
{
    return clock_mono_us() / 1000;
}

/* --- driving libmicrohttpd ------------------------------------------------------------------- */

/* A resume needs up to three passes before its connection moves. */
static void front_run(struct front *front)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    int runs = 0;
    do {
        MHD_run(front->daemon);
    } while (++runs < RUNS_PER_TURN && MHD_get_timeout(front->daemon, &timeout) == MHD_YES &&
             timeout == 0);
    if (runs == RUNS_PER_TURN) {
        /* After the streams' flush: feeding an event here would be served before it, for ever. */
        ev_timer_set(&front->again, 0., 0.);
        ev_timer_start(front->loop, &front->again);
    }
}

static void on_epoll(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    front_run(w->data);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    front_run(w->data);
}

/* On 0.9.75 a resume wakes nothing: the daemon must be run by hand. */
static void run_soon(struct front *front)
{
    ev_feed_event(front->loop, &front->epoll, EV_READ);
}

static void suspend(struct front_call *call)
{
    if (call->suspended)
        return;
    MHD_suspend_connection(call->connection);
    call->suspended = true;
    wheel_cancel(&call->peer->deadline);
    LIST_INSERT_HEAD(&call->front->suspended, call, suspended_link);
}

static void resume(struct front_call *call)
{
    if (!call->suspended)
        return;
    call->suspended = false;
    LIST_REMOVE(call, suspended_link);
    wheel_set(call->front->wheel, &call->peer->deadline, now_ms() + REQUEST_DEADLINE_MS);
    MHD_resume_connection(call->connection);
    run_soon(call->front);
}

static void on_end_batch(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct front *front = w->data;
    struct front_call *call;
    while ((call = TAILQ_FIRST(&front->ending))) {
        TAILQ_REMOVE(&front->ending, call, ending_link);
        resume(call);
    }
}

/* --- connections ----------------------------------------------------------------------------- */

static void on_deadline(struct wheel_entry *entry, void *arg)
{
    struct front *front = arg;
    struct peer *peer = (struct peer *)entry;
    metrics_add(front->metrics, M_HTTP_TIMEOUTS, 1);
    shutdown(peer->fd, SHUT_RDWR); /* libmicrohttpd notices, and closes */
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct front *front = w->data;
    wheel_advance(front->wheel, now_ms());
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct front *front = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        struct peer *peer = mem_zero(1, sizeof(*peer));
        peer->front = front;
        peer->fd =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        wheel_set(front->wheel, &peer->deadline, now_ms() + HEADER_DEADLINE_MS);
        metrics_add(front->metrics, M_CONNECTIONS, 1);
        *socket_context = peer;
    } else if (*socket_context) {
        struct peer *peer = *socket_context;
        wheel_cancel(&peer->deadline);
        metrics_sub(front->metrics, M_CONNECTIONS, 1);
        free(peer);
        *socket_context = NULL;
    }
}

/* --- requests -------------------------------------------------------------------------------- */

static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key,
                                 size_t key_size, const char *value, size_t value_size)
{
    (void)kind;
    struct front_call *call = cls;
    call->query = mem_resize(call->query, (call->query_count + 1) * sizeof(*call->query));
    call->query[call->query_count++] =
        (struct request_pair){{key, key_size}, {value ? value : "", value ? value_size : 0}};
    return MHD_YES;
}

static struct front_call *call_new(struct front *front, struct MHD_Connection *connection,
                                   const char *method, const char *path)
{
    struct front_call *call = mem_zero(1, sizeof(*call));
    call->front = front;
    call->connection = connection;
    call->peer =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    call->method = mem_dup(method, strlen(method));
    call->path = mem_dup(path, strlen(path));
    wheel_set(front->wheel, &call->peer->deadline, now_ms() + REQUEST_DEADLINE_MS);
    return call;
}

static void call_free(struct front_call *call)
{
    if (call->response)
        MHD_destroy_response(call->response);
    buf_reset(&call->body);
    buf_reset(&call->preamble);
    free(call->query);
    free(call->method);
    free(call->path);
    free(call);
}

static enum MHD_Result handle(struct front_call *call)
{
    MHD_get_connection_values_n(call->connection, MHD_GET_ARGUMENT_KIND, add_query, call);
    call->view = (struct request_view){.query = call->query,
                                       .query_count = call->query_count,
                                       .last_event_id = front_header(call, "Last-Event-ID"),
                                       .content_type = front_header(call, "Content-Type"),
                                       .body = buf_slice(&call->body)};
    call->state = CALL_HANDLING;
    call->seen = true;
    call->front->calls++;
    call->in_handler = true;
    call->front->handler->request(call->front->arg, call);
    call->in_handler = false;
    if (call->state == CALL_HANDLING)
        suspend(call); /* the answer comes later */
    return MHD_YES;
}

static bool announces_too_much(const struct front_call *call)
{
    uint64_t length;
    struct slice text = front_header(call, "Content-Length");
    return text.ptr && slice_u64(text, UINT64_MAX, &length) == OK &&
           length > call->front->limits.max_body_bytes;
}

static enum MHD_Result queue_response(struct front_call *call)
{
    struct MHD_Response *response = call->response;
    call->response = NULL;
    enum MHD_Result rc = MHD_queue_response(call->connection, call->status, response);
    MHD_destroy_response(response);
    return rc;
}

static const char too_large_text[] =
    "{\"title\":\"Content Too Large\",\"status\":413,\"detail\":\"the body is larger than this "
    "relay takes "
    "(eight times max_event_bytes)\"}";

static void reply_too_large(struct front_call *call)
{
    static const struct front_header type = {"Content-Type", "application/problem+json"};
    struct buf body = {0};
    buf_puts(&body, too_large_text);
    call->state = CALL_HANDLING;
    call->in_handler = true;
    front_reply(call, 413, &type, 1, &body);
    call->in_handler = false;
}

/* libmicrohttpd calls this when the headers are there, for each piece of the body, at the body's
 * end, and after a resume. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **req_cls)
{
    (void)version;
    struct front *front = cls;
    struct front_call *call = *req_cls;
    if (!call) {
        *req_cls = call = call_new(front, connection, method, url);
        if (announces_too_much(call))
            reply_too_large(call);
        return MHD_YES;
    }
    if (front->stopping)
        return MHD_NO; /* nobody would answer any more */
    if (call->response)
        return queue_response(call);
    if (call->state != CALL_READING)
        return MHD_YES;
    if (*upload_size) {
        call->too_large |= call->body.len + *upload_size > front->limits.max_body_bytes;
        if (!call->too_large)
            buf_put(&call->body, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    if (call->too_large) {
        reply_too_large(call);
        return MHD_YES;
    }
    return handle(call);
}

/* A peer that sends its request and the end of its sending at once: libmicrohttpd takes the bytes,
 * and the edge that told of both is gone; it would wait for the next request until the idle
 * deadline. Another edge, and it reads the end. */
static void notice_end(int fd)
{
    char byte;
    if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        shutdown(fd, SHUT_RD);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **req_cls,
                         enum MHD_RequestTerminationCode code)
{
    (void)connection;
    struct front *front = cls;
    struct front_call *call = *req_cls;
    if (!call)
        return;
    *req_cls = NULL;
    if (call->seen) {
        front->calls--;
        front->handler->over(front->arg, call);
    }
    if (call->suspended)
        LIST_REMOVE(call, suspended_link);
    wheel_set(front->wheel, &call->peer->deadline, now_ms() + IDLE_DEADLINE_MS);
    if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        notice_end(call->peer->fd);
    call_free(call);
}

/* --- answers --------------------------------------------------------------------------------- */

static void count_status(struct front *front, unsigned status)
{
    enum metric which = status < 400 ? M_HTTP_2XX : status < 500 ? M_HTTP_4XX : M_HTTP_5XX;
    metrics_add(front->metrics, which, 1);
}

static void answer(struct front_call *call, unsigned status, struct MHD_Response *response,
                   const struct front_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        MHD_add_response_header(response, headers[i].name, headers[i].value);
    count_status(call->front, status);
    call->response = response;
    call->status = status;
    if (call->in_handler)
        (void)queue_response(call);
    else
        resume(call);
}

void front_reply(struct front_call *call, unsigned status, const struct front_header *headers,
                 size_t count, struct buf *body)
{
    size_t len = 0;
    char *bytes = body ? buf_take(body, &len) : NULL;
    struct MHD_Response *response =
        bytes ? MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE)
              : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    call->state = CALL_ANSWERED;
    answer(call, status, response, headers, count);
}

/* libmicrohttpd asks for the stream's next bytes: once for the preamble, then, with all of that in
 * the kernel, to be told that the socket is ours now, and once more at the end. */
static ssize_t on_content(void *cls, uint64_t pos, char *out, size_t max)
{
    struct front_call *call = cls;
    if (pos < call->preamble.len) {
        size_t left = call->preamble.len - (size_t)pos;
        size_t n = left < max ? left : max;
        memcpy(out, call->preamble.ptr + pos, n);
        return (ssize_t)n;
    }
    if (call->state == CALL_ENDING || call->front->stopping)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (call->state == CALL_PREAMBLE) {
        call->state = CALL_STREAMING;
        buf_reset(&call->body);
        suspend(call);
        call->front->handler->stream(call->front->arg, call, call->peer->fd);
    }
    return 0;
}

void front_stream(struct front_call *call, const struct front_header *headers, size_t count,
                  struct slice preamble)
{
    buf_put_slice(&call->preamble, preamble);
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_content, call, NULL);
    /* An HTTP/1.1 answer of unknown length, not chunked, which ends with the connection. */
    MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    call->state = CALL_PREAMBLE;
    answer(call, 200, response, headers, count);
}

void front_end(struct front_call *call)
{
    struct front *front = call->front;
    if (call->state != CALL_STREAMING)
        return;
    call->state = CALL_ENDING;
    TAILQ_INSERT_TAIL(&front->ending, call, ending_link);
    if (!ev_is_active(&front->end_batch)) {
        ev_timer_set(&front->end_batch, END_BATCH_S, 0.);
        ev_timer_start(front->loop, &front->end_batch);
    }
}

/* --- accessors ------------------------------------------------------------------------------- */

int front_fd(const struct front_call *call)
{
    return call->peer->fd;
}

struct slice front_method(const struct front_call *call)
{
    return slice_of(call->method);
}

struct slice front_path(const struct front_call *call)
{
    return slice_of(call->path);
}

struct slice front_header(const struct front_call *call, const char *name)
{
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(call->connection, MHD_HEADER_KIND, name, strlen(name), &value,
                                      &len) != MHD_YES ||
        !value)
        return SLICE_NONE;
    return (struct slice){value, len};
}

const struct request_view *front_view(const struct front_call *call)
{
    return &call->view;
}

void front_set_user(struct front_call *call, void *user)
{
    call->user = user;
}

void *front_user(const struct front_call *call)
{
    return call->user;
}

/* --- life ------------------------------------------------------------------------------------ */

static void quiet(void *cls, const char *format, va_list args)
{
    (void)cls, (void)format,
        (void)args; /* its messages are about peers' broken requests: counted as 4xx */
}

static void watchers_start(struct front *front)
{
    int fd = MHD_get_daemon_info(front->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    ev_io_init(&front->epoll, on_epoll, fd, EV_READ);
    ev_timer_init(&front->tick, on_tick, WHEEL_TICK_MS / 1000., WHEEL_TICK_MS / 1000.);
    ev_init(&front->end_batch, on_end_batch);
    ev_init(&front->again, on_again);
    front->epoll.data = front->tick.data = front->end_batch.data = front->again.data = front;
    ev_io_start(front->loop, &front->epoll);
    ev_timer_start(front->loop, &front->tick);
}

struct front *front_new(struct ev_loop *loop, int listen_fd, const struct front_limits *limits,
                        const struct front_handler *handler, void *arg, struct metrics *metrics)
{
    struct front *front = mem_zero(1, sizeof(*front));
    front->loop = loop;
    front->handler = handler;
    front->arg = arg;
    front->metrics = metrics;
    front->limits = *limits;
    LIST_INIT(&front->suspended);
    TAILQ_INIT(&front->ending);
    front->wheel = wheel_new(WHEEL_TICK_MS, now_ms(), on_deadline, front);
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    front->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, front, MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT, limits->max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits->max_header_bytes + POOL_OVERHEAD,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, front, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, front, MHD_OPTION_END);
    if (!front->daemon) {
        wheel_free(front->wheel);
        free(front);
        return NULL;
    }
    watchers_start(front);
    return front;
}

size_t front_calls(const struct front *front)
{
    return front->calls;
}

void front_free(struct front *front)
{
    if (!front)
        return;
    /* libmicrohttpd aborts the process if a connection is suspended when it stops. */
    struct front_call *call;
    front->stopping = true;
    while ((call = LIST_FIRST(&front->suspended))) {
        if (call->state == CALL_HANDLING) /* its answer will not come any more */
            shutdown(call->peer->fd, SHUT_RDWR);
        else
            call->state = CALL_ENDING;
        call->suspended = false;
        LIST_REMOVE(call, suspended_link);
        MHD_resume_connection(call->connection);
    }
    for (int i = 0; i < 4; i++)
        MHD_run(front->daemon);
    ev_io_stop(front->loop, &front->epoll);
    ev_timer_stop(front->loop, &front->tick);
    ev_timer_stop(front->loop, &front->end_batch);
    ev_timer_stop(front->loop, &front->again);
    MHD_stop_daemon(front->daemon);
    wheel_free(front->wheel);
    free(front);
}
