#include "relay/bus.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "relay/replay.h"

enum {
    /* A worker this many notes behind makes the bus stop reading; Redis then buffers, within its own limit. */
    WORKER_BEHIND = 256,
    REPAIR_PAGE_EVENTS = 512,
    REPAIR_PAGE_BYTES = 1 << 20,
};
static const double PAUSE_POLL_S = 0.002;

struct job;
TAILQ_HEAD(job_list, job);

/* A namespace with watchers here. */
struct space {
    char *ns;
    uint64_t seen; /* all events up to this id went to the workers that wanted them; 0: not known yet */
    unsigned names, jobs;
    UT_hash_handle hh;
};

struct name {
    struct store_name store; /* first: the store hands this pointer back */
    struct space *space;
    UT_hash_handle hh; /* key: ns, NUL, name */
};

/* One client's read of the log: waits until the names are heard, then reads. */
struct job {
    struct replay replay; /* first: replay's callback hands this pointer back */
    struct bus *bus;
    struct note_read *note;
    struct space *space;
    TAILQ_ENTRY(job) link; /* in bus->waiting */
};

/* Reads for all of a namespace's watchers what a broken connection missed. */
struct repair {
    struct replay replay; /* first */
    struct bus *bus;
    struct space *space;
    struct strings names; /* copies: a name may go while this is under way */
};

struct bus {
    struct ev_loop *loop;
    struct inbox *inbox;
    struct config *config;
    struct metrics *metrics;
    struct store store;
    struct inbox *const *workers;
    unsigned worker_count;
    struct note_events **batches; /* per worker, NULL: none begun */
    struct space *spaces;
    struct space *last_space; /* of the event before: most come from one namespace */
    struct name *names;
    struct job_list waiting;
    bool recheck;      /* some waiting job may be able to start */
    bool store_up;     /* reads work */
    unsigned repairing; /* namespaces still being repaired */
    bool paused;
    atomic_bool up;
    ev_prepare flush;
    ev_timer unpause;
};

/* --- to the workers ------------------------------------------------------------------------- */

static void batch_post(struct bus *bus, unsigned worker)
{
    struct note_events *batch = bus->batches[worker];
    if (!batch)
        return;
    bus->batches[worker] = NULL;
    inbox_push(bus->workers[worker], &batch->note.item);
}

/* Everything to a worker goes through here or a batch, so that it arrives in the order of its making. */
static void post(struct bus *bus, unsigned worker, struct note *note)
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

static struct space *space_find(struct bus *bus, struct slice ns)
{
    struct space *space = bus->last_space;
    if (space && slice_is(ns, space->ns))
        return space;
    HASH_FIND(hh, bus->spaces, ns.ptr, ns.len, space);
    if (space)
        bus->last_space = space;
    return space;
}

static void on_store_deliver(struct bus *bus, struct event *ev, uint64_t workers)
{
    struct space *space = space_find(bus, event_ns(ev));
    if (space && event_id(ev) > space->seen)
        space->seen = event_id(ev);
    metrics_add(bus->metrics, M_EVENTS_RECEIVED, 1);
    for (unsigned w = 0; w < bus->worker_count; w++)
        if (workers & (UINT64_C(1) << w))
            deliver_to(bus, w, ev);
}

static bool workers_behind(const struct bus *bus, size_t limit)
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
    if (!workers_behind(bus, WORKER_BEHIND / 2))
        set_paused(bus, false);
}

/* --- reads of the log ----------------------------------------------------------------------- */

static struct name *name_find(struct bus *bus, const char *ns, const char *text)
{
    struct buf key = {0};
    buf_put(&key, ns, strlen(ns) + 1);
    buf_puts(&key, text);
    struct name *name;
    HASH_FIND(hh, bus->names, key.ptr, key.len, name);
    buf_reset(&key);
    return name;
}

static void space_release(struct bus *bus, struct space *space)
{
    if (space->names || space->jobs)
        return;
    if (bus->last_space == space)
        bus->last_space = NULL;
    bus->store.ops->close(bus->store.impl, space->ns);
    HASH_DEL(bus->spaces, space);
    free(space->ns);
    free(space);
}

static void job_end(struct job *job)
{
    struct bus *bus = job->bus;
    struct space *space = job->space;
    post(bus, job->note->worker, &job->note->note);
    replay_reset(&job->replay);
    free(job);
    if (space) {
        space->jobs--;
        space_release(bus, space);
    }
}

static void count_gap(struct bus *bus, enum gap_reason reason)
{
    static const enum metric which[] = {[GAP_TRIMMED] = M_GAP_TRIMMED,
                                        [GAP_EXPIRED] = M_GAP_EXPIRED,
                                        [GAP_UNKNOWN_ID] = M_GAP_UNKNOWN_ID,
                                        [GAP_OVERFLOW] = M_GAP_OVERFLOW,
                                        [GAP_REDIS_LOST] = M_GAP_REDIS_LOST};
    metrics_add(bus->metrics, which[reason], 1);
}

