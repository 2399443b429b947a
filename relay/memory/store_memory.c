/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/store_memory.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "relay/memory/memory.h"
#include "relay/memory/memory_calls.h"
#include "relay/memory/memory_end_calls.h"

static const struct memory_limits limits = {
    .topics = 10000,
    .spaces = 10000,
    .bytes = 256 << 20,
    .once = 100000,
};

enum { TICKETS_MAX = 100000, REVOKED_KIND_MAX = 100000 };

/* Somebody listens for a namespace's revocations. */
struct listener {
    struct store_name *name;
    UT_hash_handle hh;
};

struct store_memory {
    struct bus *bus;
    const struct store_events *events;
    struct memory *memory;
    struct config *config;
    struct memory_calls *calls;
    struct listener *listeners; /* by namespace */
    bool paused;
    /* What came to be published while paused: at most one for each HTTP connection, since the
     * answer waits, too. */
    struct inbox_item *parked, **parked_end;
};

static void op_start(void *impl)
{
    struct store_memory *s = impl;
    s->events->reachable(s->bus);
    s->events->up(s->bus, STORE_WHOLE);
}

static void op_configure(void *impl, struct config *config)
{
    struct store_memory *s = impl;
    memory_configure(s->memory, config);
    config_unref(s->config);
    s->config = config_ref(config);
}

static void op_open(void *impl, const char *ns, uint64_t seen, bool watched)
{
    (void)watched;
    memory_open(((struct store_memory *)impl)->memory, slice_of(ns), seen, clock_wall_us());
}

static void op_close(void *impl, const char *ns)
{
    memory_close(((struct store_memory *)impl)->memory, slice_of(ns));
}

/* --- watching: every worker is given every event, so there is nothing to ask for
 * ------------------ */

static void op_watch(void *impl, struct store_name *name)
{
    struct store_memory *s = impl;
    if (name->subject == STORE_REVOKED) {
        struct listener *listener = mem_zero(1, sizeof(*listener));
        listener->name = name;
        name->impl = listener;
        HASH_ADD_KEYPTR(hh, s->listeners, name->ns, strlen(name->ns), listener);
    }
    name->heard = true;
    s->events->heard(s->bus, name);
}

static void op_unwatch(void *impl, struct store_name *name)
{
    struct store_memory *s = impl;
    struct listener *listener = name->impl;
    if (!listener)
        return;
    HASH_DEL(s->listeners, listener);
    free(listener);
}

static void op_rewatch(void *impl, struct store_name *name)
{
    (void)impl, (void)name;
}

/* --- reading --------------------------------------------------------------------------------- */

static void op_look(void *impl, struct store_look *look)
{
    memory_look(((struct store_memory *)impl)->memory, look, clock_wall_us());
    look->done(look, OK);
}

static void op_range(void *impl, struct store_range *range)
{
    memory_range(((struct store_memory *)impl)->memory, range, clock_wall_us());
    range->done(range, OK);
}

/* --- calls ----------------------------------------------------------------------------------- */

static void deliver(void *arg, struct event *ev)
{
    struct store_memory *s = arg;
    s->events->deliver(s->bus, ev, UINT64_MAX);
    event_unref(ev);
}

static void op_call(void *impl, struct store_call *call)
{
    struct store_memory *s = impl;
    const struct memory_end_calls ends = {.memory = s->memory,
                                          .now_us = clock_wall_us(),
                                          .arrival_us = clock_mono_us(),
                                          .deliver = deliver,
                                          .arg = s};
    enum err e;
    if (memory_end_calls_run(&ends, call, &e)) {
        call->done(call, e);
        return;
    }
    struct buf told = {0};
    struct listener *listener;
    e = memory_calls_run(s->calls, call, s->config, clock_wall_us(), &told);
    HASH_FIND(hh, s->listeners, call->ns, strlen(call->ns), listener);
    if (told.len && listener)
        s->events->told(s->bus, listener->name, buf_slice(&told));
    buf_reset(&told);
    call->done(call, e);
}

/* There is no other relay. */
static void op_tell(void *impl, struct store_telling *telling)
{
    (void)impl;
    telling->heard = 0;
    telling->done(telling, OK);
}

/* --- publishing ------------------------------------------------------------------------------ */

