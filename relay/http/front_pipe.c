/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that are given out as they come. libmicrohttpd hands out what it has read; what is not
 * taken stays in its buffer, the connection is suspended, and the peer is slowed down by TCP. It
 * takes an answer only before a body or behind it: one that comes in between goes past it, and the
 * connection is read for a while, as a close with unread bytes would be a reset, which may overtake
 * the answer. */
#include <sys/socket.h>
#include <time.h>

#include "common/clock.h"
#include "relay/http/front_parts.h"

enum { LINGER_MS = 2000 }; /* for a peer that has been answered, and does not end its body */

/* --- bodies ----------------------------------------------------------------------------------- */

const struct discipline_refusal *front_pipe_begin(struct front_call *call)
{
    static const struct discipline_refusal coded = {
        415, "Content-Encoding: a body that is published as it arrives has none", true};
    struct front *front = call->front;
    if (call->request->facts.body == DISCIPLINE_NO_BODY || !front->handler->pipes(front->arg, call))
        return NULL;
    call->request->piped = true;
    if (call->request->facts.coding != DISCIPLINE_PLAIN)
        return &coded;
    call->state = CALL_PIPING;
    call->seen = true;
    front->calls++;
    return NULL;
}

/* Its time is the handler's to bound. */
void front_pipe_start(struct front_call *call)
{
    call->request->begun = true;
    wheel_cancel(&call->peer->deadline);
    if (call->request->flows)
        return;
    call->request->recalled = true;
    front_drive_suspend(call);
}

size_t front_pipe_add(struct front_call *call, const char *bytes, size_t len)
{
    struct front *front = call->front;
    size_t taken = front->handler->body(front->arg, call, (struct slice){bytes, len});
    if (call->request->early)
        return len;
    call->request->flows = taken == len;
    if (taken < len)
        front_drive_suspend(call);
    return taken;
}

bool front_is_piped(const struct front_call *call)
{
    return call->request->piped;
}

void front_body_go_on(struct front_call *call)
{
    call->request->flows = true;
    if (call->state == CALL_PIPING && call->request->begun)
        front_drive_resume(call);
}

/* --- answers before the end ------------------------------------------------------------------- */

/* RFC 9110, 5.6.7. */
static void put_date(struct buf *b)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)(clock_wall_us() / 1000000);
    struct tm t;
    gmtime_r(&now, &t);
    buf_printf(b, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[t.tm_wday], t.tm_mday,
               months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
}

/* The socket's buffer is empty but for a "100 Continue", and takes all of it. */
void front_pipe_answer(struct front_call *call, unsigned status, struct slice lines,
                       struct slice body)
{
    struct buf text = {0};
    buf_printf(&text, "HTTP/1.1 %u %s\r\nConnection: close\r\n", status,
               MHD_get_reason_phrase_for(status));
    put_date(&text);
    buf_put_slice(&text, lines);
    buf_printf(&text, "Content-Length: %zu\r\n\r\n", body.len);
    buf_put_slice(&text, body);
    (void)send(call->fd, text.ptr, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    buf_reset(&text);
    shutdown(call->fd, SHUT_WR);
    call->request->early = true;
    call->state = CALL_ANSWERED;
    front_drive_resume(call);
    wheel_set(call->front->wheel, &call->peer->deadline, clock_mono_ms() + LINGER_MS);
}
