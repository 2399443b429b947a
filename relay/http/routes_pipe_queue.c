/* SPDX-License-Identifier: Apache-2.0 */
/* What has been cut of a pipe's body and waits to be published. */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/http/routes_pipe_parts.h"

/* --- what is held ----------------------------------------------------------------------------- */

void routes_pipe_update_held(struct routes_pipe *p)
{
    if (!p->call)
        return;
    size_t held = cutter_bytes(&p->cutter) + p->queued_bytes + p->flight_bytes;
    if (held > p->held)
        front_body_hold(p->call, held - p->held);
    else
        front_body_let_go(p->call, p->held - held);
    p->held = held;
}

void routes_pipe_drop_queue(struct routes_pipe *p)
{
    for (size_t i = 0; i < p->queued; i++)
        publication_reset(&p->queue[i]);
    free(p->queue);
    p->queue = NULL;
    p->queued = p->queued_bytes = 0;
}

bool routes_pipe_is_full(const struct routes_pipe *p)
{
    return p->queued >= PIPE_QUEUE_MAX || p->queued_bytes >= PIPE_QUEUE_BYTES_MAX;
}

/* --- what comes in ---------------------------------------------------------------------------- */

static void close_cut(struct routes_pipe *p, enum err e)
{
    struct buf b = {0};
    if (e == ERR_RANGE)
        buf_printf(&b, "data: more than max_event_bytes, expected at most %zu bytes",
                   p->cutter.max_bytes);
    else
        buf_puts(&b, "data: expected valid UTF-8");
    routes_pipe_close(p, e == ERR_RANGE ? 413 : 400, M_PIPE_REFUSED, buf_slice(&b));
    buf_reset(&b);
}

static void add_cut(struct routes_pipe *p, const struct cut *cut)
{
    struct problem problem = {0};
    p->queue = mem_grow(p->queue, p->queued, sizeof(*p->queue));
    if (request_pipe_item(&p->request, p->r->config, cut, &p->queue[p->queued], &problem)) {
        routes_pipe_close(p, problem.status, M_PIPE_REFUSED, buf_slice(&problem.detail));
        buf_reset(&problem.detail);
        return;
    }
    p->queued_bytes += p->queue[p->queued].data.len + PIPE_EVENT_COST;
    p->queued++;
}

/* Until the queue is full, or something is wrong. */
void routes_pipe_cut(struct routes_pipe *p, struct slice *rest)
{
    struct cut cut;
    while (!p->status && !routes_pipe_is_full(p)) {
        enum err e = cutter_next(&p->cutter, rest, &cut);
        if (e == ERR_AGAIN)
            return;
        if (e)
            close_cut(p, e);
        else
            add_cut(p, &cut);
    }
}

void routes_pipe_cut_end(struct routes_pipe *p)
{
    struct cut cut;
    enum err e = p->status ? ERR_NOT_FOUND : cutter_end(&p->cutter, &cut);
    if (e == OK)
        add_cut(p, &cut);
    else if (e != ERR_NOT_FOUND)
        close_cut(p, e);
}
