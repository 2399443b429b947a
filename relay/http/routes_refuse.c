/* SPDX-License-Identifier: Apache-2.0 */
/* Saying no. docs/protocol.md, 14.1 (RFC 6750, 3; RFC 9457). */
#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"
#include "common/sse.h"
#include "relay/http/routes_parts.h"

static bool wants_event(const struct routes_visit *v)
{
    const struct request_view *view = front_view(v->call);
    for (size_t i = 0; v->path->streams && i < view->query_count; i++)
        if (slice_is(view->query[i].name, "errors") && slice_is(view->query[i].value, "event"))
            return true;
    return false;
}

/* A page that uses EventSource sees neither status nor body. So it is told by an event, and since a
 * block without an id would make it forget its last, that goes along. */
static void refuse_by_event(struct routes *r, struct front_call *call, unsigned status,
                            struct slice detail)
{
    struct routes_headers h = {0};
    struct buf body = {0}, problem = {0};
    uint64_t id;
    bool has_id = request_cursor(front_view(call), &id);
    routes_header_add_stream(r, call, &h);
    routes_header_add(&h, "Connection", "close");
    routes_put_preamble(&body, fanout_retry_hint(r->config));
    request_put_problem(&problem, status, detail);
    if (has_id && id == 0) /* no event's, and yet the one that was given */
        buf_puts(&body, "id: 0\n");
    sse_put_control(&body, has_id ? id : 0, r->config->control_prefix, "error",
                    buf_slice(&problem));
    buf_reset(&problem);
    front_reply(call, 200, h.items, h.count, &body);
}

static void refuse(struct routes *r, const struct routes_visit *v, unsigned status,
                   struct slice detail, struct routes_headers *h)
{
    if (wants_event(v) && status != 400)
        refuse_by_event(r, v->call, status, detail);
    else if (v->path->publishes)
        routes_reply_unpublished(r, v->call, status, detail, h);
    else
        routes_reply_problem(r, v->call, status, detail, h);
}

void routes_refuse(struct routes *r, const struct routes_visit *v, unsigned status,
                   struct slice detail)
{
    struct routes_headers h = {0};
    if (status == 401)
        routes_header_add(&h, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
    if (status == 403) {
        metrics_add(r->node->metrics[r->worker], M_AUTH_FORBIDDEN, 1);
        routes_header_add(&h, "WWW-Authenticate", "Bearer error=\"insufficient_scope\"");
    }
    refuse(r, v, status, detail, &h);
}

bool routes_pass_origin(struct routes *r, const struct routes_visit *v, const char *what)
{
    struct buf detail = {0};
    if (routes_origin_is_ours(r, v->call))
        return true;
    buf_printf(&detail,
               "pages of this Origin may not %s: add it to cors.origins, or, behind a proxy, let "
               "the proxy pass the Host header on",
               what);
    routes_refuse(r, v, 403, buf_slice(&detail));
    buf_reset(&detail);
    return false;
}

void routes_refuse_verdict(struct routes *r, const struct routes_visit *v,
                           const struct admission_verdict *verdict)
{
    struct routes_headers h = {0};
    struct slice detail = slice_of(verdict->detail);
    switch (verdict->outcome) {
    case ADMISSION_MALFORMED:
        refuse(r, v, 400, detail, &h);
        return;
    case ADMISSION_MISSING:
        routes_header_add(&h, "WWW-Authenticate", "Bearer");
        refuse(r, v, 401, detail, &h);
        return;
    case ADMISSION_INVALID:
        routes_refuse(r, v, 401, detail);
        return;
    case ADMISSION_GRANTED:
    case ADMISSION_TICKET:
        break;
    }
    abort(); /* nothing to refuse */
}

void routes_refuse_later(struct routes *r, const struct routes_visit *v, unsigned seconds,
                         struct slice detail)
{
    struct routes_headers h = {0};
    char text[16];
    snprintf(text, sizeof(text), "%u", seconds);
    routes_header_add(&h, "Retry-After", text);
    refuse(r, v, 503, detail, &h);
}

void routes_refuse_undecided(struct routes *r, const struct routes_visit *v)
{
    if (v->topic.ptr && !v->path->publishes) {
        routes_refuse_later(r, v, 1, SLICE_LIT(ROUTES_NOT_ENDED));
        return;
    }
    metrics_add(r->node->metrics[r->worker], M_AUTH_UNDECIDED, 1);
    if (v->path->streams) {
        routes_reply_away(r, v->call, fanout_retry_hint(r->config));
        return;
    }
    routes_refuse_later(r, v, 1,
                        SLICE_LIT("this node cannot tell now whether the credentials are good, as "
                                  "Redis does not answer; try again"));
}
