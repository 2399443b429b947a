/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "relay/bus/bus_reads_parts.h"
#include "relay/kit/timer.h"

/* How clients' reads of the log become few commands to Redis. Reads that ask the same of the same
 * names share a lane. One flight at a time reads for all in the lane, from the lowest of their
 * cursors. The more reads come, the longer the lane rests between two flights, and meanwhile those
 * whose topics' recent events are here (tail.h) are answered from memory. So a storm of reconnects
 * costs a few flights; a single client is served from the log at once, and sees just what that
 * holds. */

enum {
    FLIGHTS_MAX = 128, /* at once: bounds what pages may take */
    REST_PER_JOB_US = 4000,
    REST_OFTEN_US = 25000, /* for each, once it has flown often */
    REST_MAX_US = 250000,
    FLIGHT_SHARE_US = 250000, /* a lane that flies more often … */
    FLIGHTS_BURST = 4,        /* … after the first ones is answered from memory as far as it goes */
    REST_BEYOND_US = 10000,   /* while some need pages further on */
    CROWD = 16,               /* this many at once are answered from memory as far as it goes */
    SURVEY_LEAST = 64,        /* topics */
    SURVEY_US = 5000000,      /* as long a page may go by what an earlier one has seen */
    SURVEYED_MAX = 1 << 18,   /* topics, in the surveys of all lanes: some 25 MB */
};

TAILQ_HEAD(job_list, bus_job);

/* Those that ask the same. */
struct lane {
    struct buf key;
    struct bus_reads *all;
    struct job_list waiting;
    struct job_list flying; /* whom the flight serves */
    struct replay replay;
    struct bus_reads_names names; /* of a live-only flight: what is asked for */
    struct replay_survey survey;  /* for the next flight; its topics count in all->surveyed */
    uint64_t surveyed_us;
    uint64_t next_us;       /* no flight before … */
    uint64_t joined;        /* … as this many have come since the last one landed */
    uint64_t taken_us;      /* when its share of flights is no longer used up */
    bool idle;              /* nobody waits */
    TAILQ_ENTRY(lane) link; /* in all->queue or idle, unless it is in flight */
    UT_hash_handle hh;
};
TAILQ_HEAD(lane_list, lane);

struct bus_reads {
    struct bus_sources sources;
    struct job_list waiting;      /* names are not heard yet, or the store is away */
    struct lane *lanes;           /* reads that can start, by what they ask … */
    struct lane_list queue, idle; /* … but for those in flight */
    unsigned flights;
    size_t surveyed; /* topics in the lanes' surveys */
    bool recheck;    /* some of them may be able to start */
    ev_timer rest;   /* the next lane's is over */
};

/* --- lanes ------------------------------------------------------------------------------------ */

/* "Ten minutes ago" was said by this machine's clock, as the store's may not have been known then.
 */
static void note_date(const struct bus_reads *reads, struct note_read *note)
{
    const struct subscription_request *request = subscription_request(note->sub);
    if (note->kind != CURSOR_SINCE || !request->cursor_is_local || !request->cursor_value)
        return;
    int64_t offset_us = store_clock_offset_us(&reads->sources.base->store);
    int64_t cursor = (int64_t)request->cursor_value + offset_us;
    note->cursor = cursor > 0 ? (uint64_t)cursor : 0;
}

static void lane_join(struct bus_reads *reads, struct bus_job *job)
{
    struct buf key = {0};
    struct lane *lane;
    note_date(reads, job->note);
    bus_reads_put_key(&key, job->note);
    HASH_FIND(hh, reads->lanes, key.ptr, key.len, lane);
    if (lane) {
        buf_reset(&key);
    } else {
        lane = mem_zero(1, sizeof(*lane));
        lane->key = key;
        lane->all = reads;
        lane->survey.least = SURVEY_LEAST;
        TAILQ_INIT(&lane->waiting);
        TAILQ_INIT(&lane->flying);
        HASH_ADD_KEYPTR(hh, reads->lanes, lane->key.ptr, lane->key.len, lane);
        TAILQ_INSERT_TAIL(&reads->queue, lane, link);
    }
    if (lane->idle) {
        TAILQ_REMOVE(&reads->idle, lane, link);
        TAILQ_INSERT_TAIL(&reads->queue, lane, link);
        lane->idle = false;
    }
    TAILQ_INSERT_TAIL(&lane->waiting, job, link);
    lane->joined++;
}

static void lane_forget(struct lane *lane)
{
    lane->all->surveyed -= lane->survey.look.count;
    replay_survey_reset(&lane->survey);
}

static void lane_free(struct lane *lane)
{
    lane_forget(lane);
    bus_reads_names_reset(&lane->names);
    HASH_DEL(lane->all->lanes, lane);
    buf_reset(&lane->key);
    free(lane);
}

