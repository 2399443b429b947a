/* SPDX-License-Identifier: Apache-2.0 */
/* Connections are taken at a rate, and kept within a number. What is more waits in the kernel's
 * queue: a browser's EventSource gives up for good when it is refused, but not when it has to wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/http/front_parts.h"
#include "relay/kit/timer.h"

enum {
    ACCEPTS_PER_TURN = 64, /* so that events are sent in between */
    PAUSE_MS = 10,         /* at least: a storm's connections are taken by the handful */
    FILES_PAUSE_MS = 100,  /* nobody tells when there are files again */
};

static void gate_pause(struct front_gate *gate, enum metric why, uint64_t wait_us)
{
    struct front *front = gate->front;
    double wait_s = (double)wait_us / 1e6, least_s = PAUSE_MS / 1e3;
    metrics_add(front->metrics, why, 1);
    ev_io_stop(front->loop, &gate->acceptable);
    timer_once(front->loop, &gate->pause, wait_s > least_s ? wait_s : least_s);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct front_gate *gate = w->data;
    ev_timer_stop(loop, w);
    ev_io_start(loop, &gate->acceptable);
}

/* Mostly EMFILE and ENFILE: the kernel keeps the connection for us until there is a file. */
static void gate_failed(struct front_gate *gate, int error)
{
    struct front *front = gate->front;
    uint64_t held;
    front_peer_evict(front);
    if (log_limit_pass(&front->accept_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "cannot accept connections for the moment; they wait", "error",
                strerror(error), "not_logged", log_u64(held), NULL);
    gate_pause(gate, M_ACCEPT_PAUSE_FILES, FILES_PAUSE_MS * 1000);
}

static void gate_crowded(struct front_gate *gate)
{
    struct front *front = gate->front;
    uint64_t held;
    if (!front_peer_evict(front) && log_limit_pass(&front->crowd_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "too many connections that are not streams; new ones wait", "connections",
                log_u64(front->other_count), "not_logged", log_u64(held), NULL);
    gate_pause(gate, M_ACCEPT_PAUSE_CONNECTIONS, 0);
}

/* False: no more in this turn. */
static bool gate_accept(struct front_gate *gate)
{
    struct front *front = gate->front;
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    int fd = accept4(gate->fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        if (MHD_add_connection(front->daemon, fd, (struct sockaddr *)&addr, len) == MHD_YES)
            metrics_add(front->metrics, M_ACCEPTED, 1); /* else it has closed the socket */
        if (front->limits.handover)
            front_drive_run_soon(
                front); /* with MHD_USE_TURBO it tries first, and watches only then */
        return true;
    }
    bucket_return(&gate->bucket);
    switch (errno) {
    case EAGAIN:
        return false;
    case EBADF:
    case EINVAL:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        gate_failed(gate, errno);
        return false;
    default:
        return true; /* an error of that one connection: accept(2) */
    }
}

static void on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    struct front_gate *gate = w->data;
    struct front *front = gate->front;
    uint64_t now_us = clock_mono_us();
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        bool crowded = front->other_count >= front->limits.max_others;
        if (crowded || !bucket_take(&gate->bucket, now_us)) {
            if (i > 0)
                return; /* perhaps nobody waits any more: the next turn knows */
            if (crowded)
                gate_crowded(gate);
            else
                gate_pause(gate, M_ACCEPT_PAUSE_RATE, bucket_wait_us(&gate->bucket, now_us));
            return;
        }
        if (!gate_accept(gate))
            return;
    }
}

void front_gate_open(struct front *front, const int *listen_fds, size_t count)
{
    front->gates = mem_zero(count, sizeof(*front->gates));
    front->gate_count = count;
    for (size_t i = 0; i < count; i++) {
        struct front_gate *gate = &front->gates[i];
        gate->front = front;
        gate->fd = listen_fds[i];
        bucket_set(&gate->bucket, front->limits.accept_rate, clock_mono_us());
        ev_io_init(&gate->acceptable, on_acceptable, gate->fd, EV_READ);
        ev_init(&gate->pause, on_pause_over);
        gate->acceptable.data = gate->pause.data = gate;
        ev_io_start(front->loop, &gate->acceptable);
    }
}

void front_gate_configure(struct front *front)
{
    for (size_t i = 0; i < front->gate_count; i++) {
        struct front_gate *gate = &front->gates[i];
        bucket_set(&gate->bucket, front->limits.accept_rate, clock_mono_us());
        if (ev_is_active(&gate->pause)) /* it was as long as the old rate made it */
            on_pause_over(front->loop, &gate->pause, 0);
    }
}

void front_gate_close(struct front *front)
{
    for (size_t i = 0; i < front->gate_count; i++) {
        ev_io_stop(front->loop, &front->gates[i].acceptable);
        ev_timer_stop(front->loop, &front->gates[i].pause);
        close(front->gates[i].fd);
    }
    free(front->gates);
    front->gates = NULL;
    front->gate_count = 0;
}
