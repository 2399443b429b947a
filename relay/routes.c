#include "relay/routes.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "relay/page.h"

enum { HEADERS_MAX = 12 };

struct routes {
    struct fanout *fanout;
    struct node *node;
    unsigned worker;
    struct config *config;
};

/* What a call waits for; its front_user(). A stream's call has the stream there. */
struct exchange {
    struct routes *routes;
    struct front_call *call;
    struct note_publish *publish;
    struct note_census *census;
};

struct headers {
    struct front_header items[HEADERS_MAX];
    size_t count;
};

static void header_add(struct headers *h, const char *name, const char *value)
{
    if (h->count < HEADERS_MAX)
        h->items[h->count++] = (struct front_header){name, value};
}

/* --- origins (Fetch standard, "CORS protocol") ------------------------------------------------ */

/* "*", the caller's own origin when it is listed, or NULL. */
static const char *allowed_origin(const struct routes *r, struct slice origin)
{
    for (size_t i = 0; origin.ptr && i < r->config->cors_origins.count; i++) {
        const char *allowed = r->config->cors_origins.items[i];
        if (strcmp(allowed, "*") == 0 || slice_eq_nocase(origin, allowed))
            return allowed;
    }
    return NULL;
}

static void add_cors(const struct routes *r, struct front_call *call, struct headers *h)
{
    if (!r->config->cors_origins.count)
        return;
    const char *allowed = allowed_origin(r, front_header(call, "Origin"));
    header_add(h, "Vary", "Origin");
    if (!allowed)
        return;
    header_add(h, "Access-Control-Allow-Origin", allowed);
    if (strcmp(allowed, "*") != 0)
        header_add(h, "Access-Control-Allow-Credentials", "true");
}

/* A page of a stranger's site can make a browser POST without asking (text/plain is "simple"). So
 * what comes with an Origin must be ours or listed. */
static bool may_publish(const struct routes *r, struct front_call *call)
{
    struct slice origin = front_header(call, "Origin"), host = front_header(call, "Host");
    if (!origin.ptr || allowed_origin(r, origin))
        return true;
    const char *authority = memmem(origin.ptr, origin.len, "://", 3);
    if (!authority || !host.ptr)
        return false;
    authority += 3;
    size_t len = origin.len - (size_t)(authority - origin.ptr);
    return len == host.len && strncasecmp(authority, host.ptr, len) == 0;
}

/* --- answers --------------------------------------------------------------------------------- */

static void reply(struct routes *r, struct front_call *call, unsigned status, const char *type,
                  struct buf *body, struct headers *extra)
{
    struct headers h = {0};
    if (extra)
        h = *extra;
    if (type)
        header_add(&h, "Content-Type", type);
    header_add(&h, "Cache-Control", "no-store");
    header_add(&h, "X-Content-Type-Options", "nosniff");
    add_cors(r, call, &h);
    front_reply(call, status, h.items, h.count, body);
}

static void reply_problem(struct routes *r, struct front_call *call, unsigned status,
                          struct slice detail, struct headers *extra)
{
    struct buf body = {0};
    request_put_problem(&body, status, detail);
    reply(r, call, status, "application/problem+json", &body, extra);
}

static void reply_no_method(struct routes *r, struct front_call *call, const char *allow)
{
    struct headers h = {0};
    struct buf detail = {0};
    header_add(&h, "Allow", allow);
    buf_printf(&detail, "this path takes %s", allow);
    reply_problem(r, call, 405, buf_slice(&detail), &h);
    buf_reset(&detail);
}

static void reply_options(struct routes *r, struct front_call *call, const char *allow)
{
    struct headers h = {0};
    header_add(&h, "Allow", allow);
    if (allowed_origin(r, front_header(call, "Origin"))) {
        header_add(&h, "Access-Control-Allow-Methods", allow);
        header_add(&h, "Access-Control-Allow-Headers",
                   "Content-Type, Last-Event-ID, Cache-Control, X-SSE-Slow");
        header_add(&h, "Access-Control-Max-Age", "86400");
    }
    reply(r, call, 204, NULL, NULL, &h);
}

/* --- GET /events ----------------------------------------------------------------------------- */

static void stream_headers(const struct routes *r, struct front_call *call, struct headers *h)
{
    header_add(h, "Content-Type", "text/event-stream");
    header_add(h, "Cache-Control", "no-cache, no-transform");
    header_add(h, "X-Accel-Buffering", "no");
    header_add(h, "X-Content-Type-Options", "nosniff");
    add_cors(r, call, h);
}