static uint64_t publish_item(struct store_memory *s, struct slice ns, const struct publication *p)
{
    struct event *events[PUBLICATION_TOPICS_MAX];
    uint64_t id = 0;
    size_t count = memory_publish(s->memory, ns, p, clock_wall_us(), clock_mono_us(), events, &id);
    for (size_t i = 0; i < count; i++)
        deliver(s, events[i]);
    return id;
}

static void refuse(struct store_memory *s, struct note_publish *note, const char *why)
{
    note->status = 503;
    buf_clear(&note->detail);
    buf_puts(&note->detail, why);
    bus_published(s->bus, note);
}

static void publish(struct store_memory *s, struct note_publish *note)
{
    struct publication_request *request = &note->request;
    struct slice ns = slice_of(request->ns);
    if (!memory_has_ids(s->memory, ns, request->count, clock_wall_us())) {
        refuse(s, note, "no event id is left below 2^53; nothing was published");
        return;
    }
    for (size_t i = 0; i < request->count; i++)
        note->ids[i] = publish_item(s, ns, &request->items[i]);
    note_publish_settle(note);
    bus_published(s->bus, note);
}

static void op_publish(void *impl, struct note_publish *note)
{
    struct store_memory *s = impl;
    note->ids = mem_zero(note->request.count, sizeof(*note->ids));
    if (!s->paused) {
        publish(s, note);
        return;
    }
    note->note.item.next = NULL;
    *s->parked_end = &note->note.item;
    s->parked_end = &note->note.item.next;
}

static struct inbox_item *take_parked(struct store_memory *s)
{
    struct inbox_item *item = s->parked;
    s->parked = NULL;
    s->parked_end = &s->parked;
    return item;
}

/* A worker is behind. Publishing is the only source of events here, so that is what has to wait. */
static void op_pause(void *impl, bool paused)
{
    struct store_memory *s = impl;
    s->paused = paused;
    struct inbox_item *next, *item = paused ? NULL : take_parked(s);
    for (; item; item = next) {
        next = item->next; /* the note is its worker's once it is answered */
        publish(s, (struct note_publish *)item);
    }
}

/* What is published here is delivered here: nothing is ever missed. */
static void op_hold(void *impl)
{
    (void)impl;
}

static void op_resume(void *impl)
{
    (void)impl; /* nothing is ever missed, so nothing waits for a repair */
}

static uint64_t op_mark(void *impl)
{
    (void)impl;
    return 0;
}

static void op_free(void *impl)
{
    struct store_memory *s = impl;
    struct inbox_item *next;
    for (struct inbox_item *item = take_parked(s); item; item = next) {
        next = item->next;
        refuse(s, (struct note_publish *)item, "the relay is stopping; nothing was published");
    }
    struct listener *listener, *tmp;
    HASH_ITER (hh, s->listeners, listener, tmp) {
        HASH_DEL(s->listeners, listener);
        free(listener);
    }
    memory_calls_free(s->calls);
    memory_free(s->memory);
    config_unref(s->config);
    free(s);
}

struct store store_memory_new(struct ev_loop *loop, struct bus *bus,
                              const struct store_events *events, struct config *config,
                              struct metrics *metrics)
{
    static const struct store_ops ops = {.kind = "memory",
                                         .start = op_start,
                                         .free = op_free,
                                         .configure = op_configure,
                                         .watch = op_watch,
                                         .unwatch = op_unwatch,
                                         .rewatch = op_rewatch,
                                         .open = op_open,
                                         .close = op_close,
                                         .look = op_look,
                                         .range = op_range,
                                         .publish = op_publish,
                                         .call = op_call,
                                         .tell = op_tell,
                                         .pause = op_pause,
                                         .hold = op_hold,
                                         .mark = op_mark,
                                         .resume = op_resume};
    (void)loop, (void)metrics;
    struct store_memory *s = mem_zero(1, sizeof(*s));
    s->bus = bus;
    s->events = events;
    s->memory = memory_new(&limits, config);
    s->config = config_ref(config);
    s->calls = memory_calls_new(TICKETS_MAX, REVOKED_KIND_MAX);
    s->parked_end = &s->parked;
    return (struct store){&ops, s};
}
