/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/bus/bus_bridges.h"
#include "relay/bus/bus_calls.h"
#include "relay/bus/bus_checks.h"
#include "relay/bus/bus_connections.h"
#include "relay/bus/bus_ends.h"
#include "relay/bus/bus_live.h"
#include "relay/bus/bus_reads.h"
#include "relay/bus/bus_remote.h"
#include "relay/bus/bus_revocations.h"
#include "relay/kit/loop_lag.h"

static const double REOPEN_S = 10.0, SWEEP_S = 1.0;

/* The parts, each of which knows only those above it. */
struct bus {
    struct bus_base base;
    struct bus_outbox *outbox;
    struct bus_spaces *spaces;
    struct bus_repairs *repairs;
    struct bus_live *live;
    struct bus_connections *connections;
    struct bus_bridges *bridges;
    struct bus_checks *checks;
    struct bus_reads *reads;
    struct bus_ends *ends;
    struct bus_calls *calls;
    struct bus_remote *remote;
    struct bus_revocations *revocations;
    enum store_loss loss; /* as it was told last */
    struct inbox *inbox;
    struct loop_lag *lag;
    atomic_bool up;
    ev_prepare turn_end;
    ev_timer reopen, sweep, check;
    char published_ns[128]; /* the last namespace without watchers here that was published to;
                               settled until the next reopen */
};

/* --- notes ------------------------------------------------------------------------------------ */

void bus_published(struct bus *bus, struct note_publish *publish)
{
    if (publish->status == 200)
        metrics_add(bus->base.metrics, M_EVENTS_PUBLISHED, publish->request.count);
    else
        metrics_add(bus->base.metrics, M_PUBLISH_REFUSED, publish->request.count);
    bus_ends_published(bus->ends, publish);
    bus_outbox_post(bus->outbox, publish->worker, &publish->note);
}

/* What tails hold counts as events that wait, but nobody is slow who could let it go. */
static size_t tail_bytes(const struct config *config)
{
    uint64_t share = config->memory_events / 4;
    return share && share < config->tail_max_bytes ? share : config->tail_max_bytes;
}

static void configure(struct bus *bus)
{
    const struct config *config = bus->base.config;
    bus->check.repeat = (double)config->redis_check_ms / 1000.;
    ev_timer_again(bus->base.loop, &bus->check);
    tails_limit(bus->base.tails, (uint32_t)config->tail_max_events, tail_bytes(config));
}

static void take_config(struct bus *bus, struct note_config *note)
{
    const struct store *store = &bus->base.store;
    config_unref(bus->base.config);
    bus->base.config = note->config; /* its reference is ours now */
    free(note);
    configure(bus);
    store->ops->configure(store->impl, bus->base.config);
    bus_bridges_configure(bus->bridges);
    if (!bus_spaces_are_up(bus->spaces))
        return;
    bus_spaces_open(bus->spaces);
    bus_revocations_open(bus->revocations);
}

/* A namespace without watchers here may not have its retention settings yet. */
static void take_publish(struct bus *bus, struct note_publish *note)
{
    const struct store *store = &bus->base.store;
    const char *ns = note->request.ns;
    if (!bus_spaces_find(bus->spaces, slice_of(ns)) && strcmp(bus->published_ns, ns) != 0) {
        store->ops->open(store->impl, ns, 0, false);
        snprintf(bus->published_ns, sizeof(bus->published_ns), "%s", ns);
    }
    store->ops->publish(store->impl, note);
}

static void take_watch(struct bus *bus, struct note_name *note)
{
    bus_spaces_watch(bus->spaces, note);
    bus_ends_ask(bus->ends, note->ns);
    note_name_free(note);
}

static void take_unwatch(struct bus *bus, struct note_name *note)
{
    if (bus_spaces_unwatch(bus->spaces, note)) /* reads that wait for it end */
        bus_reads_recheck(bus->reads);
    note_name_free(note);
}

static void take_trust(struct bus *bus, struct note_trust *note)
{
    bus_revocations_trust(bus->revocations, note);
    note_trust_free(note);
}

