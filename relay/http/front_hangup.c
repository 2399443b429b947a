/* SPDX-License-Identifier: Apache-2.0 */
/* Who hangs up while an answer is due. libmicrohttpd does not touch a suspended connection, and
 * would notice only when it sends the answer. Nearly every answer comes within milliseconds: so
 * only a call that waits longer, or will as far as its handler knows, has its socket watched. */
#include <errno.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "relay/http/front_parts.h"

enum { PATIENCE_MS = 500 };

/* A peer that has only closed its sending half looks the same as one that is gone. */
static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)revents;
    struct front_call *call = w->data;
    char byte;
    ssize_t n = recv(call->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    ev_io_stop(loop, w); /* bytes are the next request: libmicrohttpd's, after the answer */
    if (n <= 0)
        call->front->handler->gone(call->front->arg, call);
}

void front_hangup_watch(struct front_call *call)
{
    ev_io *w = &call->request->hangup;
    ev_io_init(w, on_readable, call->fd, EV_READ);
    w->data = call;
    ev_io_start(call->front->loop, w);
}

void front_hangup_expect(struct front_call *call)
{
    if (call->request->slow)
        front_hangup_watch(call);
    else
        wheel_set(call->front->wheel, &call->peer->deadline, clock_mono_ms() + PATIENCE_MS);
}

void front_hangup_forget(struct front_call *call)
{
    if (call->request)
        ev_io_stop(call->front->loop, &call->request->hangup);
}

void front_expect_slow(struct front_call *call)
{
    call->request->slow = true;
}
