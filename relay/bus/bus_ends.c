/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_ends.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"

#define NEVER UINT64_MAX
/* Many nodes ask at the same time, names come by the thousand, and each answer tells when to ask
 * next: so one namespace costs each node no more than one call in ASK_PAUSE_US, whatever happens.
 */
#define ASK_PAUSE_US UINT64_C(20000)
#define AGAIN_US UINT64_C(1000000) /* after an answer that was none */
/* After one that something is wrong there: with one topic, perhaps, and others are due. */
#define DENIED_US UINT64_C(2000000)
#define CLOCK_SPARE_US UINT64_C(1000)

enum { OURS_MAX = 10000 }; /* namespaces; of more that have no watchers, who reads next asks */

static const struct strings no_arguments;

/* A namespace in which something is due, as far as is known here. */
struct ends_space {
    struct store_call call; /* first */
    struct bus_ends *all;
    char *ns;
    uint64_t due_us; /* monotonic */
    bool asked;      /* the answer is due */
    bool is_ours;    /* something there was published by this node: no watchers are needed */
    UT_hash_handle hh;
};

struct bus_ends {
    const struct bus_base *base;
    struct bus_spaces *spaces;
    struct ends_space *known; /* bounded: those with watchers here, and OURS_MAX */
    uint64_t next_us;         /* when the timer fires; NEVER: it is not set */
    bool up;
    ev_timer timer;
    struct log_limit denied_limit;
};

/* --- when ------------------------------------------------------------------------------------ */

static void timer_set(struct bus_ends *ends, uint64_t due_us)
{
    uint64_t now = clock_mono_us();
    ends->next_us = due_us;
    ev_now_update(ends->base->loop);
    timer_once(ends->base->loop, &ends->timer, due_us > now ? (double)(due_us - now) / 1e6 : 0.);
}

static void space_raise(struct ends_space *space, uint64_t due_us)
{
    struct bus_ends *ends = space->all;
    if (due_us >= space->due_us)
        return;
    space->due_us = due_us;
    if (ends->up && !space->asked && due_us < ends->next_us)
        timer_set(ends, due_us);
}

/* @at_us is by the clock that gives the ids. */
static uint64_t mono_at(const struct bus_ends *ends, uint64_t at_us)
{
    uint64_t now = clock_wall_us() + (uint64_t)store_clock_offset_us(&ends->base->store);
    return clock_mono_us() + CLOCK_SPARE_US + (at_us > now ? at_us - now : 0);
}

/* --- the spaces ------------------------------------------------------------------------------- */

static struct ends_space *space_find(struct bus_ends *ends, struct slice ns)
{
    struct ends_space *space;
    HASH_FIND(hh, ends->known, ns.ptr, ns.len, space);
    return space;
}

static struct ends_space *space_get(struct bus_ends *ends, struct slice ns)
{
    struct ends_space *space = space_find(ends, ns);
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->all = ends;
    space->ns = slice_dup(ns);
    space->due_us = NEVER;
    HASH_ADD_KEYPTR(hh, ends->known, space->ns, ns.len, space);
    return space;
}

static void space_free(struct ends_space *space)
{
    HASH_DEL(space->all->known, space);
    free(space->ns);
    free(space);
}

/* --- asking ----------------------------------------------------------------------------------- */

/* When to ask again; NEVER: the round that asks about all namespaces will do. */
static uint64_t answer_due(const struct ends_space *space, enum err e)
{
    uint64_t at_ms = 0, soonest = clock_mono_us() + ASK_PAUSE_US;
    if (e == ERR_AGAIN || e == ERR_CLOSED)
        return clock_mono_us() + AGAIN_US;
    if (e)
        return clock_mono_us() + DENIED_US;
    if (!space->call.answer.count ||
        slice_u64(slice_of(space->call.answer.items[0]), EVENT_ID_MAX / 1000, &at_ms) || !at_ms)
        return NEVER;
    uint64_t due = mono_at(space->all, at_ms * 1000);
    return due > soonest ? due : soonest;
}

