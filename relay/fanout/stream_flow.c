/* SPDX-License-Identifier: Apache-2.0 */
/* When what is pending goes out, how a stream that is behind reads on, and when one that takes
 * nothing at all is given up. Only streams that need it have a struct stream_flow. */
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/fanout/flow_level.h"
#include "relay/fanout/stream_parts.h"
#include "relay/kit/timer.h"

enum { FLOW_TICK_MS = 10 };

struct stream_flow {
    struct stream *stream;
    struct wheel_entry flush;
    uint64_t flushed_ms; /* 0: never */
    struct flow_level level;
    bool queued; /* in flows->behind */
    TAILQ_ENTRY(stream_flow) link;
    LIST_ENTRY(stream_flow) paused_link; /* while its client is_paused */
    uint32_t unsent;   /* bytes that the kernel had for it when it was last asked */
    uint64_t moved_ms; /* when those had become fewer */
    uint32_t counted_events;
    size_t counted_bytes;
};

TAILQ_HEAD(flow_list, stream_flow);

struct flows {
    struct stream_shared *shared;
    struct wheel *wheel;
    ev_timer tick;           /* runs while a flush is to come */
    size_t flushes;          /* so many */
    struct flow_list behind; /* in the order in which they asked */
    LIST_HEAD(, stream_flow) paused;
    struct bucket reads;
    ev_timer again;
};

static struct stream_flow *flow_of(struct stream *s)
{
    if (!s->flow) {
        s->flow = mem_zero(1, sizeof(*s->flow));
        s->flow->stream = s;
        s->flow->level = flow_level_start();
    }
    return s->flow;
}

