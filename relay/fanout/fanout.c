#include "relay/fanout/fanout.h"

#include <stdlib.h>

#include "common/cache.h"
#include "common/clock.h"
#include "common/mem.h"
#include "common/sse.h"
#include "relay/kit/log.h"
#include "relay/fanout/fanout_parts.h"

enum { TICK_MS = 250 };

/* --- the slow ones ---------------------------------------------------------------------------- */

static void close_slow(struct stream *s)
{
    uint64_t held;
    struct fanout *f = s->fanout;
    if (s->client.state == CLIENT_CLOSING)
        return;
    stream_close(s, CLOSE_SLOW, false);
    if (log_limit_pass(&f->slow_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "ended a stream that reads too slowly; it may resume with its last id",
                "ns", subscription_request(s->client.sub)->ns, "topic",
                subscription_request(s->client.sub)->topics.items[0], "not_logged", log_u64(held),
                NULL);
}

static void close_doomed(struct fanout *f)
{
    struct stream *s;
    while ((s = TAILQ_FIRST(&f->doomed))) {
        TAILQ_REMOVE(&f->doomed, s, doomed_link);
        s->doomed = false;
        close_slow(s);
    }
}

/* --- the end of a turn ------------------------------------------------------------------------ */

static void observe(struct fanout *f)
{
    uint64_t mono = clock_mono_us();
    uint64_t wall = clock_wall_us() + (uint64_t)bus_clock_offset_us(f->node->bus);
    for (size_t i = 0; i < f->mark_count; i++) {
        struct mark *mark = &f->marks[i];
        if (mark->arrival_us)
            metrics_observe_us(f->metrics, H_FANOUT, mono - mark->arrival_us, 1);
        if (mark->id)
            metrics_observe_us(f->metrics, H_LATENCY, wall > mark->id ? wall - mark->id : 0, 1);
    }
    f->mark_count = 0;
}

static void batch_write(struct fanout *f)
{
    struct batch *batch = &f->batch;
    writer_write(f->writer, batch->writes, batch->count);
    for (size_t i = 0; i < batch->count; i++)
        stream_written(batch->streams[i], &batch->writes[i]);
    batch->count = batch->frames = 0;
}

static void batch_add(struct fanout *f, struct stream *s)
{
    struct batch *batch = &f->batch;
    struct write *w = &batch->writes[batch->count];
    w->iov = batch->iov + batch->frames;
    if (!stream_offer(s, w)) {
        stream_settle(s);
        return;
    }
    batch->streams[batch->count++] = s;
    batch->frames += (size_t)w->count;
    if (batch->count == WRITER_BATCH ||
        batch->frames + FANOUT_FRAMES_PER_WRITE > FANOUT_FRAMES_PER_BATCH)
        batch_write(f);
}

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)revents;
    struct fanout *f = w->data;
    close_doomed(f);
    f->turn_ms = clock_mono_ms();
    /* Streams that become dirty while this runs wait for the next turn. */
    struct stream_queue turn = TAILQ_HEAD_INITIALIZER(turn);
    TAILQ_CONCAT(&turn, &f->dirty, dirty_link);
    struct stream *s;
    while ((s = TAILQ_FIRST(&turn))) {
        TAILQ_REMOVE(&turn, s, dirty_link);
        cache_prefetch(TAILQ_FIRST(&turn));
        s->dirty = false;
        batch_add(f, s);
    }
    batch_write(f);
    if (f->mark_count)
        observe(f);
    if (TAILQ_EMPTY(&f->dirty))
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

/* Its queue is full. It ends after this turn's matching, which must not lose streams under way. */
static void doom(struct stream *s)
{
    metrics_add(s->fanout->metrics, M_DROPPED_SLOW, 1);
    if (s->doomed || s->client.state == CLIENT_CLOSING)
        return;
    s->doomed = true;
    TAILQ_INSERT_TAIL(&s->fanout->doomed, s, doomed_link);
}

