/* SPDX-License-Identifier: Apache-2.0 */
/* POST /publish. */
#include "common/mem.h"
#include "relay/http/routes_parts.h"

void routes_serve_publish(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    struct request_view view = *front_view(call);
    view.grant = v->grant;
    struct problem problem = {0};
    if (!routes_origin_is_ours(r, call)) {
        routes_refuse(
            r, v, 403,
            SLICE_LIT("pages of this Origin may not publish: add it to cors.origins, or, behind a "
                      "proxy, let the proxy pass the Host header on"));
        return;
    }
    struct note_publish *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_PUBLISH;
    note->worker = r->worker;
    if (request_parse_publish(&view, r->config, &note->request, &problem)) {
        metrics_add(r->node->metrics[r->worker], M_PUBLISH_REFUSED, 1);
        routes_refuse(r, v, problem.status, buf_slice(&problem.detail));
        buf_reset(&problem.detail);
        note_publish_free(note);
        return;
    }
    struct routes_exchange *x = mem_zero(1, sizeof(*x));
    x->routes = r;
    x->call = call;
    x->publish = note;
    note->owner = x;
    front_set_user(call, x);
    if (!bus_is_up(r->node->bus))
        front_expect_slow(call); /* it waits until the store is back */
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
static void reply_outcome(struct routes *r, const struct note_publish *note,
                          struct front_call *call, const struct routes_headers *extra)
{
    static const char *const published[] = {
        [PUBLISH_NOT] = "false", [PUBLISH_UNKNOWN] = "null", [PUBLISH_DONE] = "true"};
    struct routes_headers h = extra ? *extra : (struct routes_headers){0};
    struct buf body = {0};
    if (!extra && note->status == 503 && note->outcome == PUBLISH_NOT)
        routes_header_add(&h, "Retry-After", "1");
    request_put_problem(&body, note->status, buf_slice(&note->detail));
    body.len--; /* the brace */
    buf_printf(&body, ",\"published\":%s", published[note->outcome]);
    if (note->outcome == PUBLISH_DONE) {
        buf_puts(&body, ",\"events\":");
        put_ids(&body, note);
    }
    buf_putc(&body, '}');
    routes_reply(r, call, note->status, "application/problem+json", &body, &h);
}

void routes_reply_unpublished(struct routes *r, struct front_call *call, unsigned status,
                              struct slice detail, const struct routes_headers *extra)
{
    struct note_publish note = {.status = status, .outcome = PUBLISH_NOT};
    buf_put(&note.detail, detail.ptr, detail.len);
    reply_outcome(r, &note, call, extra);
    buf_reset(&note.detail);
}

void routes_take_published(struct routes *r, struct note_publish *note)
{
    struct routes_exchange *x = note->owner;
    if (x && note->status == 200) {
        struct buf body = {0};
        put_ids(&body, note);
        routes_reply(r, x->call, 200, "application/json", &body, NULL);
    } else if (x) {
        reply_outcome(r, note, x->call, NULL);
    }
    if (x)
        x->publish = NULL;
    note_publish_free(note);
}
