/* SPDX-License-Identifier: Apache-2.0 */
/* How pipes end: what the store is asked then, and the answers. docs/protocol.md, 8.5. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "relay/http/routes_pipe_parts.h"

void routes_pipe_close(struct routes_pipe *p, unsigned status, enum metric outcome,
                       struct slice detail)
{
    if (p->status)
        return;
    p->status = status;
    p->outcome = outcome;
    buf_clear(&p->detail);
    buf_put_slice(&p->detail, detail);
}

/* --- what is asked ---------------------------------------------------------------------------- */

static const char *topic_of(const struct routes_pipe *p)
{
    return p->request.event.topics.items[0];
}

static void ask(struct routes_pipe *p, const char *function, const char *reason)
{
    struct strings args = {0};
    routes_arg_add(&args, "topic");
    routes_arg_add(&args, topic_of(p));
    if (reason) {
        routes_arg_add(&args, "reason");
        routes_arg_add(&args, reason);
    }
    if (!p->call) { /* nobody waits for the answer */
        routes_tell_store(p->r, function, p->request.ns, &args);
        return;
    }
    p->asked_until_ms = clock_mono_ms() + p->r->config->auth_timeout_ms;
    p->asked = routes_ask_store(p->r, function, p->request.ns, &args, &p->x);
}

static void set_ended(struct routes_pipe *p, const char *id, const char *reason)
{
    struct buf b = {0};
    size_t len;
    buf_printf(&b, "\"ended\":\"%s\",\"reason\":\"%s\"", id, reason);
    free(p->ended);
    p->ended = buf_take(&b, &len);
}

void routes_pipe_close_ended(struct routes_pipe *p)
{
    struct buf b = {0};
    buf_printf(&b, "topic: %s has ended", topic_of(p));
    routes_pipe_close(p, 409, M_PIPE_ENDED, buf_slice(&b));
    buf_reset(&b);
}

bool routes_pipe_note_ended(struct routes_pipe *p, const struct strings *said)
{
    if (said->count < 3 || strcmp(said->items[0], topic_of(p)) != 0 ||
        !routes_end_valid(said->items[1], said->items[2]))
        return false;
    routes_pipe_close_ended(p);
    set_ended(p, said->items[1], said->items[2]);
    return true;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void put_count(struct buf *b, const struct routes_pipe *p)
{
    buf_printf(b, "\"count\":%llu,", (unsigned long long)p->count);
    if (p->count)
        buf_printf(b, "\"first\":\"%llu\",\"last\":\"%llu\"}", (unsigned long long)p->first,
                   (unsigned long long)p->last);
    else
        buf_puts(b, "\"first\":null,\"last\":null}");
}

static void reply_done(struct routes_pipe *p)
{
    struct buf body = {0};
    buf_putc(&body, '{');
    put_count(&body, p);
    routes_reply(p->r, p->call, 200, "application/json", &body, NULL);
}

static void reply_problem(struct routes_pipe *p)
{
    struct routes_headers h = {0};
    struct buf body = {0};
    if (p->status == 503 && !p->count && !p->unknown)
        routes_header_add(&h, "Retry-After", "1");
    if (p->status == 401)
        routes_header_add(&h, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
    request_put_problem(&body, p->status, buf_slice(&p->detail));
    body.len--; /* the brace */
    buf_printf(&body, ",\"published\":%s,", p->unknown ? "null" : p->count ? "true" : "false");
    if (p->status == 409)
        buf_printf(&body, "%s,", p->ended ? p->ended : "\"ended\":null");
    put_count(&body, p);
    routes_reply(p->r, p->call, p->status, "application/problem+json", &body, &h);
}

static void answer(struct routes_pipe *p)
{
    p->answered = true;
    metrics_add(p->r->node->metrics[p->r->worker], p->status ? p->outcome : M_PIPE_DONE, 1);
    if (p->status)
        reply_problem(p);
    else
        reply_done(p);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_end(struct routes_pipe *p, const struct note_call *note)
{
    const struct strings *said = &note->answer;
    if (note->error || said->count < 2 || !routes_end_valid(said->items[0], said->items[1])) {
        routes_pipe_close(p, 503, M_PIPE_FAILED, SLICE_LIT(ROUTES_NOT_ENDED));
    } else if (strcmp(said->items[1], "end") != 0) { /* somebody else did, before */
        routes_pipe_close_ended(p);
        set_ended(p, said->items[0], said->items[1]);
    }
}

void routes_pipe_told(struct routes_pipe *p, const struct note_call *note)
{
    if (!p->status && note)
        on_end(p, note);
    else if (!p->status)
        routes_pipe_close(p, 503, M_PIPE_FAILED, SLICE_LIT(ROUTES_NOT_ENDED));
    else if (note && !note->error)
        (void)routes_pipe_note_ended(p, &note->answer);
    if (p->call)
        answer(p);
}

void routes_pipe_finish(struct routes_pipe *p)
{
    if (p->status == 409 && !p->ended && p->call)
        ask(p, "sse_ended", NULL);
    else if (!p->status && p->complete && p->request.ends)
        ask(p, "sse_end", "end");
    else if (p->call)
        answer(p);
}
