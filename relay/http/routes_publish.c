/* SPDX-License-Identifier: Apache-2.0 */
/* POST /publish. */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/http/routes_parts.h"

void routes_serve_publish(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    struct request_view view = *front_view(call);
    view.grant = v->grant;
    struct problem problem = {0};
    if (!routes_pass_origin(r, v, "publish"))
        return;
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
    x->visit = *v;
    *v = (struct routes_visit){0};
    note->owner = x;
    front_set_user(call, x);
    if (!bus_is_up(r->node->bus))
        front_expect_slow(call); /* it waits until the store is back */
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
}

/* --- what came of it -------------------------------------------------------------------------- */

enum { ASKED_MAX = 256 }; /* topics, of a batch */

static void on_ended(struct routes *r, struct routes_visit *v, struct note_call *answer)
{
    routes_reply_outcome(r, v->call, v->refused, answer && !answer->error ? &answer->answer : NULL);
}

/* The store has said only that a topic has ended: by what, and why, is asked for. The note is the
 * visit's. */
static void ask_ended(struct routes *r, struct routes_visit *v)
{
    const struct publication_request *request = &v->refused->request;
    struct strings args = {0};
    for (size_t i = 0; i < request->count; i++)
        for (size_t t = 0;
             v->refused->ids[i] == NOTE_ID_ENDED && t < request->items[i].topics.count; t++) {
            struct slice topic = slice_of(request->items[i].topics.items[t]);
            if (args.count >= 2 * ASKED_MAX || strings_have(&args, topic))
                continue;
            routes_arg_add(&args, "topic");
            strings_add(&args, topic);
        }
    routes_wait_store(r, v, "sse_ended", request->ns, &args, on_ended);
}

static void refuse_ended(struct routes *r, struct routes_exchange *x, struct note_publish *note)
{
    struct routes_visit v = x->visit;
    metrics_add(r->node->metrics[r->worker], M_PUBLISH_ENDED, 1);
    note->owner = NULL;
    v.refused = note;
    front_set_user(x->call, NULL);
    free(x);
    ask_ended(r, &v);
}

void routes_take_published(struct routes *r, struct note_publish *note)
{
    struct routes_exchange *x = note->owner;
    if (x && x->pipe) {
        x->published(x->pipe, note);
        return;
    }
    if (x && note->status == 409) {
        refuse_ended(r, x, note);
        return;
    }
    if (x) {
        routes_reply_outcome(r, x->call, note, NULL);
        x->publish = NULL;
    }
    note_publish_free(note);
}
