#include "relay/bus/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/bus/bus_parts.h"
#include "relay/kit/timer.h"

/* A worker this many notes behind makes the bus stop reading; Redis then buffers, within its own
 * limit. */
enum { WORKER_BEHIND = 256, SENT_MAX = 65536, READ_MAX = 16384, LATE_MAX = 4096 };
#define SEEN_AHEAD_US (UINT64_C(24) * 3600 * 1000000)
static const double PAUSE_POLL_S = 0.002;
static const double REOPEN_S = 10.0, SWEEP_S = 1.0;

/* --- to the workers ------------------------------------------------------------------------- */

static void batch_post(struct bus *bus, unsigned worker)
{
    struct note_events *batch = bus->batches[worker];
    if (!batch)
        return;
    bus->batches[worker] = NULL;
    inbox_push(bus->workers[worker], &batch->note.item);
}

/* Everything to a worker goes through here or a batch, so that it arrives in the order of its
 * making. */
void bus_post(struct bus *bus, unsigned worker, struct note *note)
{
    batch_post(bus, worker);
    inbox_push(bus->workers[worker], &note->item);
}

static void deliver_to(struct bus *bus, unsigned worker, struct event *ev)
{
    struct note_events *batch = bus->batches[worker];
    if (!batch) {
        batch = mem_alloc(sizeof(*batch));
        batch->note.kind = NOTE_EVENTS;
        batch->count = 0;
        bus->batches[worker] = batch;
    }
    batch->events[batch->count++] = event_ref(ev);
    if (batch->count == NOTE_EVENTS_MAX)
        batch_post(bus, worker);
}

static void count_invalid(struct bus *bus, struct event *ev, const char *what)
{
    uint64_t held;
    metrics_add(bus->metrics, M_DROPPED_INVALID, 1);
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
        tails_last(bus->tails, event_ns(ev), event_topic(ev)))
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
    if (prev <= space->checked || !event_set_reaches(bus->sent, prev) ||
        event_set_has_prev(bus->sent, ev))
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
    event_set_add(bus->late, ev, bus->era);
    bus->store.ops->open(bus->store.impl, space->ns, space->seen, true);
    uint64_t before = event_id(ev) - 1;
    if (!bus_repair_event(bus, space, ev, before, false) && event_set_reaches(bus->sent, before))
        bus_repair_later(bus, space, before);
}

/* Whether a live event is the next of its topic. If others are missing before it, or it comes after
 * its time, the log is asked. */
static bool is_next(struct bus *bus, struct space *space, struct event *ev)
{
    uint64_t known;
    if (event_set_has(bus->sent, ev)) /* a repair was faster */
        return false;
    if (lacks_first(bus, space, ev, &known) && ask_log(bus, space, ev, known))
        return false;
    switch (tails_add(bus->tails, ev)) {
    case TAIL_NEXT:
        return true;
    case TAIL_KNOWN: /* a page or a repair was faster */
        return false;
    case TAIL_HOLE:
        known = tails_last(bus->tails, event_ns(ev), event_topic(ev));
        if (ask_log(bus, space, ev, known))
            return false;
        tails_drop(bus->tails, event_ns(ev), event_topic(ev));
        return tails_add(bus->tails, ev) == TAIL_NEXT;
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
        metrics_add(bus->metrics, M_EVENTS_RECEIVED, bus->last_wanted);
    }
    if (bus->last_wanted)
        bus_send(bus, space, ev, workers);
}

static uint64_t id_now(const struct bus *bus)
{
    return clock_wall_us() + (uint64_t)store_clock_offset_us(&bus->store);
}

void bus_send(struct bus *bus, struct space *space, struct event *ev, uint64_t workers)
{
    /* A forged id far in the future must not become what all counters are raised to. */
    if (space && event_id(ev) > space->seen && event_id(ev) < id_now(bus) + SEEN_AHEAD_US)
        space->seen = event_id(ev);
    if (event_id(ev))
        event_set_add(bus->sent, ev, bus->era);
    for (unsigned w = 0; w < bus->worker_count; w++)
        if (workers & (UINT64_C(1) << w))
            deliver_to(bus, w, ev);
}

static bool behind(const struct bus *bus, size_t limit)
{
    for (unsigned w = 0; w < bus->worker_count; w++)
        if (inbox_depth(bus->workers[w]) > limit)
            return true;
    return false;
}

static void set_paused(struct bus *bus, bool paused)
{
    if (bus->paused == paused)
        return;
    bus->paused = paused;
    bus->store.ops->pause(bus->store.impl, paused);
    if (paused)
        ev_timer_again(bus->loop, &bus->unpause);
    else
        ev_timer_stop(bus->loop, &bus->unpause);
}

static void on_unpause(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    if (behind(bus, WORKER_BEHIND / 2)) {
        return;
    }
    set_paused(bus, false);
    bus_repairs_go_on(bus);
}

bool bus_workers_behind(struct bus *bus)
{
    if (behind(bus, WORKER_BEHIND))
        set_paused(bus, true);
    return bus->paused;
}

void bus_count_gap(struct bus *bus, enum gap_reason reason)
{
    metrics_add(bus->metrics, gap_metric(reason), 1);
}

/* --- the thread ----------------------------------------------------------------------------- */

void bus_published(struct bus *bus, struct note_publish *publish)
{
    if (publish->status == 200)
        metrics_add(bus->metrics, M_EVENTS_PUBLISHED, publish->request.count);
    else
        metrics_add(bus->metrics, M_PUBLISH_REFUSED, publish->request.count);
    bus_post(bus, publish->worker, &publish->note);
}

