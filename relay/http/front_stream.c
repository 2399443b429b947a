/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: the preamble, then the connection is parked and its socket the handler's. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "relay/http/front_parts.h"
#include "relay/kit/timer.h"

/* libmicrohttpd allocates this for each stream as long as it has it: enough for a preamble. */
enum { STREAM_BLOCK = 64 };
enum { END_TIMEOUT_S = 60 }; /* any that is not the daemon's: end_content() */
/* Each resume makes libmicrohttpd walk all suspended connections (141 us at 9,000): so they are
 * resumed together. */
static const double END_BATCH_S = 0.02;

/* --- parking --------------------------------------------------------------------------------- */

static void stream_begins(struct front_call *call)
{
    struct front *front = call->front;
    call->state = CALL_STREAMING;
    front_call_free_request(call);
    front->handler->stream(front->arg, call, call->fd);
}

static void park_suspended(struct front_call *call)
{
    front_drive_suspend(call);
    front_memory_slim(call);
    stream_begins(call);
}

/* A duplicate of the socket is ours from here on; libmicrohttpd closes its own and forgets the
 * connection. Without a file for the duplicate: false, the connection stays. */
static bool park_handed_over(struct front_call *call)
{
    struct front *front = call->front;
    int fd = fcntl(call->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return false;
    wheel_cancel(&call->peer->deadline); /* nobody may shut it down any more */
    call->fd = fd;
    call->handed_over = true;
    LIST_INSERT_HEAD(&front->handed_over, call, parked_link);
    metrics_add(front->metrics, M_CONNECTIONS, 1); /* the peer's own is taken off when it goes */
    stream_begins(call);
    return true;
}

/* At an end "with error" libmicrohttpd closes its socket and writes nothing more: the last chunk is
 * the handler's. But it closes only when it comes by again, and it comes by only at connections
 * with a time-out of their own, and at the oldest of the others, up to the first that is open: one
 * that idles would keep the sockets of all streams that end. */
static ssize_t end_content(struct front_call *call)
{
    MHD_set_connection_option(call->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                              (unsigned)END_TIMEOUT_S);
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* libmicrohttpd asks for the stream's next bytes: once or more for the preamble, which it makes
 * chunks of where the body has some, then, with all of that in the kernel, to be told that it has
 * no more to do, and, if it was suspended, once more at the end. */
static ssize_t on_content(void *cls, uint64_t pos, char *out, size_t max)
{
    struct front_call *call = cls;
    if (call->state == CALL_PREAMBLE && pos < call->request->preamble.len) {
        struct slice rest = buf_slice(&call->request->preamble);
        size_t left = rest.len - (size_t)pos;
        size_t n = left < max ? left : max;
        memcpy(out, rest.ptr + pos, n);
        return (ssize_t)n;
    }
    if (call->state == CALL_ENDING)
        return end_content(call);
    if (call->front->stopping)
        return MHD_CONTENT_READER_END_OF_STREAM; /* nobody else has written anything */
    if (call->state == CALL_PREAMBLE) {
        if (call->front->limits.handover && park_handed_over(call))
            return end_content(call);
        park_suspended(call);
    }
    return 0;
}

void front_stream(struct front_call *call, const struct front_header *headers, size_t count,
                  struct slice preamble)
{
    buf_put_slice(&call->request->preamble, preamble);
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_content, call, NULL);
    bool head = slice_is(front_method(call), "HEAD");
    /* By itself libmicrohttpd makes chunks where the client knows them; also of no body at all, so
     * that 0.9.75 answers HEAD with a last chunk. */
    if (call->chunked && !head)
        MHD_add_response_header(response, "Connection", "close");
    else
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    call->state = CALL_PREAMBLE;
    if (!head) {
        call->stream = true;
        call->request->sent = response;
        front_peer_set_state(call->peer, PEER_STREAM);
    }
    front_call_answer(call, 200, response, headers, count);
}

/* --- ending ---------------------------------------------------------------------------------- */

static void end_handed_over(struct front_call *call)
{
    int fd = call->fd;
    metrics_sub(call->front->metrics, M_CONNECTIONS, 1);
    front_call_over(call);
    close(fd);
}

void front_stream_on_end_batch(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct front *front = w->data;
    struct front_call *call;
    while ((call = TAILQ_FIRST(&front->ending))) {
        TAILQ_REMOVE(&front->ending, call, ending_link);
        if (call->handed_over)
            end_handed_over(call);
        else
            front_drive_resume(call);
    }
}

void front_end(struct front_call *call)
{
    struct front *front = call->front;
    if (call->state != CALL_STREAMING)
        return;
    call->state = CALL_ENDING;
    TAILQ_INSERT_TAIL(&front->ending, call, ending_link);
    if (!ev_is_active(&front->end_batch)) {
        timer_once(front->loop, &front->end_batch, END_BATCH_S);
    }
}

void front_stream_end_handed_over(struct front *front)
{
    struct front_call *call;
    while ((call = LIST_FIRST(&front->handed_over)))
        end_handed_over(call);
}