/* Ends what nobody wants any more, and, with @memory, what can be answered from there. */
static void lane_thin(struct lane *lane, bool memory)
{
    struct job_list rest = TAILQ_HEAD_INITIALIZER(rest);
    struct bus_job *job;
    while ((job = TAILQ_FIRST(&lane->waiting))) {
        TAILQ_REMOVE(&lane->waiting, job, link);
        if (bus_reads_job_is_cancelled(job))
            bus_reads_job_end(job);
        else if (!memory || !bus_reads_job_from_tails(job))
            TAILQ_INSERT_TAIL(&rest, job, link);
    }
    TAILQ_CONCAT(&lane->waiting, &rest, link);
}

/* Waits until its names are heard again and the store is back. */
static void job_wait(struct bus_reads *reads, struct bus_job *job)
{
    TAILQ_INSERT_TAIL(&reads->waiting, job, link);
    reads->recheck = true;
}

static bool flies_often(const struct lane *lane, uint64_t now_us)
{
    return lane->taken_us > now_us + FLIGHTS_BURST * FLIGHT_SHARE_US;
}

/* How long it rests after a flight. @beyond: some wait for a page further on. */
static uint64_t lane_rest_us(const struct lane *lane, uint64_t now_us, bool beyond)
{
    uint64_t rest = lane->joined > 1 ? lane->joined * REST_PER_JOB_US : 0;
    if (flies_often(lane, now_us))
        rest = lane->joined * REST_OFTEN_US;
    uint64_t most = beyond ? REST_BEYOND_US : REST_MAX_US;
    return rest < most ? rest : most;
}

/* What a page tells of the namespace and its topics, beside those it was read for. */
static void flight_learn(struct lane *lane)
{
    const struct replay *r = &lane->replay;
    const struct bus_sources *sources = &lane->all->sources;
    struct bus_space *space = TAILQ_FIRST(&lane->flying)->space; /* a lane is of one namespace */
    const struct bus_job *job;
    if (!space)
        return;
    for (size_t i = 0; i < r->count; i++)
        if (r->items[i].event)
            bus_outbox_add_read(sources->outbox, r->items[i].event);
    if (r->stale)
        return; /* names may have been heard only since */
    TAILQ_FOREACH (job, &lane->flying, link)
        bus_names_date(bus_space_names(space), &subscription_request(job->note->sub)->topics,
                       r->position);
    bus_reads_learn(sources, space, r);
    bus_space_date(space, r->position);
}

/* True: the page did not reach it, and it waits for one further on; or nobody can tell yet whether
 * its cursor is one of ours. */
static bool flight_serve(struct bus_job *job, const struct replay *r)
{
    bool resumes = job->note->kind == CURSOR_ID;
    bool ahead = resumes && job->note->cursor > r->position;
    if ((ahead && r->frozen) ||
        (resumes && !r->unknown && !r->final && job->note->cursor >= r->end))
        return true;
    if (r->unknown || ahead)
        bus_reads_job_fill_unknown(job, r);
    else
        bus_reads_job_fill(job, r);
    bus_reads_job_end(job);
    return false;
}

/* Back to the others, to rest. @beyond: some wait for a page further on. */
static void flight_land(struct lane *lane, enum err e, bool beyond)
{
    struct bus_reads *reads = lane->all;
    uint64_t now = clock_mono_us();
    if (lane->replay.stale) /* it did not cost what others do */
        lane->taken_us -= FLIGHT_SHARE_US;
    /* A store that says no would say so as often as it is asked. */
    lane->next_us = now + (e ? REST_MAX_US : lane_rest_us(lane, now, beyond));
    lane->joined = 0;
    reads->surveyed += lane->survey.look.count;
    if (e || reads->surveyed > SURVEYED_MAX)
        lane_forget(lane);
    reads->flights--;
    TAILQ_INSERT_TAIL(&reads->queue, lane, link);
    reads->recheck = true;
}

static void on_flight(struct replay *r, enum err e)
{
    struct lane *lane = r->arg;
    struct bus_job *job;
    bool beyond = false;
    if (e == OK)
        flight_learn(lane);
    while ((job = TAILQ_FIRST(&lane->flying))) {
        TAILQ_REMOVE(&lane->flying, job, link);
        if (e) { /* the store went away */
            job_wait(lane->all, job);
        } else if (flight_serve(job, r)) {
            job->passed_over = true;
            job_wait(lane->all, job);
            beyond = true;
        }
    }
    replay_reset(r);
    bus_reads_names_reset(&lane->names);
    flight_land(lane, e, beyond);
}

/* From the lowest cursor of all. But those that were passed over go first: else they would wait for
 * as long as others come from further back. */
