#include "relay/fanout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/sse.h"
#include "relay/client.h"
#include "relay/log.h"
#include "relay/wheel.h"

enum {
    FRAMES_PER_WRITE = 64,       /* so that no client starves another… */
    BYTES_PER_WRITE = 256 << 10, /* …in a loop turn */
    EVENTS_PER_TURN = 64,
    CLOSE_DEADLINE_MS = 5000, /* for a closing stream's last bytes */
    CLIENT_BYTES_MAX = 1 << 20, /* that a client may send on a stream, all discarded */
    TICK_MS = 250,
};

enum close_reason { CLOSE_CLIENT, CLOSE_SLOW, CLOSE_LIFETIME, CLOSE_DRAIN, CLOSE_ERROR };

struct stream {
    struct client client; /* first: what the fan-out touches */
    struct wheel_entry timer;
    struct fanout *fanout;
    struct front_call *call;
    struct note_read *read;  /* under way at the bus */
    uint64_t stamp;          /* the last event it was offered: names that overlap offer it again */
    uint64_t last_write_ms, end_ms; /* end_ms: max_lifetime, UINT64_MAX: none */
    uint32_t heartbeat_ms;
    uint32_t received;       /* bytes that the client sent */
    int fd;                  /* -1: the preamble is still on its way */
    bool dirty, blocked, doomed, over_soon;
    enum client_state counted_state;
    uint32_t counted_events;
    size_t counted_bytes;
    ev_io io;
    TAILQ_ENTRY(stream) dirty_link, doomed_link;
    LIST_ENTRY(stream) all_link;
    size_t sub_count;
    struct topic_sub subs[];
};

TAILQ_HEAD(stream_queue, stream);
LIST_HEAD(stream_list, stream);

/* What was fanned out in this turn, for the histograms. */
struct mark {
    uint64_t arrival_us, id;
};

struct fanout {
    struct ev_loop *loop;
    unsigned worker;
    struct node *node;
    struct config *config;
    struct metrics *metrics;
    struct interest *interest;
    struct client_limits limits;
    struct event *heartbeat;
    struct wheel *wheel;
    struct stream_list all;
    size_t count;
    struct stream_queue dirty, doomed;
    uint64_t stamp;
    bool draining;
    struct mark marks[EVENTS_PER_TURN + NOTE_EVENTS_MAX];
    size_t mark_count;
    struct log_limit slow_limit;
    ev_prepare flush;
    ev_idle busy; /* keeps the loop from sleeping while something is dirty */
    ev_timer tick;
};

static uint64_t now_ms(void)
{
    return clock_mono_us() / 1000;
}

/* Roughly uniform in [low, high]; for spreading only. */
static uint64_t spread(uint64_t low, uint64_t high)
{
    return high <= low ? low : low + (uint64_t)random() % (high - low + 1);
}

uint64_t fanout_retry_hint(const struct config *config)
{
    return spread(config->retry_ms - config->retry_ms / 5, config->retry_ms + config->retry_ms / 5);
}

/* --- accounting ------------------------------------------------------------------------------ */

static const enum metric state_metric[] = {[CLIENT_OPENING] = M_CLIENTS_OPENING,
                                           [CLIENT_REPLAY] = M_CLIENTS_REPLAY,
                                           [CLIENT_LIVE] = M_CLIENTS_LIVE,
                                           [CLIENT_CLOSING] = M_CLIENTS_CLOSING};

/* Brings the gauges up to what the stream is now. */
static void account(struct stream *s)
{
    struct metrics *m = s->fanout->metrics;
    if (s->counted_state != s->client.state) {
        metrics_sub(m, state_metric[s->counted_state], 1);
        metrics_add(m, state_metric[s->client.state], 1);
        s->counted_state = s->client.state;
    }
    if (s->counted_events != s->client.queue.count) {
        metrics_add(m, M_QUEUED_EVENTS, s->client.queue.count);
        metrics_sub(m, M_QUEUED_EVENTS, s->counted_events);
        metrics_add(m, M_QUEUED_BYTES, s->client.queued_bytes);
        metrics_sub(m, M_QUEUED_BYTES, s->counted_bytes);
        s->counted_events = s->client.queue.count;
        s->counted_bytes = s->client.queued_bytes;
    }
}

static void mark_dirty(struct stream *s)
{
    if (s->dirty || s->blocked || s->fd < 0 || s->over_soon)
        return;
    s->dirty = true;
    TAILQ_INSERT_TAIL(&s->fanout->dirty, s, dirty_link);
}

/* --- ending ---------------------------------------------------------------------------------- */

