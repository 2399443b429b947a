/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/fanout.h"

#include <stdlib.h>

#include "common/cache.h"
#include "common/clock.h"
#include "common/mem.h"
#include "common/sse.h"
#include "relay/core/connection_topic.h"
#include "relay/fanout/fanout_parts.h"

enum { TICK_MS = 250 };

/* --- the end of a turn ------------------------------------------------------------------------ */

static void observe(struct fanout *f)
{
    struct event_clock now = stream_clock(&f->shared);
    uint64_t mono = now.mono_us, wall = now.wall_us;
    for (size_t i = 0; i < f->mark_count; i++) {
        struct fanout_mark *mark = &f->marks[i];
        if (mark->arrival_us)
            metrics_observe_us(f->shared.metrics, H_FANOUT, mono - mark->arrival_us, 1);
        if (mark->id)
            metrics_observe_us(f->shared.metrics, H_LATENCY, wall > mark->id ? wall - mark->id : 0,
                               1);
    }
    f->mark_count = 0;
}

static void batch_write(struct fanout *f)
{
    struct fanout_batch *batch = &f->batch;
    writer_write(f->writer, batch->writes, batch->count);
    for (size_t i = 0; i < batch->count; i++)
        stream_written(batch->streams[i], &batch->writes[i]);
    batch->count = batch->frames = 0;
}

static void batch_add(struct fanout *f, struct stream *s)
{
    struct fanout_batch *batch = &f->batch;
    struct writer_write *w = &batch->writes[batch->count];
    w->iov = batch->iov + batch->frames;
    if (!stream_offer(s, w)) {
        stream_settle(s);
        return;
    }
    batch->streams[batch->count++] = s;
    batch->frames += (size_t)w->count;
    if (batch->count == WRITER_BATCH ||
        batch->frames + STREAM_FRAMES_PER_WRITE > FANOUT_FRAMES_PER_BATCH)
        batch_write(f);
}

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)revents;
    struct fanout *f = w->data;
    fanout_close_doomed(f);
    fanout_relief_look(f);
    f->shared.turn_ms = clock_mono_ms();
    /* Streams that become dirty while this runs wait for the next turn. */
    struct stream_queue turn = TAILQ_HEAD_INITIALIZER(turn);
    TAILQ_CONCAT(&turn, &f->shared.dirty, turn_link);
    struct stream *s;
    while ((s = TAILQ_FIRST(&turn))) {
        TAILQ_REMOVE(&turn, s, turn_link);
        cache_prefetch(TAILQ_FIRST(&turn));
        s->dirty = false;
        batch_add(f, s);
    }
    batch_write(f);
    if (f->mark_count)
        observe(f);
    if (TAILQ_EMPTY(&f->shared.dirty))
        ev_idle_stop(loop, &f->busy);
    else
        ev_idle_start(loop, &f->busy);
}

static void on_busy(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop, (void)w, (void)revents;
}

/* --- events from the bus --------------------------------------------------------------------- */

struct offer {
    struct fanout *fanout;
    struct event *event;
};

static void on_hit(void *owner, void *arg)
{
    struct offer *offer = arg;
    struct stream *s = owner;
    struct fanout *f = offer->fanout;
    if (!fanout_is_first_offer(f, s))
        return;
    enum client_push pushed = client_push(&s->client, &f->shared.limits, offer->event);
    switch (pushed) {
    case CLIENT_QUEUED:
        stream_mark_dirty(s);
        if (s->blocked)
            stream_account(s);
        return;
    case CLIENT_HELD:
    case CLIENT_SKIPPED:
        return;
    case CLIENT_PENDING:
    case CLIENT_FLUSHED:
    case CLIENT_DROPPED:
    case CLIENT_BEHIND:
    case CLIENT_WOKEN:
    case CLIENT_FULL:
        fanout_pushed(f, s, pushed);
        return;
    }
}