static uint64_t flight_cursor(const struct lane *lane)
{
    const struct bus_job *job;
    uint64_t lowest = UINT64_MAX, passed_over = UINT64_MAX;
    TAILQ_FOREACH (job, &lane->waiting, link) {
        uint64_t cursor = job->note->cursor;
        lowest = cursor < lowest ? cursor : lowest;
        passed_over = job->passed_over && cursor < passed_over ? cursor : passed_over;
    }
    return passed_over < UINT64_MAX ? passed_over : lowest;
}

/* Takes along whom the page may serve, and makes it small enough for each. */
static void flight_board(struct lane *lane, struct replay *r)
{
    struct job_list rest = TAILQ_HEAD_INITIALIZER(rest);
    struct bus_job *job;
    while ((job = TAILQ_FIRST(&lane->waiting))) {
        const struct note_read *note = job->note;
        TAILQ_REMOVE(&lane->waiting, job, link);
        if (note->cursor < r->cursor || bus_reads_names_are_full(&lane->names)) {
            TAILQ_INSERT_TAIL(&rest, job, link);
            continue;
        }
        TAILQ_INSERT_TAIL(&lane->flying, job, link);
        if (cursor_is_live_only(note->kind))
            bus_reads_names_add(&lane->names, &subscription_request(note->sub)->topics);
        r->max_events = note->max_events < r->max_events ? note->max_events : r->max_events;
        r->max_bytes = note->max_bytes < r->max_bytes ? note->max_bytes : r->max_bytes;
    }
    TAILQ_CONCAT(&lane->waiting, &rest, link);
}

/* Hands it to a flight that is about to start. */
static struct replay_survey *lane_survey(struct lane *lane, uint64_t now_us)
{
    if (now_us - lane->surveyed_us > SURVEY_US)
        lane_forget(lane);
    if (!lane->survey.look.count)
        lane->surveyed_us = now_us;
    lane->all->surveyed -= lane->survey.look.count;
    return &lane->survey;
}

static void flight_start(struct lane *lane)
{
    struct bus_reads *reads = lane->all;
    const struct note_read *first = TAILQ_FIRST(&lane->waiting)->note;
    /* Where a page cannot reach the end of a budget, none counts: the others' may be larger. */
    bool counts = first->budget < first->max_events;
    struct replay *r = &lane->replay;
    *r = (struct replay){.store = &reads->sources.base->store,
                         .kind = first->kind,
                         .cursor = flight_cursor(lane),
                         .max_events = UINT32_MAX,
                         .max_bytes = SIZE_MAX,
                         .budget = counts ? first->budget : UINT64_MAX,
                         .forgotten = first->horizon,
                         .snapshot_max = reads->sources.base->config->snapshot_max,
                         .done = on_flight,
                         .arg = lane};
    flight_board(lane, r);
    r->sub = TAILQ_FIRST(&lane->flying)->note->sub; /* stays while it flies */
    r->ns = subscription_request(r->sub)->ns;
    r->names = cursor_is_live_only(first->kind) ? &lane->names.list
                                                : &subscription_request(r->sub)->topics;
    uint64_t now = clock_mono_us();
    r->survey = counts ? NULL : lane_survey(lane, now);
    uint64_t most = now + 2 * FLIGHTS_BURST * FLIGHT_SHARE_US; /* soon forgotten */
    lane->taken_us = (lane->taken_us > now ? lane->taken_us : now) + FLIGHT_SHARE_US;
    lane->taken_us = lane->taken_us < most ? lane->taken_us : most;
    reads->flights++;
    metrics_add(reads->sources.base->metrics, M_READS_LOG, 1);
    replay_start(r);
}

/* Forgets lanes that nobody has needed for a while. */
void bus_reads_sweep(struct bus_reads *reads)
{
    uint64_t now = clock_mono_us();
    struct lane *lane, *next;
    for (lane = TAILQ_FIRST(&reads->idle); lane; lane = next) {
        next = TAILQ_NEXT(lane, link);
        if (lane->next_us > now || lane->taken_us > now)
            continue;
        TAILQ_REMOVE(&reads->idle, lane, link);
        lane_free(lane);
    }
    reads->recheck |= !TAILQ_EMPTY(&reads->waiting); /* clients may be gone */
}

