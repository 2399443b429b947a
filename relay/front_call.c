/* Requests and their answers. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/front_parts.h"

enum { STREAM_BLOCK = 512 }; /* libmicrohttpd allocates this per stream */

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
    call->peer->call = call;
    peer_set_state(call->peer, PEER_BUSY);
    wheel_set(front->wheel, &call->peer->deadline, front_now_ms() + REQUEST_DEADLINE_MS);
    return call;
}

static void body_drop(struct front_call *call)
{
    buf_reset(&call->body);
    atomic_fetch_sub(call->front->held_bytes, call->held);
    metrics_sub(call->front->metrics, M_HTTP_BODY_BYTES, call->held);
    call->held = 0;
}

static void call_free(struct front_call *call)
{
    if (call->response)
        MHD_destroy_response(call->response);
    body_drop(call);
    call->front->bodies -= call->has_body;
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
        call_suspend(call); /* the answer comes later */
    return MHD_YES;
}

static enum MHD_Result queue_response(struct front_call *call)
{
    struct MHD_Response *response = call->response;
    call->response = NULL;
    enum MHD_Result rc = MHD_queue_response(call->connection, call->status, response);
    MHD_destroy_response(response);
    return rc;
}

/* --- bodies ---------------------------------------------------------------------------------- */

static void reply_problem(struct front_call *call, unsigned status, const char *text)
{
    static const struct front_header headers[] = {{"Content-Type", "application/problem+json"},
                                                  {"Retry-After", "1"}};
    struct buf body = {0};
    buf_puts(&body, text);
    call->state = CALL_HANDLING;
    call->in_handler = true;
    front_reply(call, status, headers, status == 503 ? 2 : 1, &body);
    call->in_handler = false;
}

static void reply_too_large(struct front_call *call)
{
    reply_problem(
        call, 413,
        "{\"title\":\"Content Too Large\",\"status\":413,\"detail\":\"the body is larger "
        "than this relay takes (eight times max_event_bytes, or publish.max_held_bytes)\"}");
}

/* A POST may be refused: whoever publishes can try again, unlike an EventSource. */
static void reply_too_many(struct front_call *call)
{
    uint64_t held;
    struct front *front = call->front;
    metrics_add(front->metrics, M_HTTP_BODIES_REFUSED, 1);
    if (log_limit_pass(&front->body_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "too many request bodies at a time; refusing some", "requests",
                log_u64(front->bodies), "bytes", log_u64(atomic_load(front->held_bytes)),
                "not_logged", log_u64(held), NULL);
    reply_problem(call, 503,
                  "{\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"this node has as "
                  "many request bodies under way as it may; try again\"}");
}

static bool body_fits(const struct front *front, uint64_t more)
{
    size_t held = atomic_load(front->held_bytes), max = front->limits.max_held_bytes;
    return held <= max && more <= max - held;
}

/* Answers at once where the headers tell that it is too much. */
static void body_begin(struct front_call *call)
{
    struct front *front = call->front;
    struct slice text = front_header(call, "Content-Length");
    uint64_t announced = 0;
    if (text.ptr && slice_u64(text, UINT64_MAX, &announced))
        announced = 0; /* libmicrohttpd refuses it */
    call->has_body = announced || front_header(call, "Transfer-Encoding").ptr;
    if (!call->has_body)
        return;
    front->bodies++;
    if (announced > front->limits.max_body_bytes)
        reply_too_large(call);
    else if (front->bodies > front->limits.max_others / 2 || !body_fits(front, announced))
        reply_too_many(call);
}

static void body_add(struct front_call *call, const char *bytes, size_t len)
{
    struct front *front = call->front;
    call->too_large |= call->body.len + len > front->limits.max_body_bytes;
    call->too_many |= !body_fits(front, len);
    if (call->too_large || call->too_many) {
        body_drop(call); /* libmicrohttpd takes an answer only at the body's end */
        return;
    }
    atomic_fetch_add(front->held_bytes, len);
    metrics_add(front->metrics, M_HTTP_BODY_BYTES, len);
    call->held += len;
    buf_put(&call->body, bytes, len);
}

/* --- libmicrohttpd's callbacks -----------------------------------------------------------------
 */

/* libmicrohttpd calls this when the headers are there, for each piece of the body, at the body's
 * end, and after a resume. */
enum MHD_Result front_on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **req_cls)
{
    (void)version;
    struct front *front = cls;
    struct front_call *call = *req_cls;
    if (!call) {
        *req_cls = call = call_new(front, connection, method, url);
        body_begin(call);
        return MHD_YES;
    }
    if (front->stopping)
        return MHD_NO; /* nobody would answer any more */
    if (call->response)
        return queue_response(call);
    if (call->state != CALL_READING)
        return MHD_YES;
    if (*upload_size) {
        body_add(call, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    if (call->too_large)
        reply_too_large(call);
    else if (call->too_many)
        reply_too_many(call);
    else
        return handle(call);
    return MHD_YES;
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

void front_on_completed(void *cls, struct MHD_Connection *connection, void **req_cls,
                        enum MHD_RequestTerminationCode code)
{
    (void)connection;
    struct front *front = cls;
    struct front_call *call = *req_cls;
    if (!call)
        return;
    *req_cls = NULL;
    front->completed++;
    if (call->seen) {
        front->calls--;
        front->handler->over(front->arg, call);
    }
    if (call->suspended)
        LIST_REMOVE(call, suspended_link);
    call->peer->call = NULL;
    peer_set_state(call->peer, PEER_IDLE);
    wheel_set(front->wheel, &call->peer->deadline, front_now_ms() + IDLE_DEADLINE_MS);
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
        call_resume(call);
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
        body_drop(call);
        call_suspend(call);
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
    if (!slice_is(front_method(call), "HEAD"))
        peer_set_state(call->peer, PEER_STREAM);
    answer(call, 200, response, headers, count);
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