static void on_hit(void *owner, void *arg)
{
    struct offer *offer = arg;
    struct stream *s = owner;
    struct fanout *f = offer->fanout;
    if (s->stamp == f->stamp)
        return;
    s->stamp = f->stamp;
    switch (client_push(&s->client, &f->limits, offer->event)) {
    case CLIENT_QUEUED:
        stream_mark_dirty(s);
        if (s->blocked)
            stream_account(s);
        return;
    case CLIENT_DROPPED:
        metrics_add(f->metrics, M_DROPPED_SLOW, 1);
        return;
    case CLIENT_FULL:
        doom(s);
        return;
    case CLIENT_HELD:
    case CLIENT_SKIPPED:
        return;
    }
}

void fanout_take_events(struct fanout *f, struct note_events *note)
{
    for (size_t i = 0; i < note->count; i++) {
        struct event *ev = note->events[i];
        struct offer offer = {f, ev};
        /* An ephemeral event on several topics has no id to know it by; its copies come in a row.
         */
        if (!event_twin(ev) || event_twin(ev) != f->twin)
            f->stamp++;
        f->twin = event_twin(ev);
        if (event_has_match(ev))
            metrics_add(f->metrics, M_DROPPED_MATCH, 1);
        interest_match(f->interest, event_ns(ev), event_topic(ev), on_hit, &offer);
        close_doomed(f);
        if (f->mark_count < sizeof(f->marks) / sizeof(f->marks[0]))
            f->marks[f->mark_count++] = (struct mark){event_arrival_us(ev), event_id(ev)};
    }
    note_events_free(note);
}

bool fanout_is_turn_full(const struct fanout *f)
{
    return f->mark_count >= FANOUT_EVENTS_PER_TURN;
}

struct gap_offer {
    struct fanout *fanout;
    const struct note_gap *gap;
};

static void tell_gap(struct stream *s, const struct note_gap *gap, uint64_t from)
{
    client_put_control(&s->client, gap_event(s->fanout->config, gap->moves ? gap->to : 0, from,
                                             gap->to, gap->reason));
    metrics_add(s->fanout->metrics, gap_metric(gap->reason), 1);
    stream_mark_dirty(s);
}

/* An event that turned up after later ones: who is not past it gets it now, or when it is
 * delivered; the others are told. */
static void offer_late(struct stream *s, const struct note_gap *gap)
{
    struct fanout *f = s->fanout;
    struct client *c = &s->client;
    struct event *ev = gap->late;
    bool has_it = gap->unless && subscription_wants_topic(c->sub, slice_of(gap->unless));
    if (c->cursor < gap->to || has_it || event_has_match(ev) ||
        !subscription_wants_type(c->sub, event_type(ev)))
        return;
    switch (client_push_late(c, &f->limits, ev)) {
    case CLIENT_QUEUED:
        stream_mark_dirty(s);
        return;
    case CLIENT_FULL:
        doom(s);
        return;
    case CLIENT_SKIPPED:
    case CLIENT_HELD:
    case CLIENT_DROPPED:
        break;
    }
    bool was_due = s->live_from && s->live_from < gap->to;
    /* The page that should have brought it was another server's. */
    bool was_in_page = gap->is_new && s->era != gap->era && s->start < gap->to;
    if (was_due || was_in_page)
        tell_gap(s, gap, gap->from);
}

static void on_gap_hit(void *owner, void *arg)
{
    struct gap_offer *offer = arg;
    struct stream *s = owner;
    const struct note_gap *gap = offer->gap;
    if (s->stamp == offer->fanout->stamp)
        return;
    s->stamp = offer->fanout->stamp;
    bool live = s->client.state == CLIENT_LIVE && !s->client.reading;
    if (gap->late) {
        if (live || (s->client.state == CLIENT_REPLAY && gap->is_new && s->era != gap->era))
            offer_late(s, gap);
        return;
    }
    if (!live) /* it still reads the log, and finds the gap there */
        return;
    /* The gaps of one repair come by where they begin: one that ends before what has been told is
     * part of that. */
    if (s->client.cursor >= gap->to || s->gap_told >= gap->to)
        return;
    s->gap_told = gap->to;
    tell_gap(s, gap, gap->from > s->client.cursor ? gap->from : s->client.cursor);
}