/* Starts the flights that may. */
static void lanes_start(struct bus_reads *reads)
{
    struct ev_loop *loop = reads->sources.base->loop;
    uint64_t now = clock_mono_us(), earliest = UINT64_MAX;
    const struct bus_spaces *spaces = reads->sources.spaces;
    struct lane_list queue = TAILQ_HEAD_INITIALIZER(queue);
    struct lane *lane;
    TAILQ_CONCAT(&queue, &reads->queue, link); /* a flight may land before it has started */
    while ((lane = TAILQ_FIRST(&queue))) {
        TAILQ_REMOVE(&queue, lane, link);
        bool rests = lane->next_us > now;
        bool busy = rests || flies_often(lane, now) || lane->joined > CROWD ||
                    reads->flights >= FLIGHTS_MAX;
        if (bus_spaces_are_up(spaces))
            lane_thin(lane, busy);
        if (TAILQ_EMPTY(&lane->waiting)) {
            lane->idle = true;
            TAILQ_INSERT_TAIL(&reads->idle, lane, link);
        } else if (!rests && reads->flights < FLIGHTS_MAX && bus_spaces_are_up(spaces)) {
            flight_start(lane);
        } else {
            if (rests && lane->next_us < earliest)
                earliest = lane->next_us;
            TAILQ_INSERT_TAIL(&reads->queue, lane, link);
        }
    }
    ev_timer_stop(loop, &reads->rest);
    if (earliest != UINT64_MAX)
        timer_once(loop, &reads->rest, (double)(earliest - now) / 1e6);
}

/* --- which reads can start -------------------------------------------------------------------- */

enum readiness { JOB_READY, JOB_WAITS, JOB_ORPHAN };

static enum readiness job_readiness(const struct bus_job *job)
{
    const struct subscription_request *request = subscription_request(job->note->sub);
    if (bus_reads_job_is_cancelled(job))
        return JOB_ORPHAN;
    if (job->note->looks)
        return bus_spaces_are_up(job->sources->spaces) ? JOB_READY : JOB_ORPHAN;
    const struct bus_names *names = bus_space_names(job->space);
    for (size_t i = 0; i < request->topics.count; i++) {
        const struct store_name *name = bus_names_find(names, slice_of(request->topics.items[i]));
        if (!name)
            return JOB_ORPHAN; /* the worker stopped watching: its client is gone */
        if (!name->heard)
            return JOB_WAITS;
    }
    return bus_spaces_are_up(job->sources->spaces) ? JOB_READY : JOB_WAITS;
}

static void reads_start(struct bus_reads *reads)
{
    struct job_list waiting = TAILQ_HEAD_INITIALIZER(waiting);
    struct bus_job *job;
    reads->recheck = false;
    TAILQ_CONCAT(&waiting, &reads->waiting, link);
    while ((job = TAILQ_FIRST(&waiting))) {
        TAILQ_REMOVE(&waiting, job, link);
        enum readiness readiness = job_readiness(job);
        if (readiness == JOB_WAITS)
            TAILQ_INSERT_TAIL(&reads->waiting, job, link);
        else if (readiness == JOB_ORPHAN)
            bus_reads_job_end(job);
        else
            lane_join(reads, job);
    }
    lanes_start(reads);
}

void bus_reads_turn(struct bus_reads *reads)
{
    if (reads->recheck)
        reads_start(reads);
    if (reads->recheck) /* again: what comes of it must not wait for somebody to wake the loop */
        timer_once(reads->sources.base->loop, &reads->rest, 0.);
}

void bus_reads_recheck(struct bus_reads *reads)
{
    reads->recheck = true;
}

static void on_rest(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    bus_reads_recheck(w->data);
}

void bus_reads_take(struct bus_reads *reads, struct note_read *note)
{
    job_wait(reads, bus_reads_job_new(&reads->sources, note));
}

/* --- all of them ------------------------------------------------------------------------------ */

/* Names that are heard now may not be when the store is back. */
void bus_reads_ground(struct bus_reads *reads)
{
    struct lane *lane, *next;
    reads->recheck = true; /* who only looks does not wait */
    HASH_ITER (hh, reads->lanes, lane, next) {
        TAILQ_CONCAT(&reads->waiting, &lane->waiting, link);
        if (TAILQ_EMPTY(&lane->flying))
            lane_forget(lane);
    }
}

struct bus_reads *bus_reads_new(const struct bus_base *base, struct bus_outbox *outbox,
                                struct bus_spaces *spaces, const struct bus_repairs *repairs)
{
    struct bus_reads *reads = mem_zero(1, sizeof(*reads));
    reads->sources = (struct bus_sources){base, outbox, spaces, repairs};
    TAILQ_INIT(&reads->waiting);
    TAILQ_INIT(&reads->queue);
    TAILQ_INIT(&reads->idle);
    ev_init(&reads->rest, on_rest);
    reads->rest.data = reads;
    return reads;
}

void bus_reads_free(struct bus_reads *reads)
{
    struct lane *lane, *next;
    struct bus_job *job;
    if (!reads)
        return;
    bus_reads_ground(reads);
    while ((job = TAILQ_FIRST(&reads->waiting))) {
        TAILQ_REMOVE(&reads->waiting, job, link);
        bus_reads_job_end(job);
    }
    HASH_ITER (hh, reads->lanes, lane, next)
        lane_free(lane);
    ev_timer_stop(reads->sources.base->loop, &reads->rest);
    free(reads);
}
