/* SPDX-License-Identifier: Apache-2.0 */
/* GET /events. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "relay/http/routes_parts.h"

enum { FULL_RETRIES = 5 }; /* who finds the node full comes back after as many times `retry` */

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

/* --- full ------------------------------------------------------------------------------------- */

void routes_stream_configure(struct routes *r)
{
    double rate = (double)r->config->full_rate / (double)r->node->workers;
    bucket_set(&r->full_bucket, rate, clock_mono_us());
}

static void stream_refuse(struct routes *r, const struct routes_visit *v)
{
    routes_refuse_later(r, v, 5,
                        SLICE_LIT("this node has as many streams as it may (max_clients, or its "
                                  "open-file limit); try again later"));
}

/* Each such answer costs a connection, and the client will be back: a few times later than usual,
 * when perhaps there is a place, and no more of them a second than the node can bear. */
static void stream_answer_full(struct routes *r, const struct routes_visit *v)
{
    struct metrics *metrics = r->node->metrics[r->worker];
    uint64_t now_us = clock_mono_us(), held;
    bool told = r->config->full_rate && bucket_take(&r->full_bucket, now_us);
    if (log_limit_pass(&r->full_limit, now_us, &held))
        log_put(LOG_WARN, "full: new streams are told to come again later", "max_clients",
                log_u64(r->node->max_clients), "not_logged", log_u64(held), NULL);
    metrics_add(metrics, told ? M_FULL_TOLD : M_FULL_REFUSED, 1);
    if (told)
        routes_reply_away(r, v->call, FULL_RETRIES * fanout_retry_hint(r->config));
    else
        stream_refuse(r, v);
}

bool routes_stream_is_turned_away(struct routes *r, const struct routes_visit *v)
{
    bool head = slice_is(front_method(v->call), "HEAD");
    if (atomic_load(&r->node->draining))
        routes_reply_away(r, v->call, fanout_retry_hint(r->config));
    else if (!head && atomic_load(&r->node->clients) >= r->node->max_clients)
        stream_answer_full(r, v);
    else
        return false;
    return true;
}

/* --- accepted --------------------------------------------------------------------------------- */

/* Opened; or, for HEAD, only answered as if it were. */
static void stream_accept(struct routes *r, struct routes_visit *v,
                          struct subscription_request *request, bool head)
{
    struct front_call *call = v->call;
    struct routes_headers h = {0};
    struct buf plain = {0}, packed = {0};
    struct gzip_sum sum;
    routes_header_add_stream(r, call, &h);
    bool gzip = negotiate_gzip(r, call, request, &h);
    routes_put_preamble(&plain, fanout_retry_hint(r->config));
    if (gzip)
        gzip_put_start(&packed, &sum, buf_slice(&plain));
    struct stream_form form = {.chunked = front_is_chunked(call),
                               .sum = gzip ? &sum : NULL,
                               .id = v->taken ? &v->id : NULL,
                               .ticket = v->taken ? v->ticket : NULL};
    if (!head)
        front_set_user(call, fanout_open(r->fanout, call, request, &form));
    front_stream(call, h.items, h.count, buf_slice(gzip ? &packed : &plain));
    buf_reset(&plain);
    buf_reset(&packed);
}

/* --- tickets ---------------------------------------------------------------------------------- */

static void return_ticket(struct routes *r, const struct routes_visit *v)
{
    struct strings args = {0};
    routes_put_ticket_args(r, v, &args);
    routes_arg_add_u64(&args, "unused", 1);
    routes_tell_store(r, "sse_ticket_end", grant_fields(v->grant)->ns, &args);
}

/* Things may have changed while it was taken. False: it goes back, and the request goes another
 * way.
 */
