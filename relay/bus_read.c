#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"
#include "relay/bus_parts.h"

/* One client's read of the log: waits until the names are heard, then reads. */
struct job {
    struct replay replay; /* first: replay's callback hands this pointer back */
    struct bus *bus;
    struct note_read *note;
    struct space *space;
    TAILQ_ENTRY(job) link; /* in bus->waiting */
};

static void job_end(struct job *job)
{
    struct bus *bus = job->bus;
    struct space *space = job->space;
    bus_post(bus, job->note->worker, &job->note->note);
    replay_reset(&job->replay);
    free(job);
    space->jobs--;
    bus_space_release(bus, space);
}

static void job_fill(struct job *job)
{
    struct replay *r = &job->replay;
    struct note_read *note = job->note;
    note->start = r->start;
    note->end = r->end;
    note->final = r->final;
    note->gap_told = r->gap_told;
    note->count = r->count;
    note->events = mem_alloc((r->count ? r->count : 1) * sizeof(*note->events));
    for (size_t i = 0; i < r->count; i++) {
        struct replay_item *item = &r->items[i];
        if (item->event) {
            note->events[i] = event_ref(item->event);
            metrics_add(job->bus->metrics, M_EVENTS_REPLAYED, 1);
        } else {
            note->events[i] = gap_event(job->bus->config, item->moves ? item->id : 0, item->from,
                                        item->id, item->reason);
            bus_count_gap(job->bus, item->reason);
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
                                  .gap_told = note->gap_told,
                                  .done = on_job_done,
                                  .arg = job};
    replay_start(&job->replay);
}

enum readiness { JOB_READY, JOB_WAITS, JOB_ORPHAN };

static enum readiness job_readiness(struct bus *bus, const struct job *job)
{
    const struct stream_request *request = subscription_request(job->note->sub);
    for (size_t i = 0; i < request->topics.count; i++) {
        struct name *name = bus_name_find(bus, request->ns, request->topics.items[i]);
        if (!name)
            return JOB_ORPHAN; /* the worker stopped watching: its client is gone */
        if (!name->store.heard)
            return JOB_WAITS;
    }
    return bus->store_up ? JOB_READY : JOB_WAITS;
}

void bus_reads_start(struct bus *bus)
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

void bus_take_read(struct bus *bus, struct note_read *note)
{
    struct job *job = mem_zero(1, sizeof(*job));
    job->bus = bus;
    job->note = note;
    job->space = bus_space_find(bus, subscription_ns(note->sub));
    assert(job->space); /* a worker watches before it reads */
    job->space->jobs++;
    TAILQ_INSERT_TAIL(&bus->waiting, job, link);
    bus->recheck = true;
}

void bus_reads_return(struct bus *bus)
{
    struct job *job;
    while ((job = TAILQ_FIRST(&bus->waiting))) {
        TAILQ_REMOVE(&bus->waiting, job, link);
        job_end(job);
    }
}
