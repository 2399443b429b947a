/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and their answers. */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/http/front_parts.h"

/* --- requests -------------------------------------------------------------------------------- */

static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key,
                                 size_t key_size, const char *value, size_t value_size)
{
    (void)kind;
    struct front_request *request = cls;
    request->query =
        mem_resize(request->query, (request->query_count + 1) * sizeof(*request->query));
    request->query[request->query_count++] =
        (struct request_pair){{key, key_size}, {value ? value : "", value ? value_size : 0}};
    return MHD_YES;
}

static struct front_peer *peer_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static struct front_call *call_new(struct front *front, struct MHD_Connection *connection,
                                   const char *method, const char *path, const char *version)
{
    struct front_call *call = mem_zero(1, sizeof(*call));
    call->front = front;
    call->connection = connection;
    call->peer = peer_of(connection);
    call->fd = call->peer->fd;
    call->chunked = strcmp(version, "HTTP/1.1") >= 0; /* all versions are written alike */
    call->request = mem_zero(1, sizeof(*call->request));
    call->request->raw_method = method;
    call->request->raw_path = path;
    call->request->method = mem_dup(method, strlen(method));
    call->request->target = call->peer->target;
    call->peer->target = NULL;
    call->peer->call = call;
    front_peer_set_state(call->peer, PEER_BUSY);
    wheel_set(front->wheel, &call->peer->deadline, clock_mono_ms() + REQUEST_DEADLINE_MS);
    return call;
}

void front_call_free_request(struct front_call *call)
{
    struct front_request *request = call->request;
    if (!request)
        return;
    front_hangup_forget(call);
    if (request->response)
        MHD_destroy_response(request->response);
    front_body_drop(call);
    call->front->bodies -= request->has_body;
    buf_reset(&request->preamble);
    free(request->query);
    free(request->method);
    free(request->target);
    buf_reset(&request->path);
    free(request);
    call->request = NULL;
}

void front_call_over(struct front_call *call)
{
    struct front *front = call->front;
    if (call->seen) {
        front->calls--;
        front->handler->over(front->arg, call);
    }
    if (call->suspended || call->handed_over)
        LIST_REMOVE(call, parked_link);
    front_call_free_request(call);
    free(call);
}

/* All but the body. */
static void make_view(struct front_call *call)
{
    struct front_request *request = call->request;
    MHD_get_connection_values_n(call->connection, MHD_GET_ARGUMENT_KIND, add_query, request);
    request->view = (struct request_view){.query = request->query,
                                          .query_count = request->query_count,
                                          .last_event_id = request->facts.last_event_id,
                                          .content_type = request->facts.content_type,
                                          .slow = request->facts.slow,
                                          .buffer = request->facts.buffer};
}

static enum MHD_Result handle(struct front_call *call)
{
    call->request->view.body = buf_slice(&call->request->body);
    call->state = CALL_HANDLING;
    call->front->calls += !call->seen;
    call->seen = true;
    call->in_handler = true;
    call->front->handler->request(call->front->arg, call);
    call->in_handler = false;
    if (call->state == CALL_HANDLING) { /* the answer comes later */
        front_drive_suspend(call);
        front_hangup_expect(call);
    }
    return MHD_YES;
}

static enum MHD_Result queue_response(struct front_call *call)
{
    struct MHD_Response *response = call->request->response;
    call->request->response = NULL;
    enum MHD_Result rc = MHD_queue_response(call->connection, call->request->status, response);
    MHD_destroy_response(response);
    return rc;
}

/* --- what is refused ------------------------------------------------------------------------- */

static void refuse(struct front_call *call, const struct discipline_refusal *why)
{
    call->request->close |= why->close;
    call->request->names_codings = why->status == 415 && !call->request->piped;
    call->state = CALL_HANDLING;
    call->in_handler = true;
    call->front->handler->refuse(call->front->arg, call, why->status, why->detail);
    call->in_handler = false;
}

/* libmicrohttpd has room for more than is allowed: what it makes of a header needs some. */
static bool header_fits(const struct front_call *call)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return !info || info->header_size <= call->front->limits.max_header_bytes;
}

static const struct discipline_refusal header_too_large = {
    431, "the request line and the headers are larger than this relay takes (max_header_bytes)",
    true};