/* One line for both: not every cache reads a second one. */
static void add_vary(struct headers *h)
{
    for (size_t i = 0; i < h->count; i++)
        if (strcmp(h->items[i].name, "Vary") == 0) {
            h->items[i].value = "Origin, Accept-Encoding";
            return;
        }
    header_add(h, "Vary", "Accept-Encoding");
}

/* True: as gzip. Fixed for the stream's life, whatever is reloaded. */
static bool negotiate_gzip(const struct routes *r, struct front_call *call,
                           const struct stream_request *request, struct headers *h)
{
    if (!stream_request_is_within(request, &r->config->compress))
        return false;
    add_vary(h);
    if (!request_accepts_gzip(front_header(call, "Accept-Encoding")))
        return false;
    header_add(h, "Content-Encoding", "gzip");
    return true;
}

static void put_preamble(const struct routes *r, struct buf *b)
{
    buf_printf(b, ":ok\nretry: %llu\n", (unsigned long long)fanout_retry_hint(r->config));
}

/* Native EventSource gives up for good after any status but 200: so a node on its way out answers
 * with one, a hint when to come back (to another node), and an end. */
static void stream_refuse_draining(struct routes *r, struct front_call *call)
{
    struct headers h = {0};
    struct buf body = {0};
    stream_headers(r, call, &h);
    header_add(&h, "Connection", "close");
    put_preamble(r,
                 &body); /* no blank line: one before any id makes an EventSource forget its last */
    front_reply(call, 200, h.items, h.count, &body);
}

static bool stream_fits(struct routes *r, struct front_call *call)
{
    if (atomic_load(&r->node->clients) < r->node->max_clients)
        return true;
    struct headers h = {0};
    header_add(&h, "Retry-After", "5");
    reply_problem(r, call, 503,
                  SLICE_LIT("this node has as many streams as it may (max_clients, or its "
                            "open-file limit); try again later"),
                  &h);
    return false;
}

static void accept_stream(struct routes *r, struct front_call *call, struct stream_request *request,
                          bool head)
{
    struct headers h = {0};
    struct buf plain = {0}, packed = {0};
    struct gzip_sum sum;
    stream_headers(r, call, &h);
    bool gzip = negotiate_gzip(r, call, request, &h);
    put_preamble(r, &plain);
    if (gzip)
        gzip_put_start(&packed, &sum, buf_slice(&plain));
    if (!head)
        front_set_user(call, fanout_open(r->fanout, call, request, gzip ? &sum : NULL));
    front_stream(call, h.items, h.count, buf_slice(gzip ? &packed : &plain));
    buf_reset(&plain);
    buf_reset(&packed);
}

static void open_stream(struct routes *r, struct front_call *call)
{
    struct stream_request request = {0};
    struct problem problem = {0};
    if (request_parse_stream(front_view(call), r->config, clock_wall_us(), &request, &problem)) {
        reply_problem(r, call, problem.status, buf_slice(&problem.detail), NULL);
        buf_reset(&problem.detail);
        return;
    }
    bool head = slice_is(front_method(call), "HEAD");
    if (atomic_load(&r->node->draining)) {
        stream_refuse_draining(r, call);
    } else if (head || stream_fits(r, call)) {
        accept_stream(r, call, &request, head);
    }
    stream_request_reset(&request);
}

static void serve_events(struct routes *r, struct front_call *call)
{
    static const char allow[] = "GET, HEAD, OPTIONS";
    struct slice method = front_method(call);
    if (slice_is(method, "GET") || slice_is(method, "HEAD"))
        open_stream(r, call);
    else if (slice_is(method, "OPTIONS"))
        reply_options(r, call, allow);
    else
        reply_no_method(r, call, allow);
}

/* --- POST /publish --------------------------------------------------------------------------- */

static void publish(struct routes *r, struct front_call *call)
{
    struct problem problem = {0};
    if (!may_publish(r, call)) {
        reply_problem(r, call, 403,
                      SLICE_LIT("pages of this Origin may not publish: add it to cors.origins, or, "
                                "behind a proxy, let the "
                                "proxy pass the Host header on"),
                      NULL);
        return;
    }
    struct note_publish *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_PUBLISH;
    note->worker = r->worker;
    if (request_parse_publish(front_view(call), r->config, &note->request, &problem)) {
        metrics_add(r->node->metrics[r->worker], M_PUBLISH_REFUSED, 1);
        reply_problem(r, call, problem.status, buf_slice(&problem.detail), NULL);
        buf_reset(&problem.detail);
        note_publish_free(note);
        return;
    }
    struct exchange *x = mem_zero(1, sizeof(*x));
    x->routes = r;
    x->call = call;
    x->publish = note;
    note->owner = x;
    note->fd = front_fd(call);
    front_set_user(call, x);
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
}