/* What else the store refuses, it logs itself. */
static void answer_log(struct ends_space *space, enum err e)
{
    uint64_t held;
    const struct strings *said = &space->call.answer;
    if (e == ERR_DENIED && log_limit_pass(&space->all->denied_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "a topic whose end_after is over cannot be ended", "ns", space->ns,
                "reason", said->count ? said->items[0] : "", "not_logged", log_u64(held), NULL);
}

static void on_answer(struct store_call *call, enum err e)
{
    struct ends_space *space = (struct ends_space *)call;
    struct bus_ends *ends = space->all;
    space->asked = false;
    answer_log(space, e);
    uint64_t heard = space->due_us, due = answer_due(space, e);
    strings_reset(&call->answer);
    space->due_us = NEVER;
    space_raise(space, heard < due ? heard : due);
    if (space->due_us == NEVER ||
        !(space->is_ours || bus_spaces_find(ends->spaces, slice_of(space->ns))))
        space_free(space);
}

/* What is heard from here on may be later than the answer, so it stands beside it. */
static void space_ask(struct ends_space *space)
{
    const struct store *store = &space->all->base->store;
    space->asked = true;
    space->due_us = NEVER;
    space->call = (struct store_call){
        .function = "sse_due", .ns = space->ns, .args = &no_arguments, .done = on_answer};
    store->ops->call(store->impl, &space->call);
}

/* For the first of all that are not asked just now. */
static void timer_plan(struct bus_ends *ends)
{
    uint64_t next = NEVER;
    for (struct ends_space *space = ends->known; space; space = space->hh.next)
        if (!space->asked && space->due_us < next)
            next = space->due_us;
    ends->next_us = NEVER;
    if (next != NEVER)
        timer_set(ends, next);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus_ends *ends = w->data;
    uint64_t now = clock_mono_us();
    struct ends_space *space, *next;
    ends->next_us = 0; /* it is set once, below */
    HASH_ITER (hh, ends->known, space, next)
        if (!space->asked && space->due_us <= now)
            space_ask(space);
    timer_plan(ends);
}

/* --- in --------------------------------------------------------------------------------------- */

void bus_ends_ask(struct bus_ends *ends, const char *ns)
{
    if (ends->up)
        space_raise(space_get(ends, slice_of(ns)), clock_mono_us() + ASK_PAUSE_US);
}

void bus_ends_ask_all(struct bus_ends *ends)
{
    for (struct bus_space *space = bus_spaces_first(ends->spaces); space;
         space = bus_space_next(space))
        bus_ends_ask(ends, bus_space_ns(space));
}

/* Ids may be ahead of the clock; what is due does not wait for them. */
static uint64_t due_after(const struct bus_ends *ends, uint64_t id, uint64_t after_ms)
{
    uint64_t now = clock_wall_us() + (uint64_t)store_clock_offset_us(&ends->base->store);
    return mono_at(ends, (id < now ? id : now) + after_ms * 1000);
}

void bus_ends_hear(struct bus_ends *ends, const struct event *ev)
{
    uint64_t after_ms = event_end_after_ms(ev);
    if (!after_ms || !event_id(ev) || event_end(ev) || !bus_spaces_find(ends->spaces, event_ns(ev)))
        return;
    space_raise(space_get(ends, event_ns(ev)), due_after(ends, event_id(ev), after_ms));
}

void bus_ends_published(struct bus_ends *ends, const struct note_publish *note)
{
    struct slice ns = slice_of(note->request.ns);
    for (size_t i = 0; note->outcome == PUBLISH_DONE && i < note->request.count; i++) {
        const struct publication *item = &note->request.items[i];
        uint64_t id = note->ids[i];
        if (!item->end_after_ms || item->ends || !id || id == NOTE_ID_ENDED)
            continue;
        if (!space_find(ends, ns) && HASH_COUNT(ends->known) >= OURS_MAX)
            return;
        struct ends_space *space = space_get(ends, ns);
        space->is_ours = true;
        space_raise(space, due_after(ends, id, item->end_after_ms));
    }
}

void bus_ends_set_up(struct bus_ends *ends, bool up)
{
    ends->up = up;
    ev_timer_stop(ends->base->loop, &ends->timer);
    ends->next_us = NEVER;
    if (!up)
        return;
    timer_plan(ends); /* of what was due before */
    bus_ends_ask_all(ends);
}

/* --- life ------------------------------------------------------------------------------------- */

struct bus_ends *bus_ends_new(const struct bus_base *base, struct bus_spaces *spaces)
{
    struct bus_ends *ends = mem_zero(1, sizeof(*ends));
    ends->base = base;
    ends->spaces = spaces;
    ends->next_us = NEVER;
    ev_init(&ends->timer, on_timer);
    ends->timer.data = ends;
    return ends;
}

void bus_ends_free(struct bus_ends *ends)
{
    if (!ends)
        return;
    struct ends_space *space, *next;
    ev_timer_stop(ends->base->loop, &ends->timer);
    HASH_ITER (hh, ends->known, space, next) {
        assert(!space->asked); /* the store has given back what it was asked */
        space_free(space);
    }
    free(ends);
}
