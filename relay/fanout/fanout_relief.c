/* SPDX-License-Identifier: Apache-2.0 */
/* What the streams of a worker let go when the events of the node take more memory than they may.
 * Only streams whose sockets take nothing now, and those that are paused: the others are rid of
 * theirs in the next turn, or flush. */
#include "common/clock.h"
#include "relay/core/pressure.h"
#include "relay/fanout/fanout_parts.h"
#include "relay/kit/timer.h"

/* Between rounds the worker serves its other streams. */
enum { STREAMS_PER_ROUND = 256, EVENTS_PER_ROUND = 16384 };
static const double ROUND_S = 0.01, IDLE_ROUND_S = 0.1; /* idle: there was nothing to let go */

static bool is_high(const struct fanout *f)
{
    return pressure_is_high(true, event_live_bytes(), f->events_max);
}

/* What came from the log is as old as the socket's rest: it was queued before that, or since. */
static uint64_t oldest_of(const struct stream *s)
{
    return client_oldest_us(&s->client, s->last_write_ms * 1000);
}

static void take_oldest(struct stream *s, void *arg)
{
    uint64_t *oldest = arg, own = oldest_of(s);
    *oldest = own < *oldest ? own : *oldest;
}

static uint64_t oldest_of_all(const struct fanout *f)
{
    struct stream *s;
    uint64_t oldest = UINT64_MAX;
    TAILQ_FOREACH (s, &f->shared.blocked, turn_link)
        take_oldest(s, &oldest);
    stream_flows_each_paused(f->shared.flows, take_oldest, &oldest);
    return oldest;
}

/* Returns how many events went. */
static uint32_t relieve(struct fanout *f, struct stream *s, uint64_t before_us)
{
    uint32_t gone;
    enum client_push pushed = client_relieve(&s->client, &f->shared.limits, before_us, &gone);
    if (pushed == CLIENT_SKIPPED)
        return 0;
    metrics_add(f->shared.metrics, M_MEMORY_RELIEVED, 1);
    if (pushed == CLIENT_FULL) {
        gone = outbox_events(&s->client.out);
        fanout_doom(f, s, false);
    } else {
        fanout_pushed(f, s, pushed);
    }
    return gone;
}

struct round {
    struct fanout *fanout;
    uint64_t before_us;
    uint32_t streams, events; /* that had something to let go, and what went */
};

static void relieve_in_turn(struct stream *s, void *arg)
{
    struct round *round = arg;
    if (round->streams == STREAMS_PER_ROUND || round->events >= EVENTS_PER_ROUND ||
        !is_high(round->fanout) || s->doomed || oldest_of(s) >= round->before_us)
        return;
    round->events += relieve(round->fanout, s, round->before_us);
    round->streams++;
}

/* Whether anybody had something to let go. */
static bool relieve_all(struct fanout *f, uint64_t before_us)
{
    struct round round = {.fanout = f, .before_us = before_us};
    struct stream *s;
    TAILQ_FOREACH (s, &f->shared.blocked, turn_link)
        relieve_in_turn(s, &round);
    stream_flows_each_paused(f->shared.flows, relieve_in_turn, &round);
    fanout_close_doomed(f);
    return round.streams > 0;
}

static void on_round(struct ev_loop *loop, ev_timer *timer, int revents)
{
    (void)revents;
    struct fanout *f = timer->data;
    struct stream_shared *shared = &f->shared;
    if (!is_high(f)) {
        fanout_relief_end(f);
        return;
    }
    uint64_t before_us = pressure_before_us(shared->node->pressure, shared->worker,
                                            oldest_of_all(f), clock_mono_us());
    bool any = before_us && relieve_all(f, before_us);
    timer_once(loop, timer, any ? ROUND_S : IDLE_ROUND_S);
}

/* The first to see it tells the others: what is oldest may be theirs, and they may have nothing
 * else to do now. */
static void tell_all(struct fanout *f)
{
    struct node *node = f->shared.node;
    uint64_t held;
    metrics_add(f->shared.metrics, M_MEMORY_FULL, 1);
    for (unsigned i = 0; i < node->workers; i++)
        if (i != f->shared.worker)
            inbox_wake(node->inboxes[i]);
    if (log_limit_pass(&f->relief_limit, clock_mono_us(), &held))
        log_put(LOG_WARN,
                "events take more memory than memory.events: the slowest streams go by their "
                "policies",
                "bytes", log_u64(event_live_bytes()), "limit", log_u64(f->events_max), "not_logged",
                log_u64(held), NULL);
}

void fanout_relief_begin(struct fanout *f)
{
    f->relieves = true;
    if (pressure_begin(f->shared.node->pressure))
        tell_all(f);
    timer_once(f->shared.loop, &f->relief, ROUND_S);
}

void fanout_relief_end(struct fanout *f)
{
    ev_timer_stop(f->shared.loop, &f->relief);
    if (f->relieves)
        pressure_end(f->shared.node->pressure, f->shared.worker);
    f->relieves = false;
}

void fanout_relief_init(struct fanout *f)
{
    ev_init(&f->relief, on_round);
    f->relief.data = f;
}