static void job_fill(struct job *job)
{
    struct replay *r = &job->replay;
    struct note_read *note = job->note;
    note->start = r->start;
    note->end = r->end;
    note->final = r->final;
    note->count = r->count;
    note->events = mem_alloc((r->count ? r->count : 1) * sizeof(*note->events));
    for (size_t i = 0; i < r->count; i++) {
        struct replay_item *item = &r->items[i];
        if (item->event) {
            note->events[i] = event_ref(item->event);
            metrics_add(job->bus->metrics, M_EVENTS_REPLAYED, 1);
        } else {
            note->events[i] = gap_event(job->bus->config, item->tied ? 0 : item->id, item->from,
                                        item->id, item->reason);
            count_gap(job->bus, item->reason);
        }
    }
}

static void on_job_done(struct replay *replay, enum err e)
{
    struct job *job = (struct job *)replay;
    struct bus *bus = job->bus;
    if (e) {
        /* The store went away. The client is held, and served once it is back. */
        replay_reset(replay);
        TAILQ_INSERT_TAIL(&bus->waiting, job, link);
        return;
    }
    job_fill(job);
    if (!job->space->seen)
        job->space->seen = replay->position;
    job_end(job);
}

static void job_run(struct job *job)
{
    struct note_read *note = job->note;
    const struct stream_request *request = subscription_request(note->sub);
    job->replay = (struct replay){.store = &job->bus->store,
                                  .ns = request->ns,
                                  .names = &request->topics,
                                  .kind = note->kind,
                                  .cursor = note->cursor,
                                  .max_events = note->max_events,
                                  .max_bytes = note->max_bytes,
                                  .budget = note->budget,
                                  .done = on_job_done,
                                  .arg = job};
    replay_start(&job->replay);
}

enum readiness { JOB_READY, JOB_WAITS, JOB_ORPHAN };

static enum readiness job_readiness(struct bus *bus, const struct job *job)
{
    const struct stream_request *request = subscription_request(job->note->sub);
    for (size_t i = 0; i < request->topics.count; i++) {
        struct name *name = name_find(bus, request->ns, request->topics.items[i]);
        if (!name)
            return JOB_ORPHAN; /* the worker stopped watching: its client is gone */
        if (!name->store.heard)
            return JOB_WAITS;
    }
    return bus->store_up ? JOB_READY : JOB_WAITS;
}

static void jobs_start(struct bus *bus)
{
    struct job_list ready = TAILQ_HEAD_INITIALIZER(ready);
    struct job *job, *next;
    bus->recheck = false;
    for (job = TAILQ_FIRST(&bus->waiting); job; job = next) {
        next = TAILQ_NEXT(job, link);
        enum readiness readiness = job_readiness(bus, job);
        if (readiness == JOB_WAITS)
            continue;
        TAILQ_REMOVE(&bus->waiting, job, link);
        if (readiness == JOB_ORPHAN)
            job_end(job);
        else
            TAILQ_INSERT_TAIL(&ready, job, link);
    }
    while ((job = TAILQ_FIRST(&ready))) {
        TAILQ_REMOVE(&ready, job, link);
        job_run(job);
    }
}

static void take_read(struct bus *bus, struct note_read *note)
{
    struct job *job = mem_zero(1, sizeof(*job));
    job->bus = bus;
    job->note = note;
    job->space = space_find(bus, subscription_ns(note->sub));
    if (job->space)
        job->space->jobs++;
    TAILQ_INSERT_TAIL(&bus->waiting, job, link);
    bus->recheck = true;
}

/* --- watching ------------------------------------------------------------------------------- */

static struct space *space_get(struct bus *bus, const char *ns)
{
    struct space *space = space_find(bus, slice_of(ns));
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->ns = mem_dup(ns, strlen(ns));
    HASH_ADD_KEYPTR(hh, bus->spaces, space->ns, strlen(space->ns), space);
    bus->store.ops->open(bus->store.impl, space->ns, 0);
    return space;
}

static struct name *name_new(struct bus *bus, const char *ns, const char *text)
{
    size_t ns_len = strlen(ns) + 1, text_len = strlen(text) + 1;
    struct name *name = mem_zero(1, sizeof(*name));
    name->store.ns = mem_alloc(ns_len + text_len);
    name->store.name = name->store.ns + ns_len;
    memcpy(name->store.ns, ns, ns_len);
    memcpy(name->store.name, text, text_len);
    name->space = space_get(bus, ns);
    name->space->names++;
    HASH_ADD_KEYPTR(hh, bus->names, name->store.ns, ns_len + text_len - 1, name);
    return name;
}