static void configure(struct bus *bus)
{
    bus->check.repeat = (double)bus->config->redis_check_ms / 1000.;
    ev_timer_again(bus->loop, &bus->check);
    tails_limit(bus->tails, (uint32_t)bus->config->tail_max_events, bus->config->tail_max_bytes);
}

static void take_config(struct bus *bus, struct note_config *note)
{
    config_unref(bus->config);
    bus->config = note->config; /* its reference is ours now */
    free(note);
    configure(bus);
    bus->store.ops->configure(bus->store.impl, bus->config);
    if (bus->store_up)
        bus_spaces_open(bus);
}

/* A namespace without watchers here may not have its retention settings yet. */
static void take_publish(struct bus *bus, struct note_publish *note)
{
    const char *ns = note->request.ns;
    if (!bus_space_find(bus, slice_of(ns)) && strcmp(bus->published_ns, ns) != 0) {
        bus->store.ops->open(bus->store.impl, ns, 0, false);
        snprintf(bus->published_ns, sizeof(bus->published_ns), "%s", ns);
    }
    bus->store.ops->publish(bus->store.impl, note);
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
        if (bus->store.ops->drain)
            bus->store.ops->drain(bus->store.impl);
        return;
    case NOTE_STOP:
        free(note);
        ev_break(bus->loop, EVBREAK_ALL);
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
    if (bus->missed && bus->store_up && !bus->repairing)
        bus_check_missed(bus);
    if (bus->recheck)
        bus_reads_start(bus);
    if (bus->recheck) { /* again: what comes of it must not wait for somebody to wake the loop */
        timer_once(bus->loop, &bus->lane_timer, 0.);
    }
    for (unsigned i = 0; i < bus->worker_count; i++)
        batch_post(bus, i);
    (void)bus_workers_behind(bus);
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
                                               .passed = bus_store_passed,
                                               .missed = bus_store_missed};
    struct bus *bus = mem_zero(1, sizeof(*bus));
    bus->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!bus->loop)
        abort();
    bus->inbox = inbox_new(bus->loop, on_inbox, bus);
    bus->config = config_ref(config);
    bus->metrics = metrics;
    bus->workers = inboxes;
    bus->worker_count = workers;
    bus->batches = mem_zero(workers, sizeof(*bus->batches));
    bus->tails = tails_new();
    bus->sent = event_set_new(SENT_MAX, true);
    bus->read = event_set_new(READ_MAX, false); /* a page has an event once */
    bus->late = event_set_new(LATE_MAX, true);
    TAILQ_INIT(&bus->waiting);
    TAILQ_INIT(&bus->lane_queue);
    TAILQ_INIT(&bus->lanes_idle);
    TAILQ_INIT(&bus->repairs_waiting);
    LIST_INIT(&bus->checks);
    ev_prepare_init(&bus->flush, on_flush);
    bus->flush.data = bus;
    ev_prepare_start(bus->loop, &bus->flush);
    ev_init(&bus->unpause, on_unpause);
    bus->unpause.repeat = PAUSE_POLL_S;
    ev_timer_init(&bus->reopen, on_reopen, REOPEN_S, REOPEN_S);
    ev_init(&bus->repair_again, on_repair_again);
    ev_init(&bus->check, on_check);
    bus->check.data = bus;
    configure(bus);
    ev_init(&bus->lane_timer, on_lane_timer);
    ev_timer_init(&bus->sweep, on_sweep, SWEEP_S, SWEEP_S);
    bus->unpause.data = bus->reopen.data = bus->repair_again.data = bus->lane_timer.data =
        bus->sweep.data = bus;
    ev_timer_start(bus->loop, &bus->reopen);
    ev_timer_start(bus->loop, &bus->sweep);
    bus->store = make(bus->loop, bus, &events, config, metrics);
    return bus;
}

void bus_run(struct bus *bus)
{
    bus->store.ops->start(bus->store.impl);
    ev_run(bus->loop, 0);
}

/* What came too late to be done. */
static void note_return(struct bus *bus, struct note *note)
{
    if (note->kind == NOTE_READ)
        bus_post(bus, ((struct note_read *)note)->worker, note);
    else if (note->kind == NOTE_PUBLISH)
        bus_post(bus, ((struct note_publish *)note)->worker, note);
    else
        note_free(note);
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    bus_store_down(bus); /* ends what waits with us */
    /* The store gives back what it was asked: reads go to `waiting`, repairs end. */
    bus->store.ops->free(bus->store.impl);
    bus->store.impl = NULL;
    bus_reads_return(bus);
    bus_checks_drop(bus);
    struct inbox_item *item;
    while ((item = inbox_pop(bus->inbox)))
        note_return(bus, (struct note *)item);
    bus_names_free(bus);
    for (unsigned i = 0; i < bus->worker_count; i++)
        note_events_free(bus->batches[i]);
    free(bus->batches);
    event_unref(bus->last_event);
    tails_free(bus->tails);
    event_set_free(bus->sent);
    event_set_free(bus->read);
    event_set_free(bus->late);
    inbox_free(bus->inbox);
    config_unref(bus->config);
    ev_loop_destroy(bus->loop);
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
    return bus->store.ops->kind;
}

enum store_condition bus_condition(const struct bus *bus)
{
    return store_condition(&bus->store);
}

int64_t bus_clock_offset_us(const struct bus *bus)
{
    return store_clock_offset_us(&bus->store);
}
