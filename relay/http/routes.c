/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/routes.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/origin.h"
#include "relay/http/page.h"
#include "relay/http/routes_parts.h"

enum { SHOWN_MAX = 80 };

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
    const char *allow = !route         ? "GET, HEAD, POST, OPTIONS"
                        : route->posts ? "POST, OPTIONS"
                                       : "GET, HEAD, OPTIONS";
    if (slice_is(front_method(call), "OPTIONS"))
        routes_reply_options(r, call, allow);
    else if (!route)
        routes_reply_problem(
            r, call, 404,
            SLICE_LIT("there is no such path; there are /events, /publish, /health, /ready, "
                      "/metrics, /stats and /"),
            NULL);
    else if (takes(route, front_method(call)))
        route->serve(r, call);
    else
        routes_reply_no_method(r, call, allow);
}

/* All that is posted here is published: so it is told that this was not. */
static void on_refuse(void *arg, struct front_call *call, unsigned status, const char *detail)
{
    struct routes *r = arg;
    if (slice_is(front_method(call), "POST"))
        routes_reply_unpublished(r, call, status, slice_of(detail));
    else
        routes_reply_problem(r, call, status, slice_of(detail), NULL);
}

/* A page that made its own name point to us (DNS rebinding) is of our origin as far as its browser
 * knows: what it asks for is refused by that name. */
static void on_begin(void *arg, struct front_call *call)
{
    struct routes *r = arg;
    struct slice host = front_host(call);
    const struct origin_hosts hosts = {&r->config->hosts, &r->node->own_hosts,
                                       r->node->beyond_loopback};
    if (origin_host_allowed(host, &hosts))
        return;
    struct buf detail = {0};
    buf_printf(&detail,
               "Host: \"%.*s\" is no name of this relay; add it to hosts, or ask by address",
               (int)(host.len < SHOWN_MAX ? host.len : SHOWN_MAX), host.ptr);
    buf_putc(&detail, '\0');
    on_refuse(arg, call, 421, detail.ptr);
    buf_reset(&detail);
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

const struct front_handler routes_handler = {on_begin,  on_request, on_refuse,
                                             on_stream, on_gone,    on_over};

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