static void unsubscribe(struct stream *s)
{
    for (size_t i = 0; i < s->sub_count; i++)
        if (s->subs[i].node)
            interest_remove(s->fanout->interest, subscription_ns(s->client.sub), &s->subs[i]);
}

/* Nothing more will be sent: gives the connection back to be closed. fanout_over() follows. */
static void stream_finish(struct stream *s)
{
    if (s->over_soon)
        return;
    s->over_soon = true;
    ev_io_stop(s->fanout->loop, &s->io);
    wheel_cancel(&s->timer);
    if (s->dirty)
        TAILQ_REMOVE(&s->fanout->dirty, s, dirty_link);
    s->dirty = false;
    front_end(s->call);
}

/* From here on nothing is added; what the queue keeps is still sent, then the stream ends. */
static void stream_close(struct stream *s, enum close_reason reason, bool keep_queue)
{
    static const enum metric reasons[] = {[CLOSE_CLIENT] = M_CLOSED_CLIENT,
                                          [CLOSE_SLOW] = M_CLOSED_SLOW,
                                          [CLOSE_LIFETIME] = M_CLOSED_LIFETIME,
                                          [CLOSE_DRAIN] = M_CLOSED_DRAIN,
                                          [CLOSE_ERROR] = M_CLOSED_ERROR};
    if (s->client.state == CLIENT_CLOSING)
        return;
    struct fanout *f = s->fanout;
    size_t dropped = client_close(&s->client, keep_queue);
    metrics_add(f->metrics, reasons[reason], 1);
    if (reason == CLOSE_SLOW)
        metrics_add(f->metrics, M_DROPPED_SLOW, dropped);
    if (s->read)
        s->read->owner = NULL;
    s->read = NULL;
    unsubscribe(s);
    account(s);
    if (s->fd < 0)
        return; /* ends as soon as its preamble is sent: fanout_start() */
    wheel_set(f->wheel, &s->timer, now_ms() + CLOSE_DEADLINE_MS);
    mark_dirty(s);
}

static void stream_gone(struct stream *s)
{
    stream_close(s, CLOSE_CLIENT, false);
    stream_finish(s);
}

