#include "relay/bus/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/bus/bus_parts.h"
#include "relay/kit/timer.h"

enum { LATE_MAX = 4096 };
#define SEEN_AHEAD_US (UINT64_C(24) * 3600 * 1000000)
static const double REOPEN_S = 10.0, SWEEP_S = 1.0;

/* --- the live path ---------------------------------------------------------------------------- */

static void count_invalid(struct bus *bus, struct event *ev, const char *what)
{
    uint64_t held;
    metrics_add(bus->base.metrics, M_DROPPED_INVALID, 1);
    if (!log_limit_pass(&bus->invalid_limit, clock_mono_us(), &held))
        return;
    char *ns = slice_dup(event_ns(ev)), *topic = slice_dup(event_topic(ev));
    log_put(LOG_WARN, what, "ns", ns, "topic", topic, "id", log_u64(event_id(ev)), "not_logged",
            log_u64(held), NULL);
    free(ns);
    free(topic);
}

/* The topic is new here, and yet has had an event since. */
static bool lacks_first(struct bus *bus, struct space *space, struct event *ev, uint64_t *known)
{
    uint64_t prev = event_prev(ev);
    if (prev == EVENT_PREV_UNKNOWN || prev <= space->checked ||
        tails_last(bus->base.tails, event_ns(ev), event_topic(ev)))
        return false;
    *known = bus_known_up_to(bus, space, event_topic(ev));
    return prev > *known;
}

/* The log is asked for what is missing before a live event; that brings the event, too, in its
 * place. False: nothing is missing that has not been asked for lately, so take it. */
static bool ask_log(struct bus *bus, struct space *space, struct event *ev, uint64_t known)
{
    if (bus_repair_event(bus, space, ev, known, true))
        return true;
    uint64_t prev = event_prev(ev);
    if (prev <= space->checked || !bus_outbox_reaches(bus->outbox, prev) ||
        bus_outbox_has_sent_prev(bus->outbox, ev))
        return false; /* it was heard, or may have been */
    bus_repair_later(bus, space, known > space->checked ? known : space->checked);
    return true;
}

/* It is below others of its topic that were sent: only the log says whether it is one of them. */
static void ask_log_late(struct bus *bus, struct space *space, struct event *ev)
{
    count_invalid(bus, ev, "an event came after a later one of its topic");
    if (event_set_has(bus->late, ev))
        return;
    event_set_add(bus->late, ev, bus_outbox_era(bus->outbox));
    bus->base.store.ops->open(bus->base.store.impl, space->ns, space->seen, true);
    uint64_t before = event_id(ev) - 1;
    if (!bus_repair_event(bus, space, ev, before, false) && bus_outbox_reaches(bus->outbox, before))
        bus_repair_later(bus, space, before);
}

/* Whether a live event is the next of its topic. If others are missing before it, or it comes after
 * its time, the log is asked. */
static bool is_next(struct bus *bus, struct space *space, struct event *ev)
{
    uint64_t known;
    if (bus_outbox_has_sent(bus->outbox, ev)) /* a repair was faster */
        return false;
    if (lacks_first(bus, space, ev, &known) && ask_log(bus, space, ev, known))
        return false;
    switch (tails_add(bus->base.tails, ev)) {
    case TAIL_NEXT:
        return true;
    case TAIL_KNOWN: /* a page or a repair was faster */
        return false;
    case TAIL_HOLE:
        known = tails_last(bus->base.tails, event_ns(ev), event_topic(ev));
        if (ask_log(bus, space, ev, known))
            return false;
        tails_drop(bus->base.tails, event_ns(ev), event_topic(ev));
        return tails_add(bus->base.tails, ev) == TAIL_NEXT;
    case TAIL_LATE:
        ask_log_late(bus, space, ev);
        return false;
    }
    return false;
}

/* What a namespace's repair is to bring, the live path leaves out: its repair failed, and is tried
 * again. */
static bool is_wanted(struct bus *bus, struct space *space, struct event *ev)
{
    if (!space || !event_id(ev))
        return true;
    return !space->unrepaired && is_next(bus, space, ev);
}

