/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests, within bounds: how large one may be, how many bytes are held of all of them,
 * and codings undone. */
#include <string.h>

#include "common/clock.h"
#include "common/gunzip.h"
#include "relay/http/front_parts.h"

/* Of a body with a Content-Encoding, as it came and plain: 7 ms of the worker, 15 on a busy machine
 * (zlib 1.2.13; JSON, 4 letters at random, and empty members of gzip cost the same). */
enum { CODED_MAX_BYTES = 2 * 1024 * 1024 };

static const struct discipline_refusal too_large = {
    413,
    "the body is larger than this relay takes (eight times max_event_bytes, or "
    "publish.max_held_bytes)",
    false};
static const struct discipline_refusal too_large_coded = {
    413,
    "the body is larger than this relay takes with a Content-Encoding (2 MB, as it came and "
    "plain); "
    "send it without",
    false};
/* A POST may be refused: whoever publishes can try again, unlike an EventSource. */
static const struct discipline_refusal too_many = {
    503, "this node has as many request bodies under way as it may; try again", false};
static const struct discipline_refusal not_coded = {
    400, "Content-Encoding: the body is not what it says, or not whole", false};

static size_t max_bytes(const struct front_call *call)
{
    size_t max = call->front->limits.max_body_bytes;
    bool coded = call->request->facts.coding != DISCIPLINE_PLAIN;
    return coded && max > CODED_MAX_BYTES ? CODED_MAX_BYTES : max;
}

static const struct discipline_refusal *refuse_large(const struct front_call *call)
{
    return max_bytes(call) < call->front->limits.max_body_bytes ? &too_large_coded : &too_large;
}

static const struct discipline_refusal *refuse_many(struct front *front)
{
    uint64_t held;
    metrics_add(front->metrics, M_HTTP_BODIES_REFUSED, 1);
    if (log_limit_pass(&front->body_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "too many request bodies at a time; refusing some", "requests",
                log_u64(front->bodies), "bytes", log_u64(atomic_load(front->held_bytes)),
                "not_logged", log_u64(held), NULL);
    return &too_many;
}

/* --- what is held ---------------------------------------------------------------------------- */

/* How many bytes more may be held; those of other workers come and go meanwhile. */
static size_t room(const struct front *front)
{
    size_t held = atomic_load(front->held_bytes), max = front->limits.max_held_bytes;
    return held < max ? max - held : 0;
}

void front_body_hold(struct front_call *call, size_t len)
{
    atomic_fetch_add(call->front->held_bytes, len);
    metrics_add(call->front->metrics, M_HTTP_BODY_BYTES, len);
    call->request->held += len;
}

void front_body_let_go(struct front_call *call, size_t len)
{
    atomic_fetch_sub(call->front->held_bytes, len);
    metrics_sub(call->front->metrics, M_HTTP_BODY_BYTES, len);
    call->request->held -= len;
}

size_t front_body_room(const struct front_call *call)
{
    return room(call->front);
}

void front_body_drop(struct front_call *call)
{
    buf_reset(&call->request->body);
    front_body_let_go(call, call->request->held);
}

/* --- from its first byte to its last -----------------------------------------------------------
 */

const struct discipline_refusal *front_body_begin(struct front_call *call)
{
    struct front *front = call->front;
    struct front_request *request = call->request;
    uint64_t announced = request->facts.content_length;
    request->has_body = announced || request->facts.body == DISCIPLINE_CHUNKED;
    if (!request->has_body)
        return NULL;
    front->bodies++;
    if (announced > max_bytes(call))
        return refuse_large(call);
    if (front->bodies > front->limits.max_others / 2 || announced > room(front))
        return refuse_many(front);
    return NULL;
}

/* Whether the body of such a request means anything. */
static bool is_looked_at(const struct front_request *request)
{
    return strcmp(request->method, "POST") == 0 || strcmp(request->method, "PATCH") == 0;
}

void front_body_add(struct front_call *call, const char *bytes, size_t len)
{
    struct front_request *request = call->request;
    if (!is_looked_at(request))
        return;
    request->too_large |= request->body.len + len > max_bytes(call);
    request->too_many |= len > room(call->front);
    if (request->too_large || request->too_many) {
        front_body_drop(call); /* libmicrohttpd takes an answer only at the body's end */
        return;
    }
    front_body_hold(call, len);
    buf_put(&request->body, bytes, len);
}

/* Both are held while the one is made of the other. */
static const struct discipline_refusal *decode(struct front_call *call)
{
    struct front_request *request = call->request;
    enum gunzip_coding coding =
        request->facts.coding == DISCIPLINE_GZIP ? GUNZIP_GZIP : GUNZIP_DEFLATE;
    size_t max = max_bytes(call), left = room(call->front);
    struct buf plain = {0};
    enum err e = gunzip_decode(buf_slice(&request->body), coding, max < left ? max : left, &plain);
    front_body_drop(call);
    if (e == OK) {
        front_body_hold(call, plain.len);
        request->body = plain;
        return NULL;
    }
    buf_reset(&plain);
    if (e == ERR_FULL)
        return max <= left ? refuse_large(call) : refuse_many(call->front);
    return &not_coded;
}

const struct discipline_refusal *front_body_end(struct front_call *call)
{
    const struct front_request *request = call->request;
    if (request->too_large)
        return refuse_large(call);
    if (request->too_many)
        return refuse_many(call->front);
    bool coded = request->has_body && request->facts.coding != DISCIPLINE_PLAIN;
    return coded && is_looked_at(request) ? decode(call) : NULL;
}