static void take_watch(struct bus *bus, struct note_name *note)
{
    struct name *name = name_find(bus, note->ns, note->name);
    bool is_new = !name;
    if (is_new)
        name = name_new(bus, note->ns, note->name);
    name->store.workers |= UINT64_C(1) << note->worker;
    if (is_new)
        bus->store.ops->watch(bus->store.impl, &name->store);
    else
        bus->store.ops->rewatch(bus->store.impl, &name->store);
    note_name_free(note);
}

static void take_unwatch(struct bus *bus, struct note_name *note)
{
    struct name *name = name_find(bus, note->ns, note->name);
    if (name) {
        name->store.workers &= ~(UINT64_C(1) << note->worker);
        if (name->store.workers) {
            bus->store.ops->rewatch(bus->store.impl, &name->store);
        } else {
            bus->store.ops->unwatch(bus->store.impl, &name->store);
            HASH_DEL(bus->names, name);
            name->space->names--;
            space_release(bus, name->space);
            free(name->store.ns);
            free(name);
            bus->recheck = true;
        }
    }
    note_name_free(note);
}

static void on_store_heard(struct bus *bus, struct store_name *name)
{
    (void)name;
    bus->recheck = true;
}

/* --- repair --------------------------------------------------------------------------------- */

static void post_gap(struct bus *bus, const char *ns, const struct replay_item *item)
{
    for (unsigned w = 0; w < bus->worker_count; w++) {
        struct note_gap *gap = mem_zero(1, sizeof(*gap));
        gap->note.kind = NOTE_GAP;
        gap->ns = mem_dup(ns, strlen(ns));
        gap->topic = item->topic ? mem_dup(item->topic, strlen(item->topic)) : NULL;
        gap->from = item->from;
        gap->to = item->id;
        gap->reason = item->reason;
        post(bus, w, &gap->note);
    }
}

static void repairs_end(struct bus *bus)
{
    atomic_store(&bus->up, true);
    bus->store.ops->resume(bus->store.impl);
    bus->recheck = true;
}

static void repair_end(struct repair *repair)
{
    struct bus *bus = repair->bus;
    replay_reset(&repair->replay);
    for (size_t i = 0; i < repair->names.count; i++)
        free(repair->names.items[i]);
    free(repair->names.items);
    repair->space->jobs--;
    space_release(bus, repair->space);
    free(repair);
    bus->repairing--;
}

static void repair_page(struct repair *repair);

static void on_repair_page(struct replay *replay, enum err e)
{
    struct repair *repair = (struct repair *)replay;
    struct bus *bus = repair->bus;
    if (e) { /* the store went away again; it will be repaired from where this came to */
        repair_end(repair);
        return;
    }
    for (size_t i = 0; i < replay->count; i++) {
        struct replay_item *item = &replay->items[i];
        if (item->event)
            on_store_deliver(bus, item->event, UINT64_MAX);
        else
            post_gap(bus, repair->space->ns, item);
    }
    repair->space->seen = replay->end;
    bool final = replay->final;
    replay_reset(replay);
    if (!final) {
        repair_page(repair);
        return;
    }
    repair_end(repair);
    if (!bus->repairing && bus->store_up)
        repairs_end(bus);
}

static void repair_page(struct repair *repair)
{
    repair->replay = (struct replay){.store = &repair->bus->store,
                                     .ns = repair->space->ns,
                                     .names = &repair->names,
                                     .kind = CURSOR_ID,
                                     .cursor = repair->space->seen,
                                     .max_events = REPAIR_PAGE_EVENTS,
                                     .max_bytes = REPAIR_PAGE_BYTES,
                                     .budget = UINT64_MAX,
                                     .repair = true,
                                     .done = on_repair_page,
                                     .arg = repair};
    replay_start(&repair->replay);
}

static struct repair *repair_new(struct bus *bus, struct space *space)
{
    struct repair *repair = mem_zero(1, sizeof(*repair));
    repair->bus = bus;
    repair->space = space;
    repair->names.items = mem_zero(space->names ? space->names : 1, sizeof(char *));
    struct name *name, *tmp;
    HASH_ITER(hh, bus->names, name, tmp)
        if (name->space == space)
            repair->names.items[repair->names.count++] =
                mem_dup(name->store.name, strlen(name->store.name));
    space->jobs++;
    return repair;
}

static void on_store_up(struct bus *bus, bool broken)
{
    bus->store_up = true;
    struct space *space, *tmp;
    HASH_ITER(hh, bus->spaces, space, tmp)
        bus->store.ops->open(bus->store.impl, space->ns, space->seen);
    if (!broken) {
        repairs_end(bus);
        return;
    }
    bus->repairing++; /* this loop: a page may come at once */
    HASH_ITER(hh, bus->spaces, space, tmp) {
        if (!space->seen || !space->names)
            continue;
        metrics_add(bus->metrics, M_REPAIRS, 1);
        bus->repairing++;
        repair_page(repair_new(bus, space));
    }
    if (--bus->repairing == 0)
        repairs_end(bus);
}