void bus_deliver(struct bus *bus, struct event *ev, uint64_t workers)
{
    struct space *space = bus_space_find(bus, event_ns(ev));
    if (ev != bus->last_event) {
        bus->last_wanted = is_wanted(bus, space, ev);
        event_unref(bus->last_event);
        bus->last_event = event_ref(ev);
        metrics_add(bus->base.metrics, M_EVENTS_RECEIVED, bus->last_wanted);
    }
    if (bus->last_wanted)
        bus_send(bus, space, ev, workers);
}

void bus_send(struct bus *bus, struct space *space, struct event *ev, uint64_t workers)
{
    /* A forged id far in the future must not become what all counters are raised to. */
    if (space && event_id(ev) > space->seen && event_id(ev) < clock_wall_us() + SEEN_AHEAD_US)
        space->seen = event_id(ev);
    bus_outbox_send(bus->outbox, ev, workers);
}

/* --- the thread ----------------------------------------------------------------------------- */

void bus_published(struct bus *bus, struct note_publish *publish)
{
    if (publish->status == 200)
        metrics_add(bus->base.metrics, M_EVENTS_PUBLISHED, publish->request.count);
    else
        metrics_add(bus->base.metrics, M_PUBLISH_REFUSED, publish->request.count);
    bus_outbox_post(bus->outbox, publish->worker, &publish->note);
}

static void configure(struct bus *bus)
{
    bus->check.repeat = (double)bus->base.config->redis_check_ms / 1000.;
    ev_timer_again(bus->base.loop, &bus->check);
    tails_limit(bus->base.tails, (uint32_t)bus->base.config->tail_max_events,
                bus->base.config->tail_max_bytes);
}

static void take_config(struct bus *bus, struct note_config *note)
{
    config_unref(bus->base.config);
    bus->base.config = note->config; /* its reference is ours now */
    free(note);
    configure(bus);
    bus->base.store.ops->configure(bus->base.store.impl, bus->base.config);
    if (bus->store_up)
        bus_spaces_open(bus);
}

/* A namespace without watchers here may not have its retention settings yet. */
static void take_publish(struct bus *bus, struct note_publish *note)
{
    const char *ns = note->request.ns;
    if (!bus_space_find(bus, slice_of(ns)) && strcmp(bus->published_ns, ns) != 0) {
        bus->base.store.ops->open(bus->base.store.impl, ns, 0, false);
        snprintf(bus->published_ns, sizeof(bus->published_ns), "%s", ns);
    }
    bus->base.store.ops->publish(bus->base.store.impl, note);
}

static void take(struct bus *bus, struct note *note)
{
    switch (note->kind) {
    case NOTE_WATCH:
        bus_take_watch(bus, (struct note_name *)note);
        return;
    case NOTE_UNWATCH:
        bus_take_unwatch(bus, (struct note_name *)note);
        return;
    case NOTE_READ:
        bus_take_read(bus, (struct note_read *)note);
        return;
    case NOTE_PUBLISH:
        take_publish(bus, (struct note_publish *)note);
        return;
    case NOTE_CONFIG:
        take_config(bus, (struct note_config *)note);
        return;
    case NOTE_DRAIN:
        free(note);
        if (bus->base.store.ops->drain)
            bus->base.store.ops->drain(bus->base.store.impl);
        return;
    case NOTE_STOP:
        free(note);
        ev_break(bus->base.loop, EVBREAK_ALL);
        return;
    case NOTE_EVENTS:
    case NOTE_GAP:
    case NOTE_CENSUS:
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

static void on_repair_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    bus_repair_again(w->data);
}

static void on_reopen(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    bus->published_ns[0] = '\0';
    if (bus->store_up)
        bus_spaces_open(bus);
}

static void on_check(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    bus_check_all(w->data);
}

static void on_lane_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    ((struct bus *)w->data)->recheck = true;
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    bus_reads_sweep(w->data);
}

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    bus_names_sweep(bus);
    bus_repairs_go_on(bus);
    if (bus->recheck)
        bus_reads_start(bus);
    if (bus->recheck) { /* again: what comes of it must not wait for somebody to wake the loop */
        timer_once(bus->base.loop, &bus->lane_timer, 0.);
    }
    bus_outbox_flush(bus->outbox);
}

