/* SPDX-License-Identifier: Apache-2.0 */
/* Driving libmicrohttpd: when it runs, and what it leaves alone meanwhile. All other parts of front
 * stand on this one. */
#include "common/clock.h"
#include "relay/http/front_parts.h"
#include "relay/kit/timer.h"

enum { RUNS_PER_TURN = 64 };

/* libmicrohttpd reads a request's header into at most half of a connection's pool. What it makes of
 * it must fit in too: the pairs, a copy of the cookies, and our answer's header. */
size_t front_drive_pool_bytes(const struct front_limits *limits)
{
    return 2 * limits->max_header_bytes + (limits->max_parameters + HEADERS_EXPECTED) * PAIR_BYTES +
           ANSWER_BYTES;
}

/* --- running --------------------------------------------------------------------------------- */

/* A resume needs up to three passes before its connection moves. When many have ended, 0.9.75 may
 * close some of them only in the next pass, and does not say that it needs one. */
static void run(struct front *front)
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
    run(w->data);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    run(w->data);
}

void front_drive_start(struct front *front)
{
    int fd = MHD_get_daemon_info(front->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    ev_io_init(&front->epoll, on_epoll, fd, EV_READ);
    ev_init(&front->again, on_again);
    front->epoll.data = front->again.data = front;
    ev_io_start(front->loop, &front->epoll);
}

void front_drive_stop(struct front *front)
{
    ev_io_stop(front->loop, &front->epoll);
    ev_timer_stop(front->loop, &front->again);
}

/* On 0.9.75 a resume wakes nothing: the daemon must be run by hand. */
void front_drive_run_soon(struct front *front)
{
    ev_feed_event(front->loop, &front->epoll, EV_READ);
}

/* --- suspending ------------------------------------------------------------------------------ */

void front_drive_suspend(struct front_call *call)
{
    if (call->suspended)
        return;
    MHD_suspend_connection(call->connection);
    call->suspended = true;
    wheel_cancel(&call->peer->deadline);
    LIST_INSERT_HEAD(&call->front->suspended, call, parked_link);
}

void front_drive_resume(struct front_call *call)
{
    if (!call->suspended)
        return;
    front_hangup_forget(call);
    call->suspended = false;
    LIST_REMOVE(call, parked_link);
    if (call->state != CALL_PIPING)
        wheel_set(call->front->wheel, &call->peer->deadline, clock_mono_ms() + REQUEST_DEADLINE_MS);
    MHD_resume_connection(call->connection);
    front_drive_run_soon(call->front);
}