static void take(struct bus *bus, struct note *note)
{
    const struct store *store = &bus->base.store;
    switch (note->kind) {
    case NOTE_WATCH:
        take_watch(bus, (struct note_name *)note);
        return;
    case NOTE_UNWATCH:
        take_unwatch(bus, (struct note_name *)note);
        return;
    case NOTE_READ:
        bus_reads_take(bus->reads, (struct note_read *)note);
        return;
    case NOTE_PUBLISH:
        take_publish(bus, (struct note_publish *)note);
        return;
    case NOTE_CONFIG:
        take_config(bus, (struct note_config *)note);
        return;
    case NOTE_DRAIN:
        free(note);
        if (store->ops->drain)
            store->ops->drain(store->impl);
        return;
    case NOTE_STOP:
        free(note);
        ev_break(bus->base.loop, EVBREAK_ALL);
        return;
    case NOTE_CALL:
        bus_calls_take(bus->calls, (struct note_call *)note);
        return;
    case NOTE_REMOTE:
        bus_remote_take(bus->remote, (struct note_remote *)note);
        return;
    case NOTE_CONTROL:
        bus_remote_answer(bus->remote, (struct note_control *)note);
        return;
    case NOTE_TRUST:
        take_trust(bus, (struct note_trust *)note);
        return;
    case NOTE_EVENTS:
    case NOTE_GAP:
    case NOTE_REVOKED:
    case NOTE_CENSUS:
    case NOTE_AUTH:
        break;
    }
    abort(); /* nobody sends these to the bus */
}

static void on_inbox(void *arg)
{
    struct bus *bus = arg;
    struct inbox_item *item;
    for (unsigned n = 0; n < 1024; n++) {
        if (!(item = inbox_pop(bus->inbox)))
            return;
        take(bus, (struct note *)item);
    }
    inbox_wake(bus->inbox); /* the store gets its turn first */
}

/* --- timers ----------------------------------------------------------------------------------- */

static void on_reopen(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    bus->published_ns[0] = '\0';
    if (!bus_spaces_are_up(bus->spaces))
        return;
    bus_spaces_open(bus->spaces);
    bus_ends_ask_all(bus->ends);
}

static void on_check(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    bus_checks_start(((struct bus *)w->data)->checks);
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    bus_reads_sweep(bus->reads);
    bus_calls_sweep(bus->calls);
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    bus_spaces_sweep(bus->spaces);
    bus_repairs_go_on(bus->repairs);
    bus_checks_turn(bus->checks);
    bus_reads_turn(bus->reads);
    bus_outbox_flush(bus->outbox);
}

/* --- the store -------------------------------------------------------------------------------- */

/* A name that was heard once, and whose subscription was refused for a while, has missed what its
 * namespace's repair could not know of. */
static void on_store_heard(struct bus *bus, struct store_name *name)
{
    struct strings names = {&name->name, 1};
    switch (name->subject) {
    case STORE_REVOKED:
        bus_revocations_heard(bus->revocations, name);
        return;
    case STORE_NODE:
    case STORE_CONNECTIONS:
    case STORE_BRIDGE:
        return;
    case STORE_EVENTS:
        break;
    }
    if (bus_names_take_heard(name) && bus_spaces_are_up(bus->spaces)) {
        struct bus_space *space = bus_spaces_find(bus->spaces, slice_of(name->ns));
        if (bus_repairs_read_names(bus->repairs, space, &names, bus_space_checked(space),
                                   bus_space_seen(space)))
            bus_names_take_found(name);
    }
    bus_reads_recheck(bus->reads);
}

static void on_store_deliver(struct bus *bus, struct event *ev, uint64_t workers)
{
    bus_live_deliver(bus->live, ev, workers);
    if (event_end_after_ms(ev))
        bus_ends_hear(bus->ends, ev);
}

static void on_store_addressed(struct bus *bus, struct event *ev)
{
    bus_connections_hear(bus->connections, ev);
}

static void on_store_reachable(struct bus *bus)
{
    bus_spaces_open(bus->spaces);
}

/* Whoever was revoked while the connection was broken gets nothing more: so that is known first,
 * and then what was missed is read. */
