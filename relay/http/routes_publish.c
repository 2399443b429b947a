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

void routes_take_published(struct routes *r, struct note_publish *note)
{
    struct routes_exchange *x = note->owner;
    if (x) {
        routes_reply_outcome(r, x->call, note);
        x->publish = NULL;
    }
    note_publish_free(note);
}
