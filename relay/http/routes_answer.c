/* SPDX-License-Identifier: Apache-2.0 */
/* How every answer looks: its headers, CORS, and problems (RFC 9457). */
#include <string.h>

#include "common/origin.h"
#include "relay/http/routes_parts.h"

void routes_header_add(struct routes_headers *h, const char *name, const char *value)
{
    if (h->count < ROUTES_HEADERS_MAX)
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

void routes_header_add_cors(const struct routes *r, struct front_call *call,
                            struct routes_headers *h)
{
    if (!r->config->cors_origins.count)
        return;
    const char *allowed = allowed_origin(r, front_header(call, "Origin"));
    routes_header_add(h, "Vary", "Origin");
    if (!allowed)
        return;
    routes_header_add(h, "Access-Control-Allow-Origin", allowed);
    routes_header_add(h, "Access-Control-Expose-Headers",
                      admission_auth(r->admission) ? "Retry-After, Location, WWW-Authenticate"
                                                   : "Retry-After, Location");
    if (strcmp(allowed, "*") != 0)
        routes_header_add(h, "Access-Control-Allow-Credentials", "true");
}

/* A page of a stranger's site can make a browser POST without asking (text/plain is "simple"). So
 * what comes with an Origin must be ours or listed. */
bool routes_origin_is_ours(const struct routes *r, struct front_call *call)
{
    struct slice origin = front_header(call, "Origin");
    if (!origin.ptr || allowed_origin(r, origin))
        return true;
    return origin_is_same(origin, front_host(call));
}

/* --- answers --------------------------------------------------------------------------------- */

void routes_reply(struct routes *r, struct front_call *call, unsigned status, const char *type,
                  struct buf *body, const struct routes_headers *extra)
{
    struct routes_headers h = {0};
    if (extra)
        h = *extra;
    if (type)
        routes_header_add(&h, "Content-Type", type);
    routes_header_add(&h, "Cache-Control", "no-store");
    routes_header_add(&h, "X-Content-Type-Options", "nosniff");
    routes_header_add_cors(r, call, &h);
    front_reply(call, status, h.items, h.count, body);
}

void routes_reply_problem(struct routes *r, struct front_call *call, unsigned status,
                          struct slice detail, const struct routes_headers *extra)
{
    struct buf body = {0};
    request_put_problem(&body, status, detail);
    routes_reply(r, call, status, "application/problem+json", &body, extra);
}

void routes_reply_no_method(struct routes *r, struct front_call *call, const char *allow)
{
    struct routes_headers h = {0};
    struct buf detail = {0};
    routes_header_add(&h, "Allow", allow);
    buf_printf(&detail, "this path takes %s", allow);
    routes_reply_problem(r, call, 405, buf_slice(&detail), &h);
    buf_reset(&detail);
}

/* Cache-Control is for libraries that stand in for EventSource. */
static void put_allowed_headers(const struct routes *r, struct buf *b)
{
    buf_puts(b, "Content-Type, Last-Event-ID, Cache-Control, X-SSE-Slow, X-SSE-Buffer");
    if (admission_auth(r->admission))
        buf_puts(b, ", Authorization");
    for (size_t i = 0; i < r->config->cors_headers.count; i++)
        buf_printf(b, ", %s", r->config->cors_headers.items[i]);
    buf_putc(b, '\0');
}

void routes_reply_options(struct routes *r, struct front_call *call, const char *allow)
{
    struct routes_headers h = {0};
    struct buf headers = {0};
    const char *origin = allowed_origin(r, front_header(call, "Origin"));
    struct slice private = front_header(call, "Access-Control-Request-Private-Network");
    routes_header_add(&h, "Allow", allow);
    if (origin) {
        put_allowed_headers(r, &headers);
        routes_header_add(&h, "Access-Control-Allow-Methods", allow);
        routes_header_add(&h, "Access-Control-Allow-Headers", headers.ptr);
        routes_header_add(&h, "Access-Control-Max-Age", "86400");
        /* Who wrote "*" did not mean that any page may reach into a network through us. */
        if (slice_eq_nocase(private, "true") && strcmp(origin, "*") != 0)
            routes_header_add(&h, "Access-Control-Allow-Private-Network", "true");
    }
    routes_reply(r, call, 204, NULL, NULL, &h);
    buf_reset(&headers);
}

/* --- streams ---------------------------------------------------------------------------------- */

void routes_header_add_stream(const struct routes *r, struct front_call *call,
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

void routes_put_preamble(struct buf *b, uint64_t retry_ms)
{
    buf_printf(b, ":ok\nretry: %llu\n", (unsigned long long)retry_ms);
}

/* Native EventSource gives up for good after any status but 200: so a node that cannot take it
 * answers with one, a hint when to come back (perhaps to another node), and an end. */
void routes_reply_away(struct routes *r, struct front_call *call, uint64_t retry_ms)
{
    struct routes_headers h = {0};
    struct buf body = {0};
    routes_header_add_stream(r, call, &h);
    routes_header_add(&h, "Connection", "close");
    /* No blank line: one before any id makes an EventSource forget its last. */
    routes_put_preamble(&body, retry_ms);
    front_reply(call, 200, h.items, h.count, &body);
}