static void on_store_down(struct bus *bus)
{
    bus->store_up = false;
    atomic_store(&bus->up, false);
}

/* --- the thread ----------------------------------------------------------------------------- */

void bus_published(struct bus *bus, struct note_publish *publish)
{
    if (publish->status == 200)
        metrics_add(bus->metrics, M_EVENTS_PUBLISHED, publish->request.count);
    else
        metrics_add(bus->metrics, M_PUBLISH_REFUSED, publish->request.count);
    post(bus, publish->worker, &publish->note);
}

static void take_config(struct bus *bus, struct note_config *note)
{
    config_unref(bus->config);
    bus->config = note->config; /* its reference is ours now */
    free(note);
    bus->store.ops->configure(bus->store.impl, bus->config);
    struct space *space, *tmp;
    HASH_ITER(hh, bus->spaces, space, tmp)
        bus->store.ops->open(bus->store.impl, space->ns, 0);
}

static void take(struct bus *bus, struct note *note)
{
    switch (note->kind) {
    case NOTE_WATCH:
        take_watch(bus, (struct note_name *)note);
        return;
    case NOTE_UNWATCH:
        take_unwatch(bus, (struct note_name *)note);
        return;
    case NOTE_READ:
        take_read(bus, (struct note_read *)note);
        return;
    case NOTE_PUBLISH:
        bus->store.ops->publish(bus->store.impl, (struct note_publish *)note);
        return;
    case NOTE_CONFIG:
        take_config(bus, (struct note_config *)note);
        return;
    case NOTE_STOP:
        free(note);
        ev_break(bus->loop, EVBREAK_ALL);
        return;
    case NOTE_EVENTS:
    case NOTE_GAP:
    case NOTE_CENSUS:
    case NOTE_DRAIN:
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

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct bus *bus = w->data;
    if (bus->recheck)
        jobs_start(bus);
    for (unsigned i = 0; i < bus->worker_count; i++)
        batch_post(bus, i);
    if (workers_behind(bus, WORKER_BEHIND))
        set_paused(bus, true);
}

struct bus *bus_new(struct config *config, struct inbox *const *inboxes, unsigned workers,
                    struct metrics *metrics, store_maker make)
{
    static const struct store_events events = {.heard = on_store_heard,
                                               .deliver = on_store_deliver,
                                               .up = on_store_up,
                                               .down = on_store_down};
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
    TAILQ_INIT(&bus->waiting);
    ev_prepare_init(&bus->flush, on_flush);
    bus->flush.data = bus;
    ev_prepare_start(bus->loop, &bus->flush);
    ev_init(&bus->unpause, on_unpause);
    bus->unpause.repeat = PAUSE_POLL_S;
    bus->unpause.data = bus;
    bus->store = make(bus->loop, bus, &events, config, metrics);
    return bus;
}

void bus_run(struct bus *bus)
{
    bus->store.ops->start(bus->store.impl);
    ev_run(bus->loop, 0);
}

static void note_free(struct note *note)
{
    switch (note->kind) {
    case NOTE_WATCH:
    case NOTE_UNWATCH:
        note_name_free((struct note_name *)note);
        return;
    case NOTE_READ:
        note_read_free((struct note_read *)note);
        return;
    case NOTE_PUBLISH:
        note_publish_free((struct note_publish *)note);
        return;
    case NOTE_CONFIG:
        config_unref(((struct note_config *)note)->config);
        free(note);
        return;
    case NOTE_STOP:
    case NOTE_EVENTS:
    case NOTE_GAP:
    case NOTE_CENSUS:
    case NOTE_DRAIN:
        free(note);
        return;
    }
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    /* The store gives back what it was asked: reads go to `waiting`, repairs end. */
    bus->store.ops->free(bus->store.impl);
    struct job *job;
    while ((job = TAILQ_FIRST(&bus->waiting))) {
        TAILQ_REMOVE(&bus->waiting, job, link);
        note_read_free(job->note);
        replay_reset(&job->replay);
        free(job);
    }
    struct inbox_item *item;
    while ((item = inbox_pop(bus->inbox)))
        note_free((struct note *)item);
    struct name *name, *next_name;
    HASH_ITER(hh, bus->names, name, next_name) {
        HASH_DEL(bus->names, name);
        free(name->store.ns);
        free(name);
    }
    struct space *space, *next_space;
    HASH_ITER(hh, bus->spaces, space, next_space) {
        HASH_DEL(bus->spaces, space);
        free(space->ns);
        free(space);
    }
    for (unsigned i = 0; i < bus->worker_count; i++)
        note_events_free(bus->batches[i]);
    free(bus->batches);
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