/* A name that was heard once, and whose subscription was refused for a while, has missed what its
 * namespace's repair could not know of. */
static void on_store_heard(struct bus *bus, struct store_name *store_name)
{
    struct name *name = (struct name *)store_name;
    name->was_heard = true;
    struct strings names = {&store_name->name, 1};
    if (name->lost && bus->store_up)
        name->lost =
            !bus_repair_names(bus, name->space, &names, name->space->checked, name->space->seen);
    bus->recheck = true;
}

struct bus *bus_new(struct config *config, struct inbox *const *inboxes, unsigned workers,
                    struct metrics *metrics, store_maker make)
{
    static const struct store_events events = {.heard = on_store_heard,
                                               .deliver = bus_deliver,
                                               .reachable = bus_spaces_open,
                                               .up = bus_store_up,
                                               .down = bus_store_down,
                                               .passed = bus_store_passed};
    struct bus *bus = mem_zero(1, sizeof(*bus));
    bus->base.loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!bus->base.loop)
        abort();
    bus->inbox = inbox_new(bus->base.loop, on_inbox, bus);
    bus->base.config = config_ref(config);
    bus->base.metrics = metrics;
    bus->outbox = bus_outbox_new(&bus->base, inboxes, workers);
    bus->base.tails = tails_new();
    bus->late = event_set_new(LATE_MAX, true);
    TAILQ_INIT(&bus->waiting);
    TAILQ_INIT(&bus->lane_queue);
    TAILQ_INIT(&bus->lanes_idle);
    TAILQ_INIT(&bus->repairs_waiting);
    LIST_INIT(&bus->checks);
    ev_prepare_init(&bus->flush, on_flush);
    bus->flush.data = bus;
    ev_prepare_start(bus->base.loop, &bus->flush);
    ev_timer_init(&bus->reopen, on_reopen, REOPEN_S, REOPEN_S);
    ev_init(&bus->repair_again, on_repair_again);
    ev_init(&bus->check, on_check);
    bus->check.data = bus;
    configure(bus);
    ev_init(&bus->lane_timer, on_lane_timer);
    ev_timer_init(&bus->sweep, on_sweep, SWEEP_S, SWEEP_S);
    bus->reopen.data = bus->repair_again.data = bus->lane_timer.data = bus->sweep.data = bus;
    ev_timer_start(bus->base.loop, &bus->reopen);
    ev_timer_start(bus->base.loop, &bus->sweep);
    bus->base.store = make(bus->base.loop, bus, &events, config, metrics);
    return bus;
}

void bus_run(struct bus *bus)
{
    bus->base.store.ops->start(bus->base.store.impl);
    ev_run(bus->base.loop, 0);
}

/* What came too late to be done. */
static void note_return(struct bus *bus, struct note *note)
{
    if (note->kind == NOTE_READ)
        bus_outbox_post(bus->outbox, ((struct note_read *)note)->worker, note);
    else if (note->kind == NOTE_PUBLISH)
        bus_outbox_post(bus->outbox, ((struct note_publish *)note)->worker, note);
    else
        note_free(note);
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    bus_store_down(bus); /* ends what waits with us */
    /* The store gives back what it was asked: reads go to `waiting`, repairs end. */
    bus->base.store.ops->free(bus->base.store.impl);
    bus->base.store.impl = NULL;
    bus_reads_return(bus);
    bus_checks_drop(bus);
    struct inbox_item *item;
    while ((item = inbox_pop(bus->inbox)))
        note_return(bus, (struct note *)item);
    bus_names_free(bus);
    bus_outbox_free(bus->outbox);
    event_unref(bus->last_event);
    tails_free(bus->base.tails);
    event_set_free(bus->late);
    inbox_free(bus->inbox);
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
