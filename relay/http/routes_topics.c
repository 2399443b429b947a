/* SPDX-License-Identifier: Apache-2.0 */
/* POST /topics/{topic}/end and DELETE /topics/{topic}: docs/protocol.md, 8.4. */
#include "relay/http/routes_parts.h"

static void on_ended(struct routes *r, struct routes_visit *v, struct note_call *answer)
{
    const struct strings *said = &answer->answer;
    struct slice why = said->count ? slice_of(said->items[0]) : SLICE_LIT("");
    if (answer->error || said->count < 2 || !routes_end_valid(said->items[0], said->items[1])) {
        if (slice_has_prefix(why, SLICE_LIT("ERR sse_end: ")))
            routes_refuse(r, v, 400, why);
        else
            routes_refuse_later(r, v, 1, SLICE_LIT(ROUTES_NOT_ENDED));
        return;
    }
    struct buf body = {0};
    buf_printf(&body, "{\"id\":\"%s\",\"reason\":\"%s\"}", said->items[0], said->items[1]);
    routes_reply(r, v->call, 200, "application/json", &body, NULL);
}

static void end_topic(struct routes *r, struct routes_visit *v, const char *reason)
{
    struct request_view view = *front_view(v->call);
    struct publication_request request;
    struct problem problem = {0};
    struct strings args = {0};
    view.grant = v->grant;
    if (request_parse_end(&view, v->topic, &request, &problem)) {
        routes_refuse(r, v, problem.status, buf_slice(&problem.detail));
        buf_reset(&problem.detail);
        return;
    }
    routes_arg_add(&args, "topic");
    routes_arg_add(&args, request.items[0].topics.items[0]);
    routes_arg_add(&args, "reason");
    routes_arg_add(&args, reason);
    routes_wait_store(r, v, "sse_end", request.ns, &args, on_ended);
    publication_request_reset(&request);
}

static void serve(struct routes *r, struct routes_visit *v, const char *reason)
{
    if (routes_pass_origin(r, v, "end topics"))
        end_topic(r, v, reason);
}

void routes_serve_end(struct routes *r, struct routes_visit *v)
{
    serve(r, v, "end");
}

void routes_serve_cancel(struct routes *r, struct routes_visit *v)
{
    serve(r, v, "cancelled");
}
