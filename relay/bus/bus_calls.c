/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_calls.h"

#include <stdlib.h>

#include "common/mem.h"
#include "relay/kit/timer.h"

/* A call that is sent may be done even where its answer is lost, so it is sent once. What the store
 * certainly did not do is tried again: a Redis that fails over or is busy says so for a while. How
 * long somebody waits is his own matter (note_call.cancelled). */

enum {
    CALLS_MAX = 10000, /* here at a time */
    TRIES_MAX = 25,    /* of one: some seconds of a store that is up and yet does nothing */
};
static const double AGAIN_S = 0.2;

struct call {
    struct store_call store; /* first */
    struct bus_calls *all;
    struct note_call *note;
    unsigned tries;
    TAILQ_ENTRY(call) link; /* in all->waiting */
};

TAILQ_HEAD(call_list, call);

struct bus_calls {
    const struct bus_base *base;
    struct bus_outbox *outbox;
    struct call_list waiting; /* in order of arrival */
    size_t count;             /* waiting or asked */
    bool up;
    ev_timer again;
};

static void call_end(struct call *call, enum err e)
{
    struct bus_calls *calls = call->all;
    struct note_call *note = call->note;
    note->error = e == ERR_CLOSED ? ERR_AGAIN : e;
    note->answer = call->store.answer;
    calls->count--;
    free(call);
    bus_outbox_post(calls->outbox, note->worker, &note->note);
}

static bool is_cancelled(const struct call *call)
{
    return atomic_load_explicit(&call->note->cancelled, memory_order_relaxed);
}

static void on_called(struct store_call *store, enum err e)
{
    struct call *call = (struct call *)store;
    struct bus_calls *calls = call->all;
    if (e != ERR_AGAIN || is_cancelled(call) || call->tries >= TRIES_MAX) {
        call_end(call, e);
        return;
    }
    TAILQ_INSERT_TAIL(&calls->waiting, call, link);
    if (calls->up && !ev_is_active(&calls->again))
        timer_once(calls->base->loop, &calls->again, AGAIN_S);
}

static void call_ask(struct call *call)
{
    const struct store *store = &call->all->base->store;
    if (is_cancelled(call)) {
        call_end(call, ERR_AGAIN);
        return;
    }
    call->tries++;
    store->ops->call(store->impl, &call->store);
}

/* Those that wait; what the store refuses meanwhile waits again. */
static void ask_all(struct bus_calls *calls)
{
    struct call_list asked = TAILQ_HEAD_INITIALIZER(asked);
    struct call *call;
    TAILQ_CONCAT(&asked, &calls->waiting, link);
    while ((call = TAILQ_FIRST(&asked))) {
        TAILQ_REMOVE(&asked, call, link);
        call_ask(call);
    }
}

void bus_calls_sweep(struct bus_calls *calls)
{
    struct call *call, *next;
    for (call = TAILQ_FIRST(&calls->waiting); call; call = next) {
        next = TAILQ_NEXT(call, link);
        if (!is_cancelled(call))
            continue;
        TAILQ_REMOVE(&calls->waiting, call, link);
        call_end(call, ERR_AGAIN);
    }
}

void bus_calls_take(struct bus_calls *calls, struct note_call *note)
{
    if (calls->count >= CALLS_MAX)
        bus_calls_sweep(calls);
    struct call *call = mem_zero(1, sizeof(*call));
    call->all = calls;
    call->note = note;
    call->store = (struct store_call){
        .function = note->function, .ns = note->ns, .args = &note->args, .done = on_called};
    if (calls->count++ >= CALLS_MAX)
        call_end(call, ERR_AGAIN);
    else if (calls->up)
        call_ask(call);
    else
        TAILQ_INSERT_TAIL(&calls->waiting, call, link);
}

void bus_calls_set_up(struct bus_calls *calls, bool up)
{
    calls->up = up;
    ev_timer_stop(calls->base->loop, &calls->again);
    if (up)
        ask_all(calls);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    ask_all(w->data);
}

struct bus_calls *bus_calls_new(const struct bus_base *base, struct bus_outbox *outbox)
{
    struct bus_calls *calls = mem_zero(1, sizeof(*calls));
    calls->base = base;
    calls->outbox = outbox;
    TAILQ_INIT(&calls->waiting);
    ev_init(&calls->again, on_again);
    calls->again.data = calls;
    return calls;
}

void bus_calls_free(struct bus_calls *calls)
{
    struct call *call;
    if (!calls)
        return;
    while ((call = TAILQ_FIRST(&calls->waiting))) {
        TAILQ_REMOVE(&calls->waiting, call, link);
        call_end(call, ERR_AGAIN);
    }
    ev_timer_stop(calls->base->loop, &calls->again);
    free(calls);
}