static bool is_still_good(struct routes *r, struct routes_visit *v)
{
    bool outdated = routes_visit_is_outdated(r, v);
    enum err revoked = admission_check_revoked(r->admission, v->grant);
    if (!outdated && !revoked)
        return true;
    return_ticket(r, v);
    if (outdated)
        routes_visit_anew(r, v);
    else if (revoked == ERR_AGAIN)
        routes_wait_trust(r, v);
    else
        routes_refuse(r, v, 401, SLICE_LIT("revoked"));
    return false;
}

static void on_taken(struct routes *r, struct routes_visit *v, struct note_call *answer)
{
    const struct strings *said = &answer->answer;
    struct metrics *metrics = r->node->metrics[r->worker];
    v->taken = !answer->error && said->count == 3 && strcmp(said->items[0], "ok") == 0;
    if (v->taken)
        routes_end_previous(r, said->items[2]);
    if (!v->taken || v->replaced) {
        metrics_add(metrics, M_TICKETS_REFUSED, 1);
        routes_refuse(r, v, 401, SLICE_LIT("the ticket has been used in between"));
    } else if (is_still_good(r, v)) {
        metrics_add(metrics, M_TICKETS_TAKEN, 1);
        routes_serve_events(r, v);
    }
}

/* The last step before the stream opens: nothing fails any more but by accident. */
static void take_ticket(struct routes *r, struct routes_visit *v)
{
    struct strings args = {0};
    if (front_is_gone(v->call)) { /* a suspended call hears no hang-up */
        routes_reply_away(r, v->call, fanout_retry_hint(r->config));
        return;
    }
    uint64_t cursor;
    char *ns = slice_dup(slice_of(grant_fields(v->grant)->ns));
    routes_put_ticket_args(r, v, &args);
    routes_arg_add_u64(&args, "cursor", request_cursor(front_view(v->call), &cursor));
    routes_wait_store(r, v, "sse_ticket_take", ns, &args, on_taken);
    free(ns);
}

/* --- GET /events, and routes ------------------------------------------------------------------ */

/* What the request did not say, and its route does, or the configuration. */
static void settle(const struct routes *r, const struct routes_visit *v,
                   struct subscription_request *request)
{
    if (v->hit.route) {
        flow_request_merge(&request->flow, &v->hit.flow);
        format_request_merge(&request->format, &v->hit.format);
    }
    request->event_format =
        format_request_settle(&request->format, r->config->events_type_from_topic);
}

static enum err read_request(const struct routes *r, const struct routes_visit *v,
                             const struct request_view *view, struct subscription_request *out,
                             struct problem *problem)
{
    enum err e = request_parse_stream(view, r->config, clock_wall_us(), out, problem);
    if (e == OK)
        settle(r, v, out);
    return e;
}

void routes_serve_events(struct routes *r, struct routes_visit *v)
{
    struct subscription_request request = {0};
    struct problem problem = {0};
    bool head = slice_is(front_method(v->call), "HEAD");
    struct request_view view = *front_view(v->call);
    view.grant = v->grant;
    view.topics = v->hit.route ? &v->hit.topics : NULL;
    view.topics_are_granted = v->hit.route && (v->hit.grants || v->hit.is_public);
    if (routes_stream_is_turned_away(r, v)) { /* it may have waited */
        if (v->taken)
            return_ticket(r, v);
    } else if (read_request(r, v, &view, &request, &problem)) {
        routes_refuse(r, v, problem.status, buf_slice(&problem.detail));
    } else if (!v->taken && routes_finite_waits(r, v, &request)) {
        /* it goes on from here, or there is nothing to come */
    } else if (v->ticket[0] && !v->taken && !head) {
        take_ticket(r, v);
    } else {
        if (v->hit.heartbeat_event)
            request.heartbeat_event = slice_dup(slice_of(v->hit.heartbeat_event));
        request.grant = v->grant ? grant_ref(v->grant) : NULL;
        request.route_grants = view.topics_are_granted;
        request.route_requires = v->hit.route && v->hit.needs_roles;
        stream_accept(r, v, &request, head);
    }
    buf_reset(&problem.detail);
    subscription_request_reset(&request);
}