static void on_store_up(struct bus *bus, enum store_loss loss)
{
    bus->loss = loss;
    bus_revocations_begin(bus->revocations, loss != STORE_WHOLE);
}

static void on_revocations_current(void *arg)
{
    struct bus *bus = arg;
    bus_spaces_set_up(bus->spaces, true);
    bus_calls_set_up(bus->calls, true);
    bus_ends_set_up(bus->ends, true);
    if (bus->loss == STORE_WHOLE) {
        bus_repairs_settle(bus->repairs);
        return;
    }
    bus_spaces_doubt(bus->spaces, bus->loss == STORE_MOVED);
    if (bus->loss == STORE_MOVED)
        bus_outbox_begin_era(bus->outbox);
    bus_repairs_start(bus->repairs);
}

static void on_store_down(struct bus *bus)
{
    bus_spaces_set_up(bus->spaces, false);
    atomic_store(&bus->up, false);
    bus_calls_set_up(bus->calls, false);
    bus_ends_set_up(bus->ends, false);
    bus_revocations_end(bus->revocations);
    bus_connections_lose(bus->connections);
    bus_reads_ground(bus->reads);
    bus_checks_drop(bus->checks);
    bus_repairs_give_up(bus->repairs);
}

static void on_store_told(struct bus *bus, const struct store_name *name, struct slice text)
{
    if (name->subject == STORE_REVOKED)
        bus_revocations_told(bus->revocations, name, text);
    else
        bus_remote_told(bus->remote, text);
}

static void on_store_bridged(struct bus *bus, const struct store_name *name, struct slice channel,
                             struct slice payload)
{
    bus_bridges_hear(bus->bridges, name, channel, payload);
}

static void on_store_missed(struct bus *bus, struct slice ns)
{
    bus_checks_miss(bus->checks, ns);
}

static void on_store_passed(struct bus *bus, uint64_t mark)
{
    bus_checks_passed(bus->checks, mark);
}

static void on_repairs_over(void *arg)
{
    struct bus *bus = arg;
    atomic_store(&bus->up, true);
    bus_connections_find(bus->connections);
    bus_reads_recheck(bus->reads);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void timers_start(struct bus *bus)
{
    struct ev_loop *loop = bus->base.loop;
    ev_prepare_init(&bus->turn_end, on_turn_end);
    ev_timer_init(&bus->reopen, on_reopen, REOPEN_S, REOPEN_S);
    ev_timer_init(&bus->sweep, on_sweep, SWEEP_S, SWEEP_S);
    ev_init(&bus->check, on_check); /* configure() */
    bus->turn_end.data = bus->reopen.data = bus->sweep.data = bus->check.data = bus;
    ev_prepare_start(loop, &bus->turn_end);
    ev_timer_start(loop, &bus->reopen);
    ev_timer_start(loop, &bus->sweep);
}

struct bus *bus_new(struct config *config, struct inbox *const *inboxes, unsigned workers,
                    uint32_t tag, struct metrics *metrics, store_maker make)
{
    static const struct store_events events = {.heard = on_store_heard,
                                               .deliver = on_store_deliver,
                                               .reachable = on_store_reachable,
                                               .up = on_store_up,
                                               .down = on_store_down,
                                               .missed = on_store_missed,
                                               .addressed = on_store_addressed,
                                               .told = on_store_told,
                                               .bridged = on_store_bridged,
                                               .passed = on_store_passed};
    struct bus *bus = mem_zero(1, sizeof(*bus));
    struct bus_base *base = &bus->base;
    base->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!base->loop)
        abort();
    base->config = config_ref(config);
    base->metrics = metrics;
    base->tag = tag;
    snprintf(base->tag_text, sizeof(base->tag_text), "%08" PRIx32, tag);
    base->tails = tails_new();
    bus->outbox = bus_outbox_new(base, inboxes, workers);
    bus->spaces = bus_spaces_new(base);
    bus->repairs = bus_repairs_new(base, bus->outbox, bus->spaces, on_repairs_over, bus);
    bus->live = bus_live_new(base, bus->outbox, bus->spaces, bus->repairs);
    bus->connections = bus_connections_new(base, bus->live, bus->spaces, bus->repairs);
    bus->bridges = bus_bridges_new(base, bus->spaces, bus->live);
    bus->checks = bus_checks_new(base, bus->spaces, bus->repairs);
    bus->reads = bus_reads_new(base, bus->outbox, bus->spaces, bus->repairs);
    bus->ends = bus_ends_new(base, bus->spaces);
    bus->calls = bus_calls_new(base, bus->outbox);
    bus->remote = bus_remote_new(base, bus->outbox);
    bus->revocations =
        bus_revocations_new(base, bus->outbox, bus->spaces, on_revocations_current, bus);
    bus->inbox = inbox_new(base->loop, on_inbox, bus);
    bus->lag = loop_lag_new(base->loop, metrics, LOOP_LAG_PERIOD_S);
    timers_start(bus);
    configure(bus);
    base->store = make(base->loop, bus, &events, config, metrics);
    bus_remote_listen(bus->remote);
    bus_bridges_configure(bus->bridges);
    return bus;
}