/* Before any of the body is read: the message by itself, then whether its handler wants it. */
static void begin(struct front_call *call, const char *version)
{
    struct front *front = call->front;
    const struct discipline_refusal *why =
        header_fits(call) ? front_judge_message(call, version) : &header_too_large;
    if (!why)
        why = front_pipe_begin(call);
    if (!why && !call->request->piped)
        why = front_body_begin(call);
    if (why) {
        refuse(call, why);
        return;
    }
    make_view(call);
    call->in_handler = true;
    front->handler->begin(front->arg, call);
    call->in_handler = false;
    if (call->state == CALL_PIPING)
        front_pipe_start(call);
}

static size_t count_parameters(const char *target)
{
    const char *at = strchr(target, '?');
    size_t count = at != NULL;
    while (at && (at = strchr(at + 1, '&')))
        count++;
    return count;
}

/* Straight into the socket, past libmicrohttpd: it has nothing left to answer with. */
static void refuse_parameters(struct front_peer *peer, size_t count)
{
    struct buf body = {0}, detail = {0}, text = {0};
    buf_printf(&detail,
               "the query has %zu parameters, more than there is room for: see max_topics, and "
               "max_header_bytes",
               count);
    request_put_problem(&body, 400, buf_slice(&detail));
    buf_printf(&text,
               "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nCache-Control: no-store\r\n"
               "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n\r\n",
               body.len);
    buf_put(&text, body.ptr, body.len);
    metrics_add(peer->front->metrics, M_HTTP_4XX, 1); /* before anybody can know */
    (void)send(peer->fd, text.ptr, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(peer->fd, SHUT_WR);
    peer->refused = true;
    buf_reset(&detail);
    buf_reset(&body);
    buf_reset(&text);
}

/* --- libmicrohttpd's callbacks -----------------------------------------------------------------
 */

/* It calls this before it parses the query, each of whose parameters takes PAIR_BYTES of its pool.
 * When the pool is full it closes the connection, or forgets it, without an answer. */
void *front_call_on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct front *front = cls;
    front_judge_keep_target(peer_of(connection), target);
    size_t count = count_parameters(target);
    size_t need = strlen(target) + (count + HEADERS_EXPECTED) * PAIR_BYTES + ANSWER_BYTES;
    if (count && need > front->pool_bytes)
        refuse_parameters(peer_of(connection), count);
    return NULL; /* what front_call_on_request() finds first */
}

static enum MHD_Result pipe_on(struct front_call *call, const char *upload, size_t *upload_size)
{
    if (call->request->recalled) { /* resumed before its body: this is no end */
        call->request->recalled = false;
        if (!*upload_size)
            return MHD_YES;
    }
    if (!*upload_size)
        return handle(call);
    *upload_size -= front_pipe_add(call, upload, *upload_size);
    return MHD_YES;
}

/* Of a body whose request has been answered; the connection ends with it. */
static enum MHD_Result discard(size_t *upload_size)
{
    bool more = *upload_size > 0;
    *upload_size = 0;
    return more ? MHD_YES : MHD_NO;
}

/* libmicrohttpd calls this when the headers are there, for each piece of the body, at the body's
 * end, and after a resume. */