/* Of one that ends its topic. */
static void on_hit_end(void *owner, void *arg)
{
    const struct offer *offer = arg;
    struct stream *s = owner;
    bool is_new = s->stamp != offer->fanout->stamp;
    on_hit(owner, arg);
    if (is_new)
        stream_ends_live(s, offer->event);
}

/* Of an event that was over when it came. */
static void on_hit_over(void *owner, void *arg)
{
    struct offer *offer = arg;
    struct stream *s = owner;
    struct fanout *f = offer->fanout;
    if (!fanout_is_first_offer(f, s))
        return;
    bool missed = client_pass_over(&s->client, &f->shared.limits, offer->event);
    metrics_add(f->shared.metrics, M_EVENTS_EXPIRED, missed);
    if (s->client.out.more) /* what it has replaced was counted as pending */
        stream_account(s);
    if (event_end(offer->event) != END_NONE)
        stream_ends_live(s, offer->event);
}

static bool is_over(const struct fanout *f, const struct event *ev)
{
    if (!event_has_ttl(ev))
        return false;
    struct event_clock now = stream_clock(&f->shared);
    return event_is_over(ev, &now);
}

/* Without authentication no stream has what an event with match asks for. (One whose match cannot
 * be read is counted where it is parsed.) */
static bool reaches_nobody(const struct fanout *f, const struct event *ev)
{
    const struct config *config = f->shared.config;
    const char *match = event_match(ev);
    return match && *match && !config->auth_file[0] && !config->auth_key_file[0];
}

void fanout_take_events(struct fanout *f, struct note_events *note)
{
    for (size_t i = 0; i < note->count; i++) {
        struct event *ev = note->events[i];
        struct offer offer = {f, ev};
        bool over = is_over(f, ev), ends = event_end(ev) != END_NONE;
        /* An ephemeral event on several topics has no id to know it by; its copies come in a row.
         */
        if (!event_twin(ev) || event_twin(ev) != f->twin)
            f->stamp++;
        f->twin = event_twin(ev);
        if (connection_topic_is(event_topic(ev)))
            fanout_address(f, event_ns(ev), event_topic(ev));
        if (reaches_nobody(f, ev))
            metrics_add(f->shared.metrics, M_DROPPED_MATCH, 1);
        interest_match(f->shared.interest, event_ns(ev), event_topic(ev),
                       over   ? on_hit_over
                       : ends ? on_hit_end
                              : on_hit,
                       &offer);
        fanout_close_doomed(f);
        if (!over && f->mark_count < sizeof(f->marks) / sizeof(f->marks[0]))
            f->marks[f->mark_count++] = (struct fanout_mark){event_arrival_us(ev), event_id(ev)};
    }
    note_events_free(note);
}

bool fanout_is_turn_full(const struct fanout *f)
{
    return f->mark_count >= FANOUT_EVENTS_PER_TURN;
}

/* --- streams --------------------------------------------------------------------------------- */

struct stream *fanout_open(struct fanout *f, void *connection, struct subscription_request *request,
                           const struct stream_form *form)
{
    return stream_open(&f->shared, connection, request, form);
}

void fanout_start(struct stream *s, int fd)
{
    stream_start(s, fd);
}

void fanout_over(struct stream *s)
{
    stream_over(s);
}

void fanout_take_page(struct fanout *f, struct note_read *note)
{
    struct stream *s = note->owner;
    if (!s)
        note_read_free(note);
    else if (!note->events) /* the bus had stopped watching in between: ask again */
        inbox_push(bus_inbox(f->shared.node->bus), &note->note.item);
    else
        stream_take_page(s, note);
}

uint64_t fanout_retry_hint(const struct config *config)
{
    return stream_spread(config->retry_ms - config->retry_ms / 5,
                         config->retry_ms + config->retry_ms / 5);
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct fanout *f = w->data;
    wheel_advance(f->shared.wheel, clock_mono_ms());
    interest_tick(f->shared.interest, clock_mono_ms());
}

static struct event_clock now(void *shared)
{
    return stream_clock(shared);
}

