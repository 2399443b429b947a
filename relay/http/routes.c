/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/routes.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/origin.h"
#include "common/url.h"
#include "relay/http/page.h"
#include "relay/http/routes_parts.h"

enum { SHOWN_MAX = 80 };

static void serve_page(struct routes *r, struct routes_visit *v)
{
    struct routes_headers h = {0};
    struct buf body = {0};
    routes_header_add(&h, "Content-Security-Policy", relay_page_csp);
    routes_header_add(&h, "Referrer-Policy", "no-referrer");
    buf_put(&body, relay_page, relay_page_len);
    routes_reply(r, v->call, 200, "text/html; charset=utf-8", &body, &h);
}

/* --- the table ------------------------------------------------------------------------------- */

static const struct routes_path events = {
    .path = "/events", .streams = true, .needs = NEEDS_CREDENTIALS, .serve = routes_serve_events};

static const struct routes_path table[] = {
    {.path = "/publish",
     .posts = true,
     .publishes = true,
     .needs = NEEDS_CREDENTIALS,
     .serve = routes_serve_publish},
    {.path = "/health", .serve = routes_serve_health},
    {.path = "/ready", .serve = routes_serve_ready},
    {.path = "/metrics", .needs = NEEDS_METRICS, .serve = routes_serve_metrics},
    {.path = "/stats", .needs = NEEDS_ADMIN, .serve = routes_serve_stats},
    {.path = "/", .serve = serve_page},
    {.path = "/client.js", .serve = routes_serve_client},
    {.path = "/client.d.ts", .serve = routes_serve_client_types},
    {.path = "/tickets",
     .posts = true,
     .auth_only = true,
     .issues = true,
     .needs = NEEDS_CREDENTIALS,
     .serve = routes_serve_tickets},
    {.path = "/revoke",
     .posts = true,
     .auth_only = true,
     .needs = NEEDS_ADMIN,
     .serve = routes_serve_revoke},
};

/* /connections/{connection_id} and what is below it. */
static const struct routes_path connection = {
    .patches = true, .by_ticket = true, .needs = NEEDS_CREDENTIALS, .serve = routes_serve_topics};
static const struct routes_path wishes[] = {
    {.path = "token",
     .posts = true,
     .auth_only = true,
     .needs = NEEDS_TOKEN,
     .serve = routes_serve_renew},
    {.path = "pause",
     .posts = true,
     .by_ticket = true,
     .needs = NEEDS_CREDENTIALS,
     .serve = routes_serve_pause},
    {.path = "resume",
     .posts = true,
     .by_ticket = true,
     .needs = NEEDS_CREDENTIALS,
     .serve = routes_serve_resume},
};

static const struct routes_path topic_end = {
    .posts = true, .needs = NEEDS_CREDENTIALS, .serve = routes_serve_end};
static const struct routes_path topic_pipe = {
    .posts = true, .publishes = true, .needs = NEEDS_CREDENTIALS, .serve = routes_serve_pipe};
static const struct routes_path topic = {
    .deletes = true, .needs = NEEDS_CREDENTIALS, .serve = routes_serve_cancel};

/* Whether that is what is written there, maybe percent-encoded. */
static bool segment_is(struct slice raw, const char *expected)
{
    char room[3 * sizeof("topics")];
    struct slice name;
    return raw.ptr && raw.len <= sizeof(room) &&
           url_decode(raw, URL_PLUS_IS_PLUS, room, &name) == OK && slice_is(name, expected);
}

/* /topics/{topic}, /topics/{topic}/end and /topics/{topic}/pipe. A slash in a topic is encoded. */
static const struct routes_path *find_topic(struct slice raw, struct slice *name)
{
    struct slice rest = raw;
    struct slice root = slice_cut(&rest, '/'), head = slice_cut(&rest, '/');
    *name = slice_cut(&rest, '/');
    if (root.len || !name->len || !segment_is(head, "topics"))
        return NULL;
    if (!rest.ptr)
        return &topic;
    if (segment_is(rest, "pipe"))
        return &topic_pipe;
    return segment_is(rest, "end") ? &topic_end : NULL;
}