enum MHD_Result front_call_on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_size, void **req_cls)
{
    struct front *front = cls;
    struct front_call *call = *req_cls;
    if (!call) {
        if (peer_of(connection)->refused)
            return MHD_NO;
        *req_cls = call = call_new(front, connection, method, url, version);
        begin(call, version);
        return MHD_YES;
    }
    if (front->stopping)
        return MHD_NO; /* nobody would answer any more */
    if (call->request && call->request->response)
        return queue_response(call);
    if (call->state == CALL_PIPING)
        return pipe_on(call, upload, upload_size);
    if (call->request && call->request->early)
        return discard(upload_size);
    if (call->state != CALL_READING)
        return MHD_YES;
    if (*upload_size) {
        front_body_add(call, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    const struct discipline_refusal *why = front_body_end(call);
    if (!why)
        return handle(call);
    refuse(call, why);
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

void front_call_on_completed(void *cls, struct MHD_Connection *connection, void **req_cls,
                             enum MHD_RequestTerminationCode code)
{
    (void)connection;
    struct front *front = cls;
    struct front_call *call = *req_cls;
    if (!call)
        return;
    *req_cls = NULL;
    front->completed++;
    struct front_peer *peer = call->peer;
    peer->call = NULL;
    if (call->handed_over) { /* it lives on, without the connection and its peer */
        call->connection = NULL;
        call->peer = NULL;
        return;
    }
    front_call_over(call);
    front_peer_set_state(peer, PEER_IDLE);
    wheel_set(front->wheel, &peer->deadline, clock_mono_ms() + front->limits.idle_ms);
    if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        notice_end(peer->fd);
}

/* --- answers --------------------------------------------------------------------------------- */

static void count_status(struct front *front, unsigned status)
{
    enum metric which = status < 400 ? M_HTTP_2XX : status < 500 ? M_HTTP_4XX : M_HTTP_5XX;
    metrics_add(front->metrics, which, 1);
}

void front_call_answer(struct front_call *call, unsigned status, struct MHD_Response *response,
                       const struct front_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        MHD_add_response_header(response, headers[i].name, headers[i].value);
    if (call->request->names_codings) /* RFC 9110, 15.5.16 */
        MHD_add_response_header(response, "Accept-Encoding", "gzip, deflate");
    if (call->request->close)
        MHD_add_response_header(response, "Connection", "close");
    count_status(call->front, status);
    call->request->response = response;
    call->request->status = status;
    if (call->in_handler)
        (void)queue_response(call);
    else
        front_drive_resume(call);
}

/* libmicrohttpd takes no answer here. */
static void answer_early(struct front_call *call, unsigned status,
                         const struct front_header *headers, size_t count, struct slice body)
{
    struct buf lines = {0};
    for (size_t i = 0; i < count; i++)
        buf_printf(&lines, "%s: %s\r\n", headers[i].name, headers[i].value);
    count_status(call->front, status);
    front_pipe_answer(call, status, buf_slice(&lines), body);
    buf_reset(&lines);
}

void front_reply(struct front_call *call, unsigned status, const struct front_header *headers,
                 size_t count, struct buf *body)
{
    size_t len = 0;
    char *bytes = body ? buf_take(body, &len) : NULL;
    if (call->state == CALL_PIPING && call->request->begun) {
        answer_early(call, status, headers, count, (struct slice){bytes, len});
        free(bytes);
        return;
    }
    struct MHD_Response *response =
        bytes ? MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE)
              : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    call->state = CALL_ANSWERED;
    front_call_answer(call, status, response, headers, count);
}

/* --- accessors ------------------------------------------------------------------------------- */

bool front_is_stream(const struct front_call *call)
{
    return call->stream;
}

bool front_is_chunked(const struct front_call *call)
{
    return call->chunked;
}

struct slice front_method(const struct front_call *call)
{
    return slice_of(call->request->method);
}

struct slice front_path(const struct front_call *call)
{
    return buf_slice(&call->request->path);
}

struct slice front_host(const struct front_call *call)
{
    return call->request->facts.host;
}

struct slice front_header(const struct front_call *call, const char *name)
{
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(call->connection, MHD_HEADER_KIND, name, strlen(name), &value,
                                      &len) != MHD_YES ||
        !value)
        return SLICE_NONE;
    return slice_trim((struct slice){value, len}); /* 0.9.75 leaves what stands behind */
}

struct slice front_raw_path(const struct front_call *call)
{
    return call->request->facts.path;
}

uint64_t front_body_length(const struct front_call *call)
{
    const struct discipline_facts *facts = &call->request->facts;
    return facts->body == DISCIPLINE_CHUNKED  ? UINT64_MAX
           : facts->body == DISCIPLINE_LENGTH ? facts->content_length
                                              : 0;
}

struct each_header {
    const char *name;
    void (*each)(void *arg, struct slice value);
    void *arg;
};

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    const struct each_header *find = cls;
    if (value && slice_eq_nocase((struct slice){name, name_len}, find->name))
        find->each(find->arg, slice_trim((struct slice){value, value_len}));
    return MHD_YES;
}

void front_each_header(const struct front_call *call, const char *name,
                       void (*each)(void *arg, struct slice value), void *arg)
{
    struct each_header find = {name, each, arg};
    MHD_get_connection_values_n(call->connection, MHD_HEADER_KIND, on_header, &find);
}

void front_put_address(const struct front_call *call, struct buf *b)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getpeername(call->fd, (struct sockaddr *)&address, &len) == 0 &&
        getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        buf_puts(b, host);
    else
        buf_puts(b, "unknown");
}

bool front_is_gone(const struct front_call *call)
{
    char byte;
    ssize_t n = recv(call->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

const struct request_view *front_view(const struct front_call *call)
{
    return &call->request->view;
}

void front_set_user(struct front_call *call, void *user)
{
    call->user = user;
}

void *front_user(const struct front_call *call)
{
    return call->user;
}
