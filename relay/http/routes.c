#include "relay/http/routes.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/http/page.h"
#include "relay/http/routes_parts.h"

static void serve_page(struct routes *r, struct front_call *call)
{
    struct routes_headers h = {0};
    struct buf body = {0};
    routes_header_add(&h, "Content-Security-Policy", relay_page_csp);
    routes_header_add(&h, "Referrer-Policy", "no-referrer");
    buf_put(&body, relay_page, relay_page_len);
    routes_reply(r, call, 200, "text/html; charset=utf-8", &body, &h);
}

/* --- the table ------------------------------------------------------------------------------- */

static const struct route {
    const char *path;
    bool posts; /* it takes POST; else GET and HEAD */
    void (*serve)(struct routes *r, struct front_call *call);
} table[] = {
    {"/events", false, routes_serve_events},
    {"/publish", true, routes_serve_publish},
    {"/health", false, routes_serve_health},
    {"/ready", false, routes_serve_ready},
    {"/metrics", false, routes_serve_metrics},
    {"/stats", false, routes_serve_stats},
    {"/", false, serve_page},
};

static const struct route *find_route(struct slice path)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (slice_is(path, table[i].path))
            return &table[i];
    return NULL;
}

static bool takes(const struct route *route, struct slice method)
{
    if (route->posts)
        return slice_is(method, "POST");
    return slice_is(method, "GET") || slice_is(method, "HEAD");
}

static void on_request(void *arg, struct front_call *call)
{
    struct routes *r = arg;
    const struct route *route = find_route(front_path(call));
    const char *allow = route && route->posts ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
    if (!route)
        routes_reply_problem(
            r, call, 404,
            SLICE_LIT("there is no such path; there are /events, /publish, /health, /ready, "
                      "/metrics, /stats and /"),
            NULL);
    else if (slice_is(front_method(call), "OPTIONS"))
        routes_reply_options(r, call, allow);
    else if (takes(route, front_method(call)))
        route->serve(r, call);
    else
        routes_reply_no_method(r, call, allow);
}

/* 503: for its body, and only what is published has one. */
static void on_refuse(void *arg, struct front_call *call, unsigned status, const char *detail)
{
    struct routes *r = arg;
    if (status == 503)
        routes_reply_unpublished(r, call, slice_of(detail));
    else
        routes_reply_problem(r, call, status, slice_of(detail), NULL);
}

static void on_stream(void *arg, struct front_call *call, int fd)
{
    (void)arg;
    fanout_start(front_user(call), fd);
}

static void on_gone(void *arg, struct front_call *call)
{
    (void)arg;
    struct routes_exchange *x = front_user(call);
    if (x->publish) /* what waits for its turn need not be published any more */
        atomic_store_explicit(&x->publish->cancelled, true, memory_order_relaxed);
}

static void on_over(void *arg, struct front_call *call)
{
    (void)arg;
    struct routes_exchange *x = front_user(call);
    if (!x)
        return;
    if (front_is_stream(call)) {
        fanout_over(front_user(call));
        return;
    }
    if (x->publish)
        x->publish->owner = NULL;
    if (x->census)
        x->census->owner = NULL;
    free(x);
}

const struct front_handler routes_handler = {on_request, on_refuse, on_stream, on_gone, on_over};

struct routes *routes_new(struct fanout *fanout, struct node *node, unsigned worker,
                          struct config *config)
{
    struct routes *r = mem_zero(1, sizeof(*r));
    r->fanout = fanout;
    r->node = node;
    r->worker = worker;
    r->config = config_ref(config);
    routes_stream_configure(r);
    return r;
}

void routes_free(struct routes *r)
{
    if (!r)
        return;
    config_unref(r->config);
    free(r);
}

void routes_configure(struct routes *r, struct config *config)
{
    config_ref(config);
    config_unref(r->config);
    r->config = config;
    routes_stream_configure(r);
}
