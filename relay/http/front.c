#include "relay/http/front.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/http/front_parts.h"
#include "relay/kit/timer.h"

enum {
    WHEEL_TICK_MS = 500,
    RUNS_PER_TURN = 64,
};

/* libmicrohttpd reads a request's header into at most half of a connection's pool. What it makes of
 * it must fit in too: the pairs, a copy of the cookies, and our answer's header. */
static size_t pool_bytes(const struct front_limits *limits)
{
    return 2 * limits->max_header_bytes + (limits->max_parameters + HEADERS_EXPECTED) * PAIR_BYTES +
           ANSWER_BYTES;
}

/* --- driving libmicrohttpd ------------------------------------------------------------------- */

/* A resume needs up to three passes before its connection moves. When many have ended, 0.9.75 may
 * close some of them only in the next pass, and does not say that it needs one. */
static void front_run(struct front *front)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    int runs = 0;
    bool again;
    do {
        size_t before = front->completed;
        MHD_run(front->daemon);
        again = front->completed != before ||
                (MHD_get_timeout(front->daemon, &timeout) == MHD_YES && timeout == 0);
    } while (++runs < RUNS_PER_TURN && again);
    if (again) {
        /* After the streams' flush: feeding an event here would be served before it, for ever. */
        timer_once(front->loop, &front->again, 0.);
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
void front_run_soon(struct front *front)
{
    ev_feed_event(front->loop, &front->epoll, EV_READ);
}

void call_suspend(struct front_call *call)
{
    if (call->suspended)
        return;
    MHD_suspend_connection(call->connection);
    call->suspended = true;
    wheel_cancel(&call->peer->deadline);
    LIST_INSERT_HEAD(&call->front->suspended, call, parked_link);
}

void call_resume(struct front_call *call)
{
    if (!call->suspended)
        return;
    call->suspended = false;
    LIST_REMOVE(call, parked_link);
    wheel_set(call->front->wheel, &call->peer->deadline, clock_mono_ms() + REQUEST_DEADLINE_MS);
    MHD_resume_connection(call->connection);
    front_run_soon(call->front);
}

/* --- deadlines ----------------------------------------------------------------------------- */

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
    wheel_advance(front->wheel, clock_mono_ms());
    front_trim(front);
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
    ev_init(&front->end_batch, front_on_end_batch);
    ev_init(&front->again, on_again);
    front->epoll.data = front->tick.data = front->end_batch.data = front->again.data = front;
    ev_io_start(front->loop, &front->epoll);
    ev_timer_start(front->loop, &front->tick);
}

static void watchers_stop(struct front *front)
{
    ev_io_stop(front->loop, &front->epoll);
    ev_timer_stop(front->loop, &front->tick);
    ev_timer_stop(front->loop, &front->end_batch);
    ev_timer_stop(front->loop, &front->again);
}

static struct MHD_Daemon *daemon_start(struct front *front)
{
    const struct front_limits *limits = &front->limits;
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    /* Without it libmicrohttpd shuts a connection down when it closes it: also for the duplicate.
     */
    if (limits->handover)
        flags |= MHD_USE_TURBO;
    return MHD_start_daemon(flags, 0, NULL, NULL, front_on_request, front,
                            MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL, MHD_OPTION_CONNECTION_LIMIT,
                            limits->max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            front->pool_bytes, MHD_OPTION_NOTIFY_COMPLETED, front_on_completed,
                            front, MHD_OPTION_NOTIFY_CONNECTION, front_on_connection, front,
                            MHD_OPTION_URI_LOG_CALLBACK, front_on_target, front, MHD_OPTION_END);
}

struct front *front_new(struct ev_loop *loop, const int *listen_fds, size_t count,
                        const struct front_limits *limits, atomic_size_t *held_bytes,
                        const struct front_handler *handler, void *arg, struct metrics *metrics)
{
    struct front *front = mem_zero(1, sizeof(*front));
    front->loop = loop;
    front->handler = handler;
    front->arg = arg;
    front->metrics = metrics;
    front->limits = *limits;
    front->pool_bytes = pool_bytes(limits);
    front->held_bytes = held_bytes;
    LIST_INIT(&front->suspended);
    LIST_INIT(&front->handed_over);
    TAILQ_INIT(&front->ending);
    TAILQ_INIT(&front->others);
    front->daemon = daemon_start(front);
    if (!front->daemon) {
        int error = errno;
        for (size_t i = 0; i < count; i++)
            close(listen_fds[i]);
        free(front);
        errno = error;
        return NULL;
    }
    front->wheel = wheel_new(WHEEL_TICK_MS, clock_mono_ms(), on_deadline, front);
    watchers_start(front);
    gates_open(front, listen_fds, count);
    return front;
}

void front_configure(struct front *front, const struct front_limits *limits)
{
    front->limits.accept_rate = limits->accept_rate;
    front->limits.max_body_bytes = limits->max_body_bytes;
    front->limits.max_held_bytes = limits->max_held_bytes;
    gates_configure(front);
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
    gates_close(front);
    front->stopping = true;
    front_end_handed_over(front);
    while ((call = LIST_FIRST(&front->suspended))) {
        if (call->state == CALL_HANDLING) /* its answer will not come any more */
            shutdown(call->peer->fd, SHUT_RDWR);
        else
            call->state = CALL_ENDING;
        call->suspended = false;
        LIST_REMOVE(call, parked_link);
        MHD_resume_connection(call->connection);
    }
    for (int i = 0; i < 4; i++)
        MHD_run(front->daemon);
    watchers_stop(front);
    MHD_stop_daemon(front->daemon);
    wheel_free(front->wheel);
    free(front);
}