static void close_slow(struct stream *s)
{
    uint64_t held;
    struct fanout *f = s->fanout;
    stream_close(s, CLOSE_SLOW, false);
    if (log_limit_pass(&f->slow_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "ended a stream that reads too slowly; it may resume with its last id", "ns",
                subscription_request(s->client.sub)->ns, "topic",
                subscription_request(s->client.sub)->topics.items[0], "not_logged", log_u64(held), NULL);
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

/* --- reading the log ------------------------------------------------------------------------- */

static void send_read(struct stream *s, enum cursor_kind kind, uint64_t cursor)
{
    struct fanout *f = s->fanout;
    struct note_read *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_READ;
    note->worker = f->worker;
    note->owner = s;
    note->sub = subscription_ref(s->client.sub);
    note->kind = kind;
    note->cursor = cursor;
    client_room(&s->client, &f->limits, &note->max_events, &note->max_bytes);
    note->budget = s->client.replayed < f->config->replay_max_events
                       ? f->config->replay_max_events - s->client.replayed
                       : 0;
    s->read = note;
    client_read_begin(&s->client);
    inbox_push(bus_inbox(f->node->bus), &note->note.item);
}

/* A stream that is behind reads its next page once half of its queue is free: at the pace the socket drains. */
static void read_on(struct stream *s)
{
    if (s->client.state == CLIENT_REPLAY && !s->client.reading &&
        s->client.queue.count <= s->fanout->limits.max_events / 2 &&
        s->client.queued_bytes <= s->fanout->limits.max_bytes / 2)
        send_read(s, CURSOR_ID, s->client.cursor);
}

/* --- sending --------------------------------------------------------------------------------- */

static void watch_output(struct stream *s, bool blocked)
{
    if (s->blocked == blocked)
        return;
    s->blocked = blocked;
    ev_io_stop(s->fanout->loop, &s->io);
    ev_io_set(&s->io, s->fd, blocked ? EV_READ | EV_WRITE : EV_READ);
    ev_io_start(s->fanout->loop, &s->io);
}

/* One write. False: the stream has ended, or waits for its socket. */
static bool stream_write(struct stream *s)
{
    struct fanout *f = s->fanout;
    struct iovec iov[FRAMES_PER_WRITE];
    int count = client_frames(&s->client, iov, FRAMES_PER_WRITE, BYTES_PER_WRITE);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    size_t offered = 0;
    for (int i = 0; i < count; i++)
        offered += iov[i].iov_len;
    ssize_t n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    metrics_add(f->metrics, M_WRITES, 1);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        stream_gone(s);
        return false;
    }
    if (n > 0) {
        metrics_add(f->metrics, M_BYTES_OUT, (uint64_t)n);
        metrics_add(f->metrics, M_EVENTS_DELIVERED, client_sent(&s->client, (size_t)n));
        s->last_write_ms = now_ms();
    }
    bool blocked = n < 0 || (size_t)n < offered;
    watch_output(s, blocked);
    return !blocked;
}

static void stream_flush(struct stream *s)
{
    if (client_has_output(&s->client) && !stream_write(s)) {
        if (!s->over_soon)
            account(s);
        return;
    }
    account(s);
    if (client_has_output(&s->client))
        mark_dirty(s); /* the rest in the next turn, after the others */
    else if (s->client.state == CLIENT_CLOSING)
        stream_finish(s);
    read_on(s);
}

static void observe(struct fanout *f)
{
    uint64_t mono = clock_mono_us(), wall = clock_wall_us();
    for (size_t i = 0; i < f->mark_count; i++) {
        struct mark *mark = &f->marks[i];
        if (mark->arrival_us)
            metrics_observe_us(f->metrics, H_FANOUT, mono - mark->arrival_us, 1);
        if (mark->id)
            metrics_observe_us(f->metrics, H_LATENCY, wall > mark->id ? wall - mark->id : 0, 1);
    }
    f->mark_count = 0;
}

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)revents;
    struct fanout *f = w->data;
    close_doomed(f);
    /* Streams that become dirty while this runs wait for the next turn. */
    struct stream_queue turn = TAILQ_HEAD_INITIALIZER(turn);
    TAILQ_CONCAT(&turn, &f->dirty, dirty_link);
    struct stream *s;
    while ((s = TAILQ_FIRST(&turn))) {
        TAILQ_REMOVE(&turn, s, dirty_link);
        s->dirty = false;
        stream_flush(s);
    }
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

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    struct stream *s = w->data;
    if (revents & EV_READ) {
        char discard[4096];
        ssize_t n = recv(s->fd, discard, sizeof(discard), MSG_DONTWAIT);
        if (n > 0)
            s->received += (uint32_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || s->received > CLIENT_BYTES_MAX) {
            stream_gone(s);
            return;
        }
    }
    if (revents & EV_WRITE) {
        watch_output(s, false);
        mark_dirty(s);
    }
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
    if (s->stamp == f->stamp)
        return;
    s->stamp = f->stamp;
    switch (client_push(&s->client, &f->limits, offer->event)) {
    case CLIENT_QUEUED:
        mark_dirty(s);
        if (s->blocked)
            account(s);
        return;
    case CLIENT_FULL:
        metrics_add(f->metrics, M_DROPPED_SLOW, 1);
        if (!s->doomed && s->client.state != CLIENT_CLOSING) {
            s->doomed = true;
            TAILQ_INSERT_TAIL(&f->doomed, s, doomed_link);
        }
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
        f->stamp++;
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
    return f->mark_count >= EVENTS_PER_TURN;
}

struct gap_offer {
    struct fanout *fanout;
    const struct note_gap *gap;
};

static void on_gap_hit(void *owner, void *arg)
{
    struct gap_offer *offer = arg;
    struct stream *s = owner;
    const struct note_gap *gap = offer->gap;
    if (s->stamp == offer->fanout->stamp)
        return;
    s->stamp = offer->fanout->stamp;
    /* A stream that still reads the log finds the gap there. */
    if (s->client.state != CLIENT_LIVE || s->client.reading || s->client.cursor >= gap->to)
        return;
    uint64_t from = gap->from > s->client.cursor ? gap->from : s->client.cursor;
    client_put_control(&s->client,
                       gap_event(offer->fanout->config, gap->to, from, gap->to, gap->reason));
    static const enum metric which[] = {[GAP_TRIMMED] = M_GAP_TRIMMED,
                                        [GAP_EXPIRED] = M_GAP_EXPIRED,
                                        [GAP_UNKNOWN_ID] = M_GAP_UNKNOWN_ID,
                                        [GAP_OVERFLOW] = M_GAP_OVERFLOW,
                                        [GAP_REDIS_LOST] = M_GAP_REDIS_LOST};
    metrics_add(offer->fanout->metrics, which[gap->reason], 1);
    mark_dirty(s);
}