static void put_id(struct buf *b, uint64_t id)
{
    if (id)
        buf_printf(b, "{\"id\":\"%llu\"}", (unsigned long long)id);
    else
        buf_puts(b, "{\"id\":null}");
}

static void put_ids(struct buf *b, const struct note_publish *note)
{
    buf_puts(b, note->request.batch ? "[" : "");
    for (size_t i = 0; i < note->request.count; i++) {
        buf_puts(b, i ? "," : "");
        put_id(b, note->ids[i]);
    }
    buf_puts(b, note->request.batch ? "]" : "");
}

/* Members beside those of RFC 9457: whether it was published, and then with which ids. */
static void reply_unpublished(struct routes *r, const struct note_publish *note,
                              struct front_call *call)
{
    static const char *const published[] = {
        [PUBLISH_NOT] = "false", [PUBLISH_UNKNOWN] = "null", [PUBLISH_DONE] = "true"};
    struct headers h = {0};
    struct buf body = {0};
    if (note->status == 503 && note->outcome == PUBLISH_NOT)
        header_add(&h, "Retry-After", "1");
    request_put_problem(&body, note->status, buf_slice(&note->detail));
    body.len--; /* the brace */
    buf_printf(&body, ",\"published\":%s", published[note->outcome]);
    if (note->outcome == PUBLISH_DONE) {
        buf_puts(&body, ",\"events\":");
        put_ids(&body, note);
    }
    buf_putc(&body, '}');
    reply(r, call, note->status, "application/problem+json", &body, &h);
}

void routes_take_published(struct routes *r, struct note_publish *note)
{
    struct exchange *x = note->owner;
    if (x && note->status == 200) {
        struct buf body = {0};
        put_ids(&body, note);
        reply(r, x->call, 200, "application/json", &body, NULL);
    } else if (x) {
        reply_unpublished(r, note, x->call);
    }
    if (x)
        x->publish = NULL;
    note_publish_free(note);
}

static void serve_publish(struct routes *r, struct front_call *call)
{
    static const char allow[] = "POST, OPTIONS";
    struct slice method = front_method(call);
    if (slice_is(method, "POST"))
        publish(r, call);
    else if (slice_is(method, "OPTIONS"))
        reply_options(r, call, allow);
    else
        reply_no_method(r, call, allow);
}

/* --- health, readiness, figures ----------------------------------------------------------------
 */

static const char *redis_status(const struct node *node)
{
    return bus_is_up(node->bus) ? "up" : "down";
}

static void serve_health(struct routes *r, struct front_call *call)
{
    struct buf body = {0};
    buf_puts(&body, "{\"status\":\"ok\"}");
    reply(r, call, 200, "application/json", &body, NULL);
}

/* The connections stand, but what is published does not come back on them. */
static bool is_deaf(const struct node *node)
{
    return strcmp(bus_kind(node->bus), "redis") == 0 &&
           metrics_total(node->metrics, node->workers + 1, M_REDIS_HEARD) == 0;
}

static void serve_ready(struct routes *r, struct front_call *call)
{
    bool draining = atomic_load(&r->node->draining), up = bus_is_up(r->node->bus);
    bool deaf = up && is_deaf(r->node);
    struct buf body = {0};
    buf_printf(&body, "{\"status\":\"%s\",\"redis\":\"%s\",\"clients\":%zu,\"node\":",
               draining ? "draining"
               : !up    ? "redis-down"
               : deaf   ? "redis-deaf"
                        : "ready",
               redis_status(r->node), atomic_load(&r->node->clients));
    json_put_string(&body, slice_of(r->node->name));
    buf_printf(&body, ",\"version\":\"%s\"}", r->node->version);
    reply(r, call, up && !deaf && !draining ? 200 : 503, "application/json", &body, NULL);
}

static void serve_metrics(struct routes *r, struct front_call *call)
{
    struct node *node = r->node;
    struct buf body = {0};
    metrics_put_prometheus(&body, node->metrics, node->workers + 1, node->version, node->name,
                           bus_kind(node->bus));
    reply(r, call, 200, "text/plain; version=0.0.4; charset=utf-8", &body, NULL);
}

