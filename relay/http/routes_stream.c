/* SPDX-License-Identifier: Apache-2.0 */
/* GET /events. */
#include <string.h>

#include "common/clock.h"
#include "relay/http/routes_parts.h"

enum { FULL_RETRIES = 5 }; /* who finds the node full comes back after as many times `retry` */

static void stream_headers(const struct routes *r, struct front_call *call,
                           struct routes_headers *h)
{
    /* It is UTF-8 in any case; not all clients know, and some take Latin-1 where nothing is said.
     */
    routes_header_add(h, "Content-Type", "text/event-stream; charset=utf-8");
    routes_header_add(h, "Cache-Control", "no-cache, no-transform");
    routes_header_add(h, "X-Accel-Buffering", "no");
    routes_header_add(h, "X-Content-Type-Options", "nosniff");
    routes_header_add_cors(r, call, h);
}

/* One line for both: not every cache reads a second one. */
static void add_vary(struct routes_headers *h)
{
    for (size_t i = 0; i < h->count; i++)
        if (strcmp(h->items[i].name, "Vary") == 0) {
            h->items[i].value = "Origin, Accept-Encoding";
            return;
        }
    routes_header_add(h, "Vary", "Accept-Encoding");
}

/* True: as gzip. Fixed for the stream's life, whatever is reloaded. */
static bool negotiate_gzip(const struct routes *r, struct front_call *call,
                           const struct subscription_request *request, struct routes_headers *h)
{
    if (!subscription_request_is_within(request, &r->config->compress))
        return false;
    add_vary(h);
    if (!request_accepts_gzip(front_header(call, "Accept-Encoding")))
        return false;
    routes_header_add(h, "Content-Encoding", "gzip");
    return true;
}

static void put_preamble(struct buf *b, uint64_t retry_ms)
{
    buf_printf(b, ":ok\nretry: %llu\n", (unsigned long long)retry_ms);
}

/* Native EventSource gives up for good after any status but 200: so a node that cannot take it
 * answers with one, a hint when to come back (perhaps to another node), and an end. */
static void stream_send_away(struct routes *r, struct front_call *call, uint64_t retry_ms)
{
    struct routes_headers h = {0};
    struct buf body = {0};
    stream_headers(r, call, &h);
    routes_header_add(&h, "Connection", "close");
    /* No blank line: one before any id makes an EventSource forget its last. */
    put_preamble(&body, retry_ms);
    front_reply(call, 200, h.items, h.count, &body);
}

/* --- full ------------------------------------------------------------------------------------- */

void routes_stream_configure(struct routes *r)
{
    double rate = (double)r->config->full_rate / (double)r->node->workers;
    bucket_set(&r->full_bucket, rate, clock_mono_us());
}

static void stream_refuse(struct routes *r, struct front_call *call)
{
    struct routes_headers h = {0};
    routes_header_add(&h, "Retry-After", "5");
    routes_reply_problem(r, call, 503,
                         SLICE_LIT("this node has as many streams as it may (max_clients, or its "
                                   "open-file limit); try again later"),
                         &h);
}

/* Each such answer costs a connection, and the client will be back: a few times later than usual,
 * when perhaps there is a place, and no more of them a second than the node can bear. */
static void stream_answer_full(struct routes *r, struct front_call *call)
{
    struct metrics *metrics = r->node->metrics[r->worker];
    uint64_t now_us = clock_mono_us(), held;
    bool told = r->config->full_rate && bucket_take(&r->full_bucket, now_us);
    if (log_limit_pass(&r->full_limit, now_us, &held))
        log_put(LOG_WARN, "full: new streams are told to come again later", "max_clients",
                log_u64(r->node->max_clients), "not_logged", log_u64(held), NULL);
    metrics_add(metrics, told ? M_FULL_TOLD : M_FULL_REFUSED, 1);
    if (told)
        stream_send_away(r, call, FULL_RETRIES * fanout_retry_hint(r->config));
    else
        stream_refuse(r, call);
}

/* --- accepted --------------------------------------------------------------------------------- */

static void accept_stream(struct routes *r, struct front_call *call,
                          struct subscription_request *request, bool head)
{
    struct routes_headers h = {0};
    struct buf plain = {0}, packed = {0};
    struct gzip_sum sum;
    stream_headers(r, call, &h);
    bool gzip = negotiate_gzip(r, call, request, &h);
    put_preamble(&plain, fanout_retry_hint(r->config));
    if (gzip)
        gzip_put_start(&packed, &sum, buf_slice(&plain));
    struct stream_form form = {.chunked = front_is_chunked(call), .sum = gzip ? &sum : NULL};
    if (!head)
        front_set_user(call, fanout_open(r->fanout, call, request, &form));
    front_stream(call, h.items, h.count, buf_slice(gzip ? &packed : &plain));
    buf_reset(&plain);
    buf_reset(&packed);
}

void routes_serve_events(struct routes *r, struct front_call *call)
{
    struct subscription_request request = {0};
    struct problem problem = {0};
    if (request_parse_stream(front_view(call), r->config, clock_wall_us(), &request, &problem)) {
        routes_reply_problem(r, call, problem.status, buf_slice(&problem.detail), NULL);
        buf_reset(&problem.detail);
        return;
    }
    bool head = slice_is(front_method(call), "HEAD");
    if (atomic_load(&r->node->draining))
        stream_send_away(r, call, fanout_retry_hint(r->config));
    else if (head || atomic_load(&r->node->clients) < r->node->max_clients)
        accept_stream(r, call, &request, head);
    else
        stream_answer_full(r, call);
    subscription_request_reset(&request);
}