void fanout_take_gap(struct fanout *f, struct note_gap *note)
{
    struct gap_offer offer = {f, note};
    f->stamp++;
    if (note->topic) {
        interest_match(f->interest, slice_of(note->ns), slice_of(note->topic), on_gap_hit, &offer);
    } else {
        struct stream *s;
        LIST_FOREACH (s, &f->all, all_link)
            if (slice_is(subscription_ns(s->client.sub), note->ns))
                on_gap_hit(s, &offer);
    }
    close_doomed(f);
    note_gap_free(note);
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct fanout *f = w->data;
    wheel_advance(f->wheel, clock_mono_ms());
    interest_tick(f->interest, clock_mono_ms());
}

void fanout_configure(struct fanout *f, struct config *config)
{
    struct buf frame = {0};
    config_ref(config);
    config_unref(f->config);
    f->config = config;
    f->limits = (struct client_limits){(uint32_t)config->queue_max_events, config->queue_max_bytes};
    if (config->heartbeat_event[0])
        sse_put_control(&frame, 0, config->heartbeat_event, "", SLICE_LIT("{}"));
    else
        buf_puts(&frame, ":\n");
    event_unref(f->heartbeat);
    f->heartbeat = event_new_frame(0, buf_slice(&frame));
    buf_reset(&frame);
    struct stream *s;
    LIST_FOREACH (s, &f->all, all_link)
        stream_configure(s);
}

struct fanout *fanout_new(struct ev_loop *loop, unsigned worker, struct node *node,
                          struct config *config, void (*end)(void *connection))
{
    struct fanout *f = mem_zero(1, sizeof(*f));
    f->loop = loop;
    f->worker = worker;
    f->node = node;
    f->end = end;
    f->metrics = node->metrics[worker];
    f->interest = interest_new(bus_inbox(node->bus), worker, f->metrics);
    f->writer = writer_new(config->io_uring);
    f->comment = event_new_frame(0, SLICE_LIT(":\n"));
    f->wheel = wheel_new(TICK_MS, clock_mono_ms(), stream_timer, f);
    LIST_INIT(&f->all);
    TAILQ_INIT(&f->dirty);
    TAILQ_INIT(&f->doomed);
    fanout_configure(f, config);
    ev_prepare_init(&f->flush, on_flush);
    ev_idle_init(&f->busy, on_busy);
    ev_timer_init(&f->tick, on_tick, TICK_MS / 1000., TICK_MS / 1000.);
    f->flush.data = f->tick.data = f;
    ev_prepare_start(loop, &f->flush);
    ev_timer_start(loop, &f->tick);
    return f;
}

void fanout_free(struct fanout *f)
{
    if (!f)
        return;
    ev_prepare_stop(f->loop, &f->flush);
    ev_idle_stop(f->loop, &f->busy);
    ev_timer_stop(f->loop, &f->tick);
    event_unref(f->heartbeat);
    event_unref(f->comment);
    writer_free(f->writer);
    wheel_free(f->wheel);
    interest_free(f->interest);
    config_unref(f->config);
    free(f);
}

void fanout_count(struct fanout *f, struct census *census)
{
    interest_count(f->interest, census);
}

void fanout_drain(struct fanout *f)
{
    struct stream *s;
    uint64_t now = clock_mono_ms();
    f->draining = true;
    LIST_FOREACH (s, &f->all, all_link)
        stream_drain(s, now + stream_spread(0, f->config->drain_ms));
}

void fanout_end_all(struct fanout *f)
{
    struct stream *s;
    LIST_FOREACH (s, &f->all, all_link) {
        stream_close(s, CLOSE_DRAIN, false);
        if (s->fd >= 0)
            stream_finish(s);
    }
}

size_t fanout_streams(const struct fanout *f)
{
    return f->count;
}