void fanout_take_gap(struct fanout *f, struct note_gap *note)
{
    struct gap_offer offer = {f, note};
    f->stamp++;
    if (note->topic) {
        interest_match(f->interest, slice_of(note->ns), slice_of(note->topic), on_gap_hit, &offer);
    } else {
        struct stream *s;
        LIST_FOREACH(s, &f->all, all_link)
            if (slice_is(subscription_ns(s->client.sub), note->ns))
                on_gap_hit(s, &offer);
    }
    note_gap_free(note);
}

/* --- opening --------------------------------------------------------------------------------- */

static void put_connected(struct stream *s, uint64_t start)
{
    struct fanout *f = s->fanout;
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    struct buf json = {0}, frame = {0};
    uint64_t random_id = 0;
    if (getrandom(&random_id, sizeof(random_id), 0) != sizeof(random_id))
        random_id = clock_mono_us();
    buf_printf(&json, "{\"connection_id\":\"%016llx\",\"node\":", (unsigned long long)random_id);
    json_put_string(&json, slice_of(f->node->name));
    buf_puts(&json, ",\"topics\":[");
    for (size_t i = 0; i < topics->count; i++) {
        buf_puts(&json, i ? "," : "");
        json_put_string(&json, slice_of(topics->items[i]));
    }
    buf_puts(&json, "]}");
    if (f->config->control_events)
        sse_put_control(&frame, start, f->config->control_prefix, "connected", buf_slice(&json));
    else if (start)
        sse_put_position(&frame, start);
    if (frame.len)
        client_put_control(&s->client, event_new_frame(start, buf_slice(&frame)));
    buf_reset(&json);
    buf_reset(&frame);
}

void fanout_take_page(struct fanout *f, struct note_read *note)
{
    struct stream *s = note->owner;
    if (!s) {
        note_read_free(note);
        return;
    }
    if (!note->events) { /* the bus had stopped watching in between: ask again */
        inbox_push(bus_inbox(f->node->bus), &note->note.item);
        return;
    }
    s->read = NULL;
    if (s->client.state == CLIENT_OPENING)
        put_connected(s, note->start);
    client_page(&s->client, &f->limits, note->events, note->count, note->end, note->final);
    note_read_free(note);
    account(s);
    mark_dirty(s);
}

static uint64_t next_due(const struct stream *s)
{
    uint64_t beat = s->heartbeat_ms ? s->last_write_ms + s->heartbeat_ms : UINT64_MAX;
    return beat < s->end_ms ? beat : s->end_ms;
}

static void set_timer(struct stream *s)
{
    uint64_t due = next_due(s);
    if (due != UINT64_MAX)
        wheel_set(s->fanout->wheel, &s->timer, due);
}

static void put_shutdown(struct stream *s)
{
    struct fanout *f = s->fanout;
    struct buf frame = {0};
    if (!f->config->control_events)
        return;
    sse_put_control(&frame, 0, f->config->control_prefix, "shutdown", SLICE_LIT("{}"));
    client_put_control(&s->client, event_new_frame(0, buf_slice(&frame)));
    buf_reset(&frame);
}

static void put_heartbeat(struct stream *s)
{
    struct fanout *f = s->fanout;
    if (client_has_output(&s->client))
        return; /* it does not even take what it should */
    /* Events were left out by the type filter: tell the position, or a resume would read them all again. */
    if (s->client.state == CLIENT_LIVE && s->client.told < s->client.cursor) {
        struct buf frame = {0};
        sse_put_position(&frame, s->client.cursor);
        client_put_control(&s->client, event_new_frame(s->client.cursor, buf_slice(&frame)));
        buf_reset(&frame);
    } else {
        client_put_control(&s->client, event_ref(f->heartbeat));
    }
    mark_dirty(s);
}

static void on_timer(struct wheel_entry *entry, void *arg)
{
    struct fanout *f = arg;
    struct stream *s = (struct stream *)(void *)((char *)entry - offsetof(struct stream, timer));
    uint64_t now = now_ms();
    if (s->client.state == CLIENT_CLOSING) {
        if (s->fd >= 0)
            stream_finish(s); /* it had its time */
        return;
    }
    if (now >= s->end_ms) {
        if (f->draining)
            put_shutdown(s);
        stream_close(s, f->draining ? CLOSE_DRAIN : CLOSE_LIFETIME, true);
        return;
    }
    if (s->heartbeat_ms && now - s->last_write_ms >= s->heartbeat_ms && s->fd >= 0) {
        put_heartbeat(s);
        s->last_write_ms = now;
    }
    if (s->fd < 0)
        s->last_write_ms = now; /* libmicrohttpd sends the preamble: its deadline applies */
    set_timer(s);
}