static const struct routes_path *find_connection(struct slice path, bool with_auth,
                                                 struct slice *id)
{
    struct slice head = SLICE_LIT("/connections/");
    if (!slice_has_prefix(path, head))
        return NULL;
    struct slice rest = {path.ptr + head.len, path.len - head.len};
    *id = slice_cut(&rest, '/');
    if (!id->len)
        return NULL;
    if (!rest.ptr)
        return &connection;
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++)
        if (slice_is(rest, wishes[i].path) && (with_auth || !wishes[i].auth_only))
            return &wishes[i];
    return NULL;
}

/* A route of the auth file. False: it was refused. */
static bool find_own(struct routes *r, struct routes_visit *v)
{
    struct buf why = {0};
    const struct auth *auth = admission_auth(r->admission);
    switch (route_map_find(auth_routes(auth), front_raw_path(v->call), &v->hit, &why)) {
    case ROUTE_NONE:
        return true;
    case ROUTE_FOUND:
        v->path = &events;
        return true;
    case ROUTE_INVALID:
        break;
    }
    routes_reply_problem(r, v->call, 400, buf_slice(&why), NULL);
    buf_reset(&why);
    return false;
}

static const struct routes_path *find_fixed(const struct routes *r, struct routes_visit *v)
{
    struct slice path = front_path(v->call);
    const struct auth *auth = admission_auth(r->admission);
    if (slice_is(path, events.path))
        return !auth || auth_serves_events(auth) ? &events : NULL;
    const struct routes_path *found = find_connection(path, auth, &v->connection);
    if (!found)
        found = find_topic(front_raw_path(v->call), &v->topic);
    if (found)
        return found;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (slice_is(path, table[i].path) && (auth || !table[i].auth_only))
            return &table[i];
    return NULL;
}

static bool takes(const struct routes_path *path, struct slice method)
{
    if (path->posts || path->deletes || path->patches)
        return slice_is(method, path->posts ? "POST" : path->deletes ? "DELETE" : "PATCH");
    return slice_is(method, "GET") || slice_is(method, "HEAD");
}

static void refuse_path(struct routes *r, struct front_call *call)
{
    struct buf detail = {0};
    buf_puts(&detail, "there is no such path; there are /events, /publish, /topics/{topic}, "
                      "/topics/{topic}/end, /topics/{topic}/pipe, /connections/{connection_id}, "
                      "/connections/{connection_id}/pause, /connections/{connection_id}/resume, "
                      "/health, /ready, /metrics, /stats, /client.js, /client.d.ts and /");
    if (admission_auth(r->admission))
        buf_puts(&detail, ", /tickets, /revoke, /connections/{connection_id}/token, and the routes "
                          "of auth.file");
    routes_reply_problem(r, call, 404, buf_slice(&detail), NULL);
    buf_reset(&detail);
}

static void visit(struct routes *r, struct routes_visit *v)
{
    const char *allow = !v->path           ? "GET, HEAD, POST, DELETE, OPTIONS"
                        : v->path->patches ? "PATCH, OPTIONS"
                        : v->path->posts   ? "POST, OPTIONS"
                        : v->path->deletes ? "DELETE, OPTIONS"
                                           : "GET, HEAD, OPTIONS";
    if (slice_is(front_method(v->call), "OPTIONS"))
        routes_reply_options(r, v->call, allow);
    else if (!v->path)
        refuse_path(r, v->call);
    else if (!takes(v->path, front_method(v->call)))
        routes_reply_no_method(r, v->call, allow);
    else if (!v->path->streams || !routes_stream_is_turned_away(r, v))
        routes_admit(r, v);
}

static void begin(struct routes *r, struct front_call *call)
{
    struct routes_visit v = {.call = call, .rules = admission_rules(r->admission)};
    v.path = find_fixed(r, &v);
    if (v.path || !admission_auth(r->admission) || find_own(r, &v))
        visit(r, &v);
    routes_visit_reset(&v);
}