/* What the kernel holds of the stream's bytes; 0 where it does not say. */
static uint32_t unsent_bytes(const struct stream *s)
{
    int bytes = 0;
    return s->fd >= 0 && ioctl(s->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (uint32_t)bytes : 0;
}

static void set_flush(struct stream_flow *flow, uint64_t due_ms)
{
    struct flows *flows = flow->stream->shared->flows;
    if (flows->flushes++ == 0) {
        wheel_advance(flows->wheel, clock_mono_ms());
        ev_timer_again(flows->shared->loop, &flows->tick);
    }
    wheel_set(flows->wheel, &flow->flush, due_ms);
}

static void cancel_flush(struct stream_flow *flow)
{
    flow->stream->shared->flows->flushes -= flow->flush.due_ms > 0;
    wheel_cancel(&flow->flush);
}

/* --- the flush -------------------------------------------------------------------------------- */

static uint64_t flush_ms(const struct stream *s)
{
    uint64_t asked = subscription_request(s->client.sub)->flow.flush_ms;
    return asked ? asked : s->shared->config->flush_ms;
}

static uint64_t interval_ms(const struct stream *s)
{
    return flow_level_interval_ms(&s->flow->level, flush_ms(s));
}

/* How full the fullest is of what holds this stream's bytes. */
static double saturation(const struct stream *s)
{
    uint64_t unsent = s->shared->config->socket_unsent;
    if (s->client.out.queue.ring.count)
        return 1; /* what was flushed before has not gone yet */
    double own = client_fullness(&s->client, &s->shared->limits);
    double kernel = unsent ? (double)unsent_bytes(s) / (double)unsent : 0;
    return kernel > own ? kernel : own;
}

static void flushed(struct stream *s)
{
    struct stream_flow *flow = flow_of(s);
    uint64_t now = clock_mono_ms();
    if (flow->flushed_ms)
        metrics_observe_us(s->shared->metrics, H_FLUSH_INTERVAL, (now - flow->flushed_ms) * 1000,
                           1);
    flow->flushed_ms = now;
    cancel_flush(flow);
    stream_mark_dirty(s);
}

static void commit(struct stream *s)
{
    client_commit(&s->client);
    flushed(s);
}

/* The first after a silence goes at once: lanes bound the rate, they do not delay what is rare. */
void stream_flow_wait(struct stream *s)
{
    struct stream_flow *flow = flow_of(s);
    struct outbox *out = &s->client.out;
    if (out->is_due || flow->flush.due_ms || s->client.is_paused)
        return;
    uint64_t due = flow->flushed_ms + interval_ms(s);
    if (flow->flushed_ms && due > clock_mono_ms())
        set_flush(flow, due);
    else if (out->queue.ring.count)
        out->is_due = true;
    else
        commit(s);
}

void stream_flow_configure(struct stream *s)
{
    if (!s->flow || !s->flow->flush.due_ms)
        return;
    cancel_flush(s->flow);
    stream_flow_wait(s);
}

static void on_due(struct wheel_entry *entry, void *arg)
{
    (void)arg;
    struct stream_flow *flow =
        (struct stream_flow *)(void *)((char *)entry - offsetof(struct stream_flow, flush));
    struct stream *s = flow->stream;
    s->shared->flows->flushes--;
    if (!s->client.out.waits)
        return;
    flow_level_observe(&flow->level, saturation(s));
    if (s->client.out.queue.ring.count)
        s->client.out.is_due = true; /* goes as soon as that has gone */
    else
        commit(s);
}

void stream_flow_drained(struct stream *s)
{
    if (s->client.out.is_due && !s->client.out.queue.ring.count)
        commit(s);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct flows *flows = w->data;
    wheel_advance(flows->wheel, clock_mono_ms());
    if (!flows->flushes)
        ev_timer_stop(loop, w);
}

/* --- what became of an event ------------------------------------------------------------------ */

static void count(struct stream *s)
{
    struct outbox_counts counts = outbox_take_counts(&s->client.out);
    struct metrics *m = s->shared->metrics;
    metrics_add(m, M_DROPPED_POLICY, counts.dropped);
    metrics_add(m, M_EVENTS_MERGED, counts.merged);
    metrics_add(m, M_EVENTS_JOINED, counts.joined);
    metrics_add(m, M_EVENTS_EXPIRED, counts.expired);
}

bool stream_flow_pushed(struct stream *s, enum client_push pushed)
{
    switch (pushed) {
    case CLIENT_PENDING:
        stream_flow_wait(s);
        break;
    case CLIENT_FLUSHED:
        flushed(s);
        break;
    case CLIENT_BEHIND:
        metrics_add(s->shared->metrics, M_STREAMS_BEHIND, 1);
        if (s->flow)
            cancel_flush(s->flow);
        stream_mark_dirty(s); /* it reads on once its queue has room */
        break;
    case CLIENT_WOKEN:
    case CLIENT_QUEUED:
    case CLIENT_DROPPED:
        stream_mark_dirty(s);
        break;
    case CLIENT_HELD:
    case CLIENT_SKIPPED:
    case CLIENT_FULL:
        break;
    }
    return pushed != CLIENT_FULL && stream_flow_account(s);
}

bool stream_flow_account(struct stream *s)
{
    const struct pending *p = outbox_pending(&s->client.out);
    uint64_t most = s->shared->config->slow_max_dropped;
    struct metrics *m = s->shared->metrics;
    if (!s->client.out.more)
        return true;
    count(s);
    if (s->flow) {
        metrics_add(m, M_PENDING_EVENTS, p->count);
        metrics_sub(m, M_PENDING_EVENTS, s->flow->counted_events);
        metrics_add(m, M_PENDING_BYTES, p->bytes);
        metrics_sub(m, M_PENDING_BYTES, s->flow->counted_bytes);
        s->flow->counted_events = p->count;
        s->flow->counted_bytes = p->bytes;
    }
    return !most || s->client.out.more->dropped <= most;
}

/* --- reading on ------------------------------------------------------------------------------- */

/* Those that are behind share so many reads a second, in turns: however many they are, they do not
 * load Redis for those who publish. */
static void read_on(struct flows *flows)
{
    uint64_t now = clock_mono_us();
    struct stream_flow *flow;
    while ((flow = TAILQ_FIRST(&flows->behind))) {
        if (!bucket_take(&flows->reads, now)) {
            double wait = (double)bucket_wait_us(&flows->reads, now) / 1e6;
            timer_once(flows->shared->loop, &flows->again, wait);
            return;
        }
        TAILQ_REMOVE(&flows->behind, flow, link);
        flow->queued = false;
        metrics_add(flows->shared->metrics, M_READS_SLOW, 1);
        stream_read_page(flow->stream);
    }
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    read_on(w->data);
}

static void flow_read(struct stream *s)
{
    struct stream_flow *flow = flow_of(s);
    struct flows *flows = s->shared->flows;
    if (flow->queued)
        return;
    flow->queued = true;
    TAILQ_INSERT_TAIL(&flows->behind, flow, link);
    if (!ev_is_active(&flows->again))
        read_on(flows);
}

/* A stream that is behind reads its next page once half of its queue is free: at the pace the
 * socket drains. */
void stream_flow_read_on(struct stream *s)
{
    const struct client *c = &s->client;
    if (c->state != CLIENT_REPLAY || c->reading || c->rests || !stream_read_has_room(s))
        return;
    if (c->is_behind)
        flow_read(s);
    else
        stream_read_page(s);
}

/* --- a pause ---------------------------------------------------------------------------------- */

bool stream_pause(struct stream *s)
{
    struct stream_flow *flow = flow_of(s);
    if (s->client.is_paused)
        return false;
    cancel_flush(flow);
    client_pause(&s->client);
    LIST_INSERT_HEAD(&s->shared->flows->paused, flow, paused_link);
    metrics_add(s->shared->metrics, M_STREAMS_PAUSED, 1);
    stream_blocks_put_paused(s, "paused");
    stream_mark_dirty(s);
    return true;
}

static void leave_pause(struct stream *s)
{
    LIST_REMOVE(s->flow, paused_link);
    metrics_sub(s->shared->metrics, M_STREAMS_PAUSED, 1);
}

bool stream_resume(struct stream *s)
{
    struct outbox *out = &s->client.out;
    if (!s->client.is_paused)
        return false;
    leave_pause(s);
    bool rested = client_resume(&s->client);
    stream_blocks_put_paused(s, "resumed");
    stream_mark_dirty(s);
    if (out->waits)
        out->is_due = true; /* behind the block, in the same turn */
    if (rested)
        stream_flow_read_on(s);
    return true;
}

void stream_flows_each_paused(struct flows *flows, void (*each)(struct stream *s, void *arg),
                              void *arg)
{
    struct stream_flow *flow, *next;
    for (flow = LIST_FIRST(&flows->paused); flow; flow = next) {
        next = LIST_NEXT(flow, paused_link);
        each(flow->stream, arg);
    }
}

/* --- a stall ---------------------------------------------------------------------------------- */

uint64_t stream_flow_stall_due_ms(const struct stream *s)
{
    uint64_t stall = s->shared->config->stall_timeout_ms;
    return stall ? clock_mono_ms() + stall / 4 : UINT64_MAX;
}

bool stream_flow_is_stalled(struct stream *s, uint64_t now_ms)
{
    uint64_t stall = s->shared->config->stall_timeout_ms;
    if (!stall || !s->blocked)
        return false;
    struct stream_flow *flow = flow_of(s);
    uint32_t unsent = unsent_bytes(s);
    /* Since the last write it was not looked at: it may have moved until now. */
    if (unsent < flow->unsent || flow->moved_ms < s->last_write_ms)
        flow->moved_ms = now_ms;
    flow->unsent = unsent;
    return now_ms - flow->moved_ms >= stall;
}

/* --- life ------------------------------------------------------------------------------------- */

void stream_flow_over(struct stream *s)
{
    struct stream_flow *flow = s->flow;
    stream_flow_account(s);
    if (!flow)
        return;
    cancel_flush(flow);
    if (s->client.is_paused)
        leave_pause(s);
    metrics_sub(s->shared->metrics, M_PENDING_EVENTS, flow->counted_events);
    metrics_sub(s->shared->metrics, M_PENDING_BYTES, flow->counted_bytes);
    if (flow->queued)
        TAILQ_REMOVE(&s->shared->flows->behind, flow, link);
    free(flow);
    s->flow = NULL;
}

void stream_flows_configure(struct flows *flows)
{
    bucket_set(&flows->reads, (double)flows->shared->config->slow_reads, clock_mono_us());
}

struct flows *stream_flows_new(struct stream_shared *shared)
{
    struct flows *flows = mem_zero(1, sizeof(*flows));
    flows->shared = shared;
    flows->wheel = wheel_new(FLOW_TICK_MS, clock_mono_ms(), on_due, NULL);
    TAILQ_INIT(&flows->behind);
    LIST_INIT(&flows->paused);
    ev_timer_init(&flows->tick, on_tick, 0., FLOW_TICK_MS / 1000.);
    ev_init(&flows->again, on_again);
    flows->tick.data = flows->again.data = flows;
    return flows;
}

void stream_flows_free(struct flows *flows)
{
    ev_timer_stop(flows->shared->loop, &flows->tick);
    ev_timer_stop(flows->shared->loop, &flows->again);
    wheel_free(flows->wheel);
    free(flows);
}