static void serve_stats(struct routes *r, struct front_call *call)
{
    struct exchange *x = mem_zero(1, sizeof(*x));
    struct note_census *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_CENSUS;
    note->first = r->worker;
    note->owner = x;
    note->counts = census_new();
    x->routes = r;
    x->call = call;
    x->census = note;
    front_set_user(call, x);
    routes_take_census(r, note);
}

static void reply_stats(struct routes *r, struct front_call *call, struct census *census)
{
    struct node *node = r->node;
    struct buf body = {0};
    buf_printf(&body, "{\"version\":\"%s\",\"node\":", node->version);
    json_put_string(&body, slice_of(node->name));
    buf_printf(&body,
               ",\"uptime_seconds\":%llu,\"redis\":{\"kind\":\"%s\",\"status\":\"%s\"},"
               "\"draining\":%s,\"clients\":%zu,\"max_clients\":%zu,\"topics\":",
               (unsigned long long)((clock_wall_us() - node->started_us) / 1000000),
               bus_kind(node->bus), redis_status(node),
               atomic_load(&node->draining) ? "true" : "false", atomic_load(&node->clients),
               node->max_clients);
    census_put_json(census, &body);
    buf_printf(&body, ",\"topics_left_out\":%zu,\"metrics\":", census_left_out(census));
    metrics_put_json(&body, node->metrics, node->workers + 1);
    buf_putc(&body, '}');
    reply(r, call, 200, "application/json", &body, NULL);
}

/* Goes round all workers and ends where it began. */
void routes_take_census(struct routes *r, struct note_census *note)
{
    if (note->visits < r->node->workers) {
        fanout_count(r->fanout, note->counts);
        note->visits++;
    }
    unsigned next =
        note->visits < r->node->workers ? (r->worker + 1) % r->node->workers : note->first;
    if (next != r->worker) {
        inbox_push(r->node->inboxes[next], &note->note.item);
        return;
    }
    struct exchange *x = note->owner;
    if (x) {
        x->census = NULL;
        reply_stats(r, x->call, note->counts);
    }
    census_free(note->counts);
    free(note);
}

static void serve_page(struct routes *r, struct front_call *call)
{
    struct headers h = {0};
    struct buf body = {0};
    header_add(&h, "Content-Security-Policy", relay_page_csp);
    header_add(&h, "Referrer-Policy", "no-referrer");
    buf_put(&body, relay_page, relay_page_len);
    reply(r, call, 200, "text/html; charset=utf-8", &body, &h);
}

/* --- the table ------------------------------------------------------------------------------- */

struct route {
    const char *path;
    bool any_method; /* it looks at the method itself; else GET and HEAD */
    void (*serve)(struct routes *r, struct front_call *call);
};

static const struct route table[] = {
    {"/events", true, serve_events},    {"/publish", true, serve_publish},
    {"/health", false, serve_health},   {"/ready", false, serve_ready},
    {"/metrics", false, serve_metrics}, {"/stats", false, serve_stats},
    {"/", false, serve_page},
};

static void on_request(void *arg, struct front_call *call)
{
    struct routes *r = arg;
    struct slice path = front_path(call), method = front_method(call);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct route *route = &table[i];
        if (!slice_is(path, route->path))
            continue;
        if (route->any_method || slice_is(method, "GET") || slice_is(method, "HEAD"))
            route->serve(r, call);
        else
            reply_no_method(r, call, "GET, HEAD");
        return;
    }
    reply_problem(r, call, 404,
                  SLICE_LIT("there is no such path; there are /events, /publish, /health, /ready, "
                            "/metrics, /stats and /"),
                  NULL);
}

static void on_stream(void *arg, struct front_call *call, int fd)
{
    (void)arg;
    fanout_start(front_user(call), fd);
}

static void on_over(void *arg, struct front_call *call)
{
    (void)arg;
    struct exchange *x = front_user(call);
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

const struct front_handler routes_handler = {on_request, on_stream, on_over};

struct routes *routes_new(struct fanout *fanout, struct node *node, unsigned worker,
                          struct config *config)
{
    struct routes *r = mem_zero(1, sizeof(*r));
    r->fanout = fanout;
    r->node = node;
    r->worker = worker;
    r->config = config_ref(config);
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
}