static bool on_pipes(void *arg, struct front_call *call)
{
    struct slice name;
    (void)arg;
    return slice_is(front_method(call), "POST") &&
           find_topic(front_raw_path(call), &name) == &topic_pipe;
}

static struct routes_pipe *pipe_of(struct front_call *call)
{
    struct routes_exchange *x = front_user(call);
    return x ? x->pipe : NULL;
}

static size_t on_body(void *arg, struct front_call *call, struct slice piece)
{
    (void)arg;
    return routes_pipe_body(pipe_of(call), piece);
}

static void on_request(void *arg, struct front_call *call)
{
    if (front_is_piped(call))
        routes_pipe_whole(pipe_of(call));
    else
        begin(arg, call);
}

/* Who posts events is told that they were not published, also where the path is not known yet. */
static void on_refuse(void *arg, struct front_call *call, unsigned status, const char *detail)
{
    struct routes *r = arg;
    struct routes_visit v = {.call = call};
    const struct routes_path *path = find_fixed(r, &v);
    if (slice_is(front_method(call), "POST") && (!path || path->publishes))
        routes_reply_unpublished(r, call, status, slice_of(detail), NULL);
    else
        routes_reply_problem(r, call, status, slice_of(detail), NULL);
}

/* A page that made its own name point to us (DNS rebinding) is of our origin as far as its browser
 * knows: what it asks for is refused by that name. Where tokens are asked for it has none to send.
 */
static bool host_is_allowed(const struct routes *r, struct slice host)
{
    const struct origin_hosts hosts = {&r->config->hosts, &r->node->own_hosts,
                                       r->node->beyond_loopback};
    if (admission_auth(r->admission) && !r->config->hosts.count)
        return true;
    return origin_host_allowed(host, &hosts);
}

/* What need not be read is not: the host is another, nothing is posted there, or nobody may post
 * who sends this. */
static void on_begin(void *arg, struct front_call *call)
{
    struct routes *r = arg;
    struct slice host = front_host(call);
    if (host_is_allowed(r, host)) {
        struct routes_visit v = {.call = call};
        v.path = find_fixed(r, &v);
        if (front_is_piped(call) ||
            (slice_is(front_method(call), "POST") && !(v.path && v.path->posts)))
            begin(r, call);
        else if (v.path && takes(v.path, front_method(call)))
            routes_admit_header(r, &v);
        return;
    }
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
    if (x && x->publish) /* what waits for its turn need not be published any more */
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
    if (x->pipe) {
        routes_pipe_over(x->pipe);
        return;
    }
    if (x->publish)
        x->publish->owner = NULL;
    if (x->census)
        x->census->owner = NULL;
    routes_wait_over(x->routes, x);
    free(x);
}

const struct front_handler routes_handler = {.pipes = on_pipes,
                                             .begin = on_begin,
                                             .body = on_body,
                                             .request = on_request,
                                             .refuse = on_refuse,
                                             .stream = on_stream,
                                             .gone = on_gone,
                                             .over = on_over};

struct routes *routes_new(struct ev_loop *loop, struct fanout *fanout, struct node *node,
                          unsigned worker, struct config *config)
{
    struct routes *r = mem_zero(1, sizeof(*r));
    r->begin = begin;
    r->loop = loop;
    r->fanout = fanout;
    r->node = node;
    r->worker = worker;
    r->config = config_ref(config);
    r->admission = admission_new(node, worker);
    routes_wait_start(r);
    routes_pipe_start(r);
    routes_stream_configure(r);
    return r;
}

void routes_free(struct routes *r)
{
    if (!r)
        return;
    routes_wait_stop(r);
    routes_pipe_stop(r);
    admission_free(r->admission);
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

void routes_drain(struct routes *r)
{
    routes_pipe_drain(r);
}

void routes_set_auth(struct routes *r, struct auth *auth)
{
    admission_set_auth(r->admission, auth);
}
