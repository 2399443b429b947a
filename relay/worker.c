/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/worker.h"

#include <stdlib.h>

#include "common/mem.h"
#include "relay/auth/auth.h"
#include "relay/bus/bus.h"
#include "relay/http/front.h"
#include "relay/http/routes.h"
#include "relay/kit/loop_lag.h"

enum {
    EVENTS_PER_BODY = 8,
    BODIES_HELD = 8,
    OTHER_PARAMETERS = 16, /* of a query, beside its topics */
};
static const double DRAIN_POLL_S = 0.05;

struct worker {
    unsigned number;
    struct ev_loop *loop;
    struct inbox *inbox;
    struct node *node;
    struct fanout *fanout;
    struct routes *routes;
    struct front *front;
    bool drained;
    struct loop_lag *lag;
    ev_timer drain_poll;
};

/* --- limits ---------------------------------------------------------------------------------- */

/* Its even share of what the node may take: the kernel spreads connections by a hash. */
static struct front_limits front_limits(const struct worker *w, const struct config *config)
{
    struct front_limits limits = {.max_connections = (unsigned)w->node->files,
                                  .max_header_bytes = config->max_header_bytes,
                                  .max_parameters = config->max_topics + OTHER_PARAMETERS,
                                  .max_others = w->node->max_others / w->node->workers,
                                  .handover = config->park == PARK_HANDOVER,
                                  .accept_rate =
                                      (double)config->accept_rate / (double)w->node->workers,
                                  .idle_ms = config->http_idle_timeout_ms,
                                  .max_body_bytes = config->max_event_bytes * EVENTS_PER_BODY,
                                  .max_held_bytes = config->publish_max_held_bytes};
    if (limits.max_others < 2) /* one to ask, one to publish */
        limits.max_others = 2;
    if (!limits.max_held_bytes)
        limits.max_held_bytes = limits.max_body_bytes * BODIES_HELD;
    if (limits.max_body_bytes > limits.max_held_bytes)
        limits.max_body_bytes = limits.max_held_bytes;
    return limits;
}

/* --- notes ----------------------------------------------------------------------------------- */

static void configure(struct worker *w, struct note_config *note)
{
    struct front_limits limits = front_limits(w, note->config);
    front_configure(w->front, &limits);
    fanout_configure(w->fanout, note->config);
    routes_configure(w->routes, note->config);
    config_unref(note->config);
    free(note);
}

static void take_read(struct worker *w, struct note_read *note)
{
    if (note->looks)
        routes_take_read(w->routes, note);
    else
        fanout_take_page(w->fanout, note);
}

static void take(struct worker *w, struct note *note)
{
    switch (note->kind) {
    case NOTE_EVENTS:
        fanout_take_events(w->fanout, (struct note_events *)note);
        return;
    case NOTE_GAP:
        fanout_take_gap(w->fanout, (struct note_gap *)note);
        return;
    case NOTE_READ:
        take_read(w, (struct note_read *)note);
        return;
    case NOTE_PUBLISH:
        routes_take_published(w->routes, (struct note_publish *)note);
        return;
    case NOTE_CENSUS:
        routes_take_census(w->routes, (struct note_census *)note);
        return;
    case NOTE_CONFIG:
        configure(w, (struct note_config *)note);
        return;
    case NOTE_DRAIN:
        free(note);
        fanout_drain(w->fanout);
        routes_drain(w->routes);
        ev_timer_again(w->loop, &w->drain_poll);
        return;
    case NOTE_STOP:
        free(note);
        ev_break(w->loop, EVBREAK_ALL);
        return;
    case NOTE_CALL:
        routes_take_call(w->routes, (struct note_call *)note);
        return;
    case NOTE_REMOTE:
        routes_take_remote(w->routes, (struct note_remote *)note);
        return;
    case NOTE_CONTROL:
        routes_take_control(w->routes, (struct note_control *)note);
        return;
    case NOTE_REVOKED:
        routes_take_revoked(w->routes, (struct note_revoked *)note);
        return;
    case NOTE_AUTH:
        routes_set_auth(w->routes, ((struct note_auth *)note)->auth);
        free(note);
        return;
    case NOTE_TRUST:
    case NOTE_WATCH:
    case NOTE_UNWATCH:
        break;
    }
    abort(); /* nobody sends these to a worker */
}

static void on_inbox(void *arg)
{
    struct worker *w = arg;
    struct inbox_item *item;
    while (!fanout_is_turn_full(w->fanout)) {
        if (!(item = inbox_pop(w->inbox)))
            return;
        take(w, (struct note *)item);
    }
    inbox_wake(w->inbox); /* the rest after the flush */
}

static void note_drop(struct note *note)
{
    if (note->kind == NOTE_CENSUS)
        census_free(((struct note_census *)note)->counts);
    if (note->kind == NOTE_AUTH)
        auth_unref(((struct note_auth *)note)->auth);
    note_free(note);
}

/* --- the loop -------------------------------------------------------------------------------- */

static void on_drain_poll(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    (void)loop, (void)revents;
    struct worker *w = watcher->data;
    size_t calls = fanout_streams(w->fanout) + front_calls(w->front);
    if (w->drained || calls) /* a publish in flight is answered, too */
        return;
    w->drained = true;
    atomic_fetch_add(&w->node->drained, 1);
    ev_timer_stop(w->loop, &w->drain_poll);
}

/* --- life ------------------------------------------------------------------------------------ */

struct worker *worker_new(unsigned number)
{
    struct worker *w = mem_zero(1, sizeof(*w));
    w->number = number;
    w->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!w->loop)
        abort();
    w->inbox = inbox_new(w->loop, on_inbox, w);
    return w;
}

struct inbox *worker_inbox(struct worker *w)
{
    return w->inbox;
}

static void end_connection(void *call)
{
    front_end(call);
}

enum err worker_setup(struct worker *w, struct node *node, struct config *config,
                      const int *listen_fds, size_t count)
{
    w->node = node;
    w->fanout = fanout_new(w->loop, w->number, node, config, end_connection);
    w->routes = routes_new(w->loop, w->fanout, node, w->number, config);
    struct front_limits limits = front_limits(w, config);
    if (w->number == 0)
        node->slim = front_memory_is_known(&limits);
    limits.slim = node->slim;
    w->front = front_new(w->loop, listen_fds, count, &limits, &node->body_bytes, &routes_handler,
                         w->routes, node->metrics[w->number]);
    if (!w->front)
        return ERR_IO;
    w->lag = loop_lag_new(w->loop, node->metrics[w->number], LOOP_LAG_PERIOD_S);
    ev_init(&w->drain_poll, on_drain_poll);
    w->drain_poll.repeat = DRAIN_POLL_S;
    w->drain_poll.data = w;
    return OK;
}

void worker_set_auth(struct worker *w, struct auth *auth)
{
    routes_set_auth(w->routes, auth);
}

void worker_run(struct worker *w)
{
    ev_run(w->loop, 0);
}

void worker_close(struct worker *w)
{
    if (w->fanout)
        fanout_end_all(w->fanout);
    front_free(w->front);
    w->front = NULL;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    worker_close(w);
    struct inbox_item *item;
    while ((item = inbox_pop(w->inbox)))
        note_drop((struct note *)item);
    routes_free(w->routes);
    fanout_free(w->fanout);
    loop_lag_free(w->lag);
    inbox_free(w->inbox);
    ev_loop_destroy(w->loop);
    free(w);
}