void fanout_configure(struct fanout *f, struct config *config)
{
    struct buf frame = {0};
    config_ref(config);
    config_unref(f->shared.config);
    f->shared.config = config;
    f->shared.limits = (struct client_limits){.max_events = (uint32_t)config->queue_max_events,
                                              .max_bytes = config->queue_max_bytes,
                                              .slow = config->slow,
                                              .teller = {config, config->control_events},
                                              .now = now,
                                              .arg = &f->shared};
    stream_flows_configure(f->shared.flows);
    f->events_max = config->memory_events ? config->memory_events : SIZE_MAX;
    if (config->heartbeat_event[0])
        sse_put_control(&frame, 0, config->heartbeat_event, "", SLICE_LIT("{}"));
    else
        buf_puts(&frame, ":\n");
    event_unref(f->shared.heartbeat);
    f->shared.heartbeat = event_new_frame(0, buf_slice(&frame));
    buf_reset(&frame);
    struct stream *s;
    LIST_FOREACH (s, &f->shared.all, all_link)
        stream_configure(s);
}

static void shared_init(struct stream_shared *shared, unsigned worker, struct node *node)
{
    shared->worker = worker;
    shared->node = node;
    shared->metrics = node->metrics[worker];
    shared->interest = interest_new(bus_inbox(node->bus), worker, shared->metrics);
    shared->comment = event_new_frame(0, SLICE_LIT(":\n"));
    shared->wheel = wheel_new(TICK_MS, clock_mono_ms(), stream_timer, shared);
    shared->leases = leases_new();
    id_table_init(&shared->by_id);
    shared->flows = stream_flows_new(shared);
    LIST_INIT(&shared->all);
    TAILQ_INIT(&shared->dirty);
    TAILQ_INIT(&shared->blocked);
}

struct fanout *fanout_new(struct ev_loop *loop, unsigned worker, struct node *node,
                          struct config *config, void (*end)(void *connection))
{
    struct fanout *f = mem_zero(1, sizeof(*f));
    f->shared.loop = loop;
    f->shared.end = end;
    shared_init(&f->shared, worker, node);
    f->writer = writer_new(config->io_uring);
    fanout_configure(f, config);
    ev_prepare_init(&f->flush, on_flush);
    ev_idle_init(&f->busy, on_busy);
    ev_timer_init(&f->tick, on_tick, TICK_MS / 1000., TICK_MS / 1000.);
    f->flush.data = f->tick.data = f;
    fanout_relief_init(f);
    ev_prepare_start(loop, &f->flush);
    ev_timer_start(loop, &f->tick);
    return f;
}

void fanout_free(struct fanout *f)
{
    if (!f)
        return;
    ev_prepare_stop(f->shared.loop, &f->flush);
    ev_idle_stop(f->shared.loop, &f->busy);
    ev_timer_stop(f->shared.loop, &f->tick);
    fanout_relief_end(f);
    event_unref(f->shared.heartbeat);
    event_unref(f->shared.comment);
    writer_free(f->writer);
    wheel_free(f->shared.wheel);
    leases_free(f->shared.leases);
    id_table_reset(&f->shared.by_id);
    free(f->shared.doomed);
    stream_flows_free(f->shared.flows);
    interest_free(f->shared.interest);
    config_unref(f->shared.config);
    free(f);
}

void fanout_count(struct fanout *f, struct census *census, struct slice ns)
{
    interest_count(f->shared.interest, census, ns);
}

void fanout_drain(struct fanout *f)
{
    struct stream *s;
    uint64_t now = clock_mono_ms();
    f->shared.draining = true;
    LIST_FOREACH (s, &f->shared.all, all_link)
        stream_drain(s, now + stream_spread(0, f->shared.config->drain_ms));
}

void fanout_end_all(struct fanout *f)
{
    struct stream *s;
    LIST_FOREACH (s, &f->shared.all, all_link) {
        stream_close(s, CLOSE_DRAIN, false);
        if (s->fd >= 0)
            stream_finish(s);
    }
}

size_t fanout_streams(const struct fanout *f)
{
    return f->shared.count;
}
