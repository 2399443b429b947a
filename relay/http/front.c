/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/front.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/http/front_parts.h"
#include "relay/kit/timer.h"

enum { WHEEL_TICK_MS = 500 };

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct front *front = w->data;
    wheel_advance(front->wheel, clock_mono_ms());
}

/* --- life ------------------------------------------------------------------------------------ */

static void quiet(void *cls, const char *format, va_list args)
{
    (void)cls, (void)format,
        (void)args; /* its messages are about peers' broken requests: counted as 4xx */
}

static void watchers_start(struct front *front)
{
    front_drive_start(front);
    ev_timer_init(&front->tick, on_tick, WHEEL_TICK_MS / 1000., WHEEL_TICK_MS / 1000.);
    ev_init(&front->end_batch, front_stream_on_end_batch);
    front->tick.data = front->end_batch.data = front;
    ev_timer_start(front->loop, &front->tick);
}

static void watchers_stop(struct front *front)
{
    front_drive_stop(front);
    ev_timer_stop(front->loop, &front->tick);
    ev_timer_stop(front->loop, &front->end_batch);
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
    return MHD_start_daemon(
        flags, 0, NULL, NULL, front_call_on_request, front, MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
        MHD_OPTION_CONNECTION_LIMIT, limits->max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        front->pool_bytes, MHD_OPTION_NOTIFY_COMPLETED, front_call_on_completed, front,
        MHD_OPTION_NOTIFY_CONNECTION, front_peer_on_connection, front, MHD_OPTION_URI_LOG_CALLBACK,
        front_call_on_target, front, MHD_OPTION_END);
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
    front->pool_bytes = front_drive_pool_bytes(limits);
    front->lax = front_judge_is_lax();
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
    front->wheel = wheel_new(WHEEL_TICK_MS, clock_mono_ms(), front_peer_on_deadline, front);
    watchers_start(front);
    front_gate_open(front, listen_fds, count);
    return front;
}

void front_configure(struct front *front, const struct front_limits *limits)
{
    front->limits.accept_rate = limits->accept_rate;
    front->limits.idle_ms = limits->idle_ms;
    front->limits.max_body_bytes = limits->max_body_bytes;
    front->limits.max_held_bytes = limits->max_held_bytes;
    front_gate_configure(front);
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
    front_gate_close(front);
    front->stopping = true;
    front_stream_end_handed_over(front);
    while ((call = LIST_FIRST(&front->suspended))) {
        if (call->state == CALL_HANDLING ||
            call->state == CALL_PIPING) /* its answer will not come any more */
            shutdown(call->peer->fd, SHUT_RDWR);
        else
            call->state = CALL_ENDING;
        front_drive_resume(call);
    }
    for (int i = 0; i < 4; i++)
        MHD_run(front->daemon);
    watchers_stop(front);
    MHD_stop_daemon(front->daemon);
    wheel_free(front->wheel);
    free(front);
}