static void set_lifetime(struct stream *s)
{
    uint64_t life = s->fanout->config->max_lifetime_ms;
    uint64_t beat = s->fanout->config->heartbeat_ms;
    s->last_write_ms = now_ms();
    s->end_ms = life ? s->last_write_ms + spread(life - life / 10, life + life / 10) : UINT64_MAX;
    s->heartbeat_ms = (uint32_t)(beat ? spread(beat - beat / 10, beat) : 0);
    if (s->fanout->draining)
        s->end_ms = s->last_write_ms;
    set_timer(s);
}

struct stream *fanout_open(struct fanout *f, struct front_call *call, struct stream_request *request)
{
    size_t count = request->topics.count;
    enum cursor_kind kind = request->cursor;
    uint64_t cursor = request->cursor_value;
    struct stream *s = mem_zero(1, sizeof(*s) + count * sizeof(s->subs[0]));
    struct subscription *sub = subscription_new(request);
    s->fanout = f;
    s->call = call;
    s->fd = -1;
    s->sub_count = count;
    client_init(&s->client, sub);
    subscription_unref(sub);
    ev_init(&s->io, on_io);
    s->io.data = s;
    for (size_t i = 0; i < count; i++)
        interest_add(f->interest, subscription_ns(sub),
                     slice_of(subscription_request(sub)->topics.items[i]), &s->subs[i], s);
    LIST_INSERT_HEAD(&f->all, s, all_link);
    f->count++;
    atomic_fetch_add(&f->node->clients, 1);
    s->counted_state = CLIENT_OPENING;
    metrics_add(f->metrics, M_CLIENTS_OPENING, 1);
    metrics_add(f->metrics, M_STREAMS_OPENED, 1);
    send_read(s, kind, cursor);
    set_lifetime(s);
    return s;
}

void fanout_start(struct stream *s, int fd)
{
    s->fd = fd;
    ev_io_set(&s->io, fd, EV_READ);
    ev_io_start(s->fanout->loop, &s->io);
    if (s->client.state == CLIENT_CLOSING)
        wheel_set(s->fanout->wheel, &s->timer, now_ms() + CLOSE_DEADLINE_MS);
    mark_dirty(s);
}

void fanout_over(struct stream *s)
{
    struct fanout *f = s->fanout;
    stream_close(s, CLOSE_CLIENT, false); /* where it never came to a socket of its own */
    s->over_soon = true;
    ev_io_stop(f->loop, &s->io);
    wheel_cancel(&s->timer);
    if (s->dirty)
        TAILQ_REMOVE(&f->dirty, s, dirty_link);
    if (s->doomed)
        TAILQ_REMOVE(&f->doomed, s, doomed_link);
    client_reset(&s->client);
    account(s);
    metrics_sub(f->metrics, M_CLIENTS_CLOSING, 1);
    LIST_REMOVE(s, all_link);
    f->count--;
    atomic_fetch_sub(&f->node->clients, 1);
    free(s);
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct fanout *f = w->data;
    wheel_advance(f->wheel, now_ms());
    interest_tick(f->interest, now_ms());
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
    LIST_FOREACH(s, &f->all, all_link) {
        if (s->client.state == CLIENT_CLOSING || f->draining)
            continue;
        uint64_t beat = config->heartbeat_ms;
        s->heartbeat_ms = (uint32_t)(beat ? spread(beat - beat / 10, beat) : 0);
        wheel_cancel(&s->timer);
        set_timer(s);
    }
}

struct fanout *fanout_new(struct ev_loop *loop, unsigned worker, struct node *node,
                          struct config *config)
{
    struct fanout *f = mem_zero(1, sizeof(*f));
    f->loop = loop;
    f->worker = worker;
    f->node = node;
    f->metrics = node->metrics[worker];
    f->interest = interest_new(bus_inbox(node->bus), worker, f->metrics);
    f->wheel = wheel_new(TICK_MS, now_ms(), on_timer, f);
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
    uint64_t now = now_ms();
    f->draining = true;
    LIST_FOREACH(s, &f->all, all_link) {
        if (s->client.state == CLIENT_CLOSING)
            continue;
        s->end_ms = now + spread(0, f->config->drain_ms);
        wheel_set(f->wheel, &s->timer, next_due(s));
    }
}

void fanout_end_all(struct fanout *f)
{
    struct stream *s;
    LIST_FOREACH(s, &f->all, all_link) {
        stream_close(s, CLOSE_DRAIN, false);
        if (s->fd >= 0)
            stream_finish(s);
    }
}

size_t fanout_streams(const struct fanout *f)
{
    return f->count;
}