void bus_run(struct bus *bus)
{
    const struct store *store = &bus->base.store;
    store->ops->start(store->impl);
    ev_run(bus->base.loop, 0);
}

/* What came too late to be done. */
static void note_return(struct bus *bus, struct note *note)
{
    switch (note->kind) {
    case NOTE_READ:
        bus_outbox_post(bus->outbox, ((struct note_read *)note)->worker, note);
        return;
    case NOTE_PUBLISH:
        bus_outbox_post(bus->outbox, ((struct note_publish *)note)->worker, note);
        return;
    case NOTE_CALL:
        ((struct note_call *)note)->error = ERR_AGAIN;
        bus_outbox_post(bus->outbox, ((struct note_call *)note)->worker, note);
        return;
    case NOTE_REMOTE:
        ((struct note_remote *)note)->status = 504;
        bus_outbox_post(bus->outbox, ((struct note_remote *)note)->worker, note);
        return;
    case NOTE_WATCH:
    case NOTE_UNWATCH:
    case NOTE_TRUST:
    case NOTE_EVENTS:
    case NOTE_GAP:
    case NOTE_REVOKED:
    case NOTE_CONTROL:
    case NOTE_CENSUS:
    case NOTE_CONFIG:
    case NOTE_AUTH:
    case NOTE_DRAIN:
    case NOTE_STOP:
        note_free(note);
        return;
    }
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    struct store *store = &bus->base.store;
    on_store_down(bus); /* ends what waits with us */
    /* The store gives back what it was asked: reads wait again, repairs end. */
    store->ops->free(store->impl);
    store->impl = NULL;
    bus_ends_free(bus->ends);
    bus_calls_free(bus->calls);
    bus_remote_free(bus->remote);
    bus_revocations_free(bus->revocations);
    bus_reads_free(bus->reads);
    bus_checks_drop(bus->checks);
    bus_checks_free(bus->checks);
    bus_repairs_free(bus->repairs);
    struct inbox_item *item;
    while ((item = inbox_pop(bus->inbox)))
        note_return(bus, (struct note *)item);
    bus_connections_free(bus->connections);
    bus_bridges_free(bus->bridges);
    bus_live_free(bus->live);
    bus_spaces_free(bus->spaces);
    bus_outbox_free(bus->outbox);
    tails_free(bus->base.tails);
    inbox_free(bus->inbox);
    loop_lag_free(bus->lag);
    config_unref(bus->base.config);
    ev_loop_destroy(bus->base.loop);
    free(bus);
}

struct inbox *bus_inbox(struct bus *bus)
{
    return bus->inbox;
}

bool bus_is_up(const struct bus *bus)
{
    return atomic_load_explicit(&bus->up, memory_order_relaxed);
}

const char *bus_kind(const struct bus *bus)
{
    return bus->base.store.ops->kind;
}

enum store_condition bus_condition(const struct bus *bus)
{
    return store_condition(&bus->base.store);
}

int64_t bus_clock_offset_us(const struct bus *bus)
{
    return store_clock_offset_us(&bus->base.store);
}
