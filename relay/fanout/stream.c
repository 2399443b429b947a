/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/sse.h"

enum {
    BYTES_PER_WRITE = 256 << 10, /* so that no client starves another in a loop turn */
    CLOSE_DEADLINE_MS = 5000,    /* for a closing stream's last bytes… */
    SLOW_DEADLINE_MS =
        15000, /* …or for the rest of the frame that a slow client has begun to take */
    CLIENT_BYTES_MAX = 1 << 20, /* that a client may send on a stream, all discarded */
};

uint64_t stream_spread(uint64_t low, uint64_t high)
{
    return high <= low ? low : low + (uint64_t)random() % (high - low + 1);
}

/* --- accounting ------------------------------------------------------------------------------ */

static const enum metric state_metric[] = {[CLIENT_OPENING] = M_CLIENTS_OPENING,
                                           [CLIENT_REPLAY] = M_CLIENTS_REPLAY,
                                           [CLIENT_LIVE] = M_CLIENTS_LIVE,
                                           [CLIENT_CLOSING] = M_CLIENTS_CLOSING};

void stream_account(struct stream *s)
{
    struct metrics *m = s->shared->metrics;
    if (s->counted_state != s->client.state) {
        metrics_sub(m, state_metric[s->counted_state], 1);
        metrics_add(m, state_metric[s->client.state], 1);
        s->counted_state = s->client.state;
    }
    if (s->counted_events != s->client.queue.ring.count) {
        metrics_add(m, M_QUEUED_EVENTS, s->client.queue.ring.count);
        metrics_sub(m, M_QUEUED_EVENTS, s->counted_events);
        metrics_add(m, M_QUEUED_BYTES, s->client.queued_bytes);
        metrics_sub(m, M_QUEUED_BYTES, s->counted_bytes);
        s->counted_events = s->client.queue.ring.count;
        s->counted_bytes = s->client.queued_bytes;
    }
}

void stream_mark_dirty(struct stream *s)
{
    if (s->dirty || s->blocked || s->fd < 0 || s->over_soon)
        return;
    s->dirty = true;
    TAILQ_INSERT_TAIL(&s->shared->dirty, s, dirty_link);
}

/* --- ending ---------------------------------------------------------------------------------- */

static void unsubscribe(struct stream *s)
{
    for (size_t i = 0; i < s->sub_count; i++)
        if (s->subs[i].node)
            interest_remove(s->shared->interest, subscription_ns(s->client.sub), &s->subs[i]);
}

void stream_finish(struct stream *s)
{
    if (s->over_soon)
        return;
    s->over_soon = true;
    ev_io_stop(s->shared->loop, &s->io);
    wheel_cancel(&s->timer);
    if (s->dirty)
        TAILQ_REMOVE(&s->shared->dirty, s, dirty_link);
    s->dirty = false;
    s->shared->end(s->connection);
}

void stream_close(struct stream *s, enum stream_close_reason reason, bool keep_queue)
{
    static const enum metric reasons[] = {[CLOSE_CLIENT] = M_CLOSED_CLIENT,
                                          [CLOSE_SLOW] = M_CLOSED_SLOW,
                                          [CLOSE_LIFETIME] = M_CLOSED_LIFETIME,
                                          [CLOSE_DRAIN] = M_CLOSED_DRAIN,
                                          [CLOSE_ERROR] = M_CLOSED_ERROR};
    if (s->client.state == CLIENT_CLOSING)
        return;
    struct stream_shared *shared = s->shared;
    size_t dropped = client_close(&s->client, keep_queue);
    metrics_add(shared->metrics, reasons[reason], 1);
    if (reason == CLOSE_SLOW)
        metrics_add(shared->metrics, M_DROPPED_SLOW, dropped);
    if (s->read) {
        s->read->owner = NULL;
        atomic_store_explicit(&s->read->cancelled, true, memory_order_relaxed);
    }
    s->read = NULL;
    unsubscribe(s);
    stream_account(s);
    if (s->fd < 0)
        return; /* ends as soon as its preamble is sent: stream_start() */
    uint64_t patience_ms = reason == CLOSE_SLOW ? SLOW_DEADLINE_MS : CLOSE_DEADLINE_MS;
    wheel_set(shared->wheel, &s->timer, clock_mono_ms() + patience_ms);
    stream_mark_dirty(s);
}

static void stream_gone(struct stream *s)
{
    stream_close(s, CLOSE_CLIENT, false);
    stream_finish(s);
}

/* --- reading the log ------------------------------------------------------------------------- */

static void send_read(struct stream *s, enum cursor_kind kind, uint64_t cursor)
{
    struct stream_shared *shared = s->shared;
    struct note_read *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_READ;
    note->worker = shared->worker;
    note->owner = s;
    note->sub = subscription_ref(s->client.sub);
    note->kind = kind;
    note->cursor = cursor;
    note->gap_told = s->gap_told;
    client_room(&s->client, &shared->limits, &note->max_events, &note->max_bytes);
    note->budget = s->client.replayed < shared->config->replay_max_events
                       ? shared->config->replay_max_events - s->client.replayed
                       : 0;
    s->read = note;
    client_read_begin(&s->client);
    inbox_push(bus_inbox(shared->node->bus), &note->note.item);
}

/* A stream that is behind reads its next page once half of its queue is free: at the pace the
 * socket drains. */
static void read_on(struct stream *s)
{
    if (s->client.state == CLIENT_REPLAY && !s->client.reading &&
        s->client.queue.ring.count <= s->shared->limits.max_events / 2 &&
        s->client.queued_bytes <= s->shared->limits.max_bytes / 2)
        send_read(s, CURSOR_ID, s->client.cursor);
}

/* --- sending --------------------------------------------------------------------------------- */

static void watch_output(struct stream *s, bool blocked)
{
    if (s->blocked == blocked)
        return;
    s->blocked = blocked;
    ev_io_stop(s->shared->loop, &s->io);
    ev_io_set(&s->io, s->fd, blocked ? EV_READ | EV_WRITE : EV_READ);
    ev_io_start(s->shared->loop, &s->io);
}

/* --- compressed streams: common/gzip.h -------------------------------------------------------- */

static struct gzip *gzip_join(struct stream_shared *shared)
{
    if (!shared->gzip)
        shared->gzip = gzip_new();
    shared->gzip_streams++;
    metrics_add(shared->metrics, M_CLIENTS_GZIP, 1);
    return shared->gzip;
}

static void gzip_leave(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    if (!s->client.gzip)
        return;
    metrics_sub(shared->metrics, M_CLIENTS_GZIP, 1);
    if (--shared->gzip_streams > 0)
        return;
    gzip_free(shared->gzip);
    shared->gzip = NULL;
}

static void gzip_account(struct stream_shared *shared)
{
    struct gzip_counts counts = gzip_take_counts(shared->gzip);
    if (!counts.frames)
        return;
    metrics_add(shared->metrics, M_GZIP_FRAMES, counts.frames);
    metrics_add(shared->metrics, M_GZIP_PLAIN_BYTES, counts.plain_bytes);
    metrics_add(shared->metrics, M_GZIP_PACKED_BYTES, counts.packed_bytes);
}

bool stream_offer(struct stream *s, struct writer_write *w)
{
    if (!client_has_output(&s->client))
        return false;
    w->fd = s->fd;
    w->count = client_frames(&s->client, w->iov, STREAM_FRAMES_PER_WRITE, BYTES_PER_WRITE);
    if (s->client.gzip)
        gzip_account(s->shared);
    return w->count > 0; /* else another worker is compressing what comes next: in the next turn */
}

void stream_settle(struct stream *s)
{
    stream_account(s);
    if (client_has_output(&s->client))
        stream_mark_dirty(s); /* the rest in the next turn, after the others */
    else if (s->client.state == CLIENT_CLOSING)
        stream_finish(s);
    read_on(s);
}

void stream_written(struct stream *s, const struct writer_write *w)
{
    struct stream_shared *shared = s->shared;
    ssize_t n = w->result;
    metrics_add(shared->metrics, M_WRITES, 1);
    if (n < 0 && n != -EAGAIN && n != -EWOULDBLOCK && n != -EINTR) {
        stream_gone(s);
        return;
    }
    if (n > 0) {
        metrics_add(shared->metrics, M_BYTES_OUT, (uint64_t)n);
        metrics_add(shared->metrics, M_EVENTS_DELIVERED, client_sent(&s->client, (size_t)n));
        s->last_write_ms = shared->turn_ms;
    }
    size_t offered = 0;
    for (int i = 0; i < w->count; i++)
        offered += w->iov[i].iov_len;
    watch_output(s, n < 0 || (size_t)n < offered);
    if (s->blocked)
        stream_account(s);
    else
        stream_settle(s);
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
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
            s->received > CLIENT_BYTES_MAX) {
            stream_gone(s);
            return;
        }
    }
    if (revents & EV_WRITE) {
        watch_output(s, false);
        stream_mark_dirty(s);
    }
}

/* --- the first page, and those after it ------------------------------------------------------ */

static void put_connected(struct stream *s, uint64_t start)
{
    struct stream_shared *shared = s->shared;
    const struct subscription_request *request = subscription_request(s->client.sub);
    const struct strings *topics = &request->topics;
    bool from_zero = request->cursor == CURSOR_ID && request->cursor_value == 0 && !start;
    struct buf json = {0}, frame = {0};
    uint64_t random_id = 0;
    if (shared->config->control_events != CONTROL_ON) {
        if (start || from_zero)
            client_stand_at(&s->client, start);
        return;
    }
    if (getrandom(&random_id, sizeof(random_id), 0) != sizeof(random_id))
        random_id = clock_mono_us();
    buf_printf(&json, "{\"connection_id\":\"%016llx\",\"node\":", (unsigned long long)random_id);
    json_put_string(&json, slice_of(shared->node->name));
    buf_puts(&json, ",\"topics\":[");
    for (size_t i = 0; i < topics->count; i++) {
        buf_puts(&json, i ? "," : "");
        json_put_string(&json, slice_of(topics->items[i]));
    }
    buf_puts(&json, "]}");
    if (from_zero) /* no event's id, and yet the cursor that was given */
        buf_puts(&frame, "id: 0\n");
    sse_put_control(&frame, start, shared->config->control_prefix, "connected", buf_slice(&json));
    client_put_control(&s->client, event_new_frame(start, buf_slice(&frame)));
    buf_reset(&json);
    buf_reset(&frame);
}

void stream_take_page(struct stream *s, struct note_read *note)
{
    s->read = NULL;
    s->gap_told = note->gap_told;
    s->era = note->era;
    if (s->client.state == CLIENT_OPENING) {
        s->start = note->start ? note->start : note->end;
        put_connected(s, note->start);
    }
    if (client_page(&s->client, &s->shared->limits, note->events, note->count, note->end,
                    note->final))
        s->live_from = note->end;
    note_read_free(note);
    stream_account(s);
    stream_mark_dirty(s);
}

/* --- time ------------------------------------------------------------------------------------ */

static uint64_t next_due(const struct stream *s)
{
    uint64_t beat = s->heartbeat_ms ? s->last_write_ms + s->heartbeat_ms : UINT64_MAX;
    return beat < s->end_ms ? beat : s->end_ms;
}

static void set_timer(struct stream *s)
{
    uint64_t due = next_due(s);
    if (due != UINT64_MAX)
        wheel_set(s->shared->wheel, &s->timer, due);
    else
        wheel_cancel(&s->timer);
}

/* On each connection an EventSource starts with an empty id buffer, and the first blank line makes
 * it the last event id (WHATWG HTML, 9.2.6). So until relay.connected has brought an id, nothing
 * with a blank line may be sent: a client that is cut off then would have forgotten where it was.
 */
static void put_shutdown(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    struct buf frame = {0};
    if (shared->config->control_events != CONTROL_ON || s->client.state == CLIENT_OPENING)
        return;
    sse_put_control(&frame, 0, shared->config->control_prefix, "shutdown", SLICE_LIT("{}"));
    client_put_control(&s->client, event_new_frame(0, buf_slice(&frame)));
    buf_reset(&frame);
}

/* It stands further on than it knows: events were left out by the type filter, which a resume would
 * read all again, or control events are off. With `off` it is never told by a block of its own:
 * many clients take a block that has only an id for an event. */
static bool is_position_due(const struct stream *s)
{
    const struct client *c = &s->client;
    return s->shared->config->control_events != CONTROL_OFF && c->state == CLIENT_LIVE &&
           (c->told < c->cursor || c->owes_id);
}

static void put_heartbeat(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    if (client_has_output(&s->client))
        return; /* it does not even take what it should */
    if (is_position_due(s)) {
        client_put_position(&s->client);
    } else {
        bool held = s->client.state == CLIENT_OPENING;
        client_put_control(&s->client, event_ref(held ? shared->comment : shared->heartbeat));
    }
    stream_mark_dirty(s);
}

void stream_timer(struct wheel_entry *entry, void *arg)
{
    struct stream_shared *shared = arg;
    struct stream *s = (struct stream *)(void *)((char *)entry - offsetof(struct stream, timer));
    uint64_t now = clock_mono_ms();
    if (s->client.state == CLIENT_CLOSING) {
        if (s->fd >= 0)
            stream_finish(s); /* it had its time */
        return;
    }
    if (now >= s->end_ms) {
        if (shared->draining)
            put_shutdown(s);
        stream_close(s, shared->draining ? CLOSE_DRAIN : CLOSE_LIFETIME, true);
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

/* A little less than configured, so that streams that went silent together do not all beat
 * together. */
static void set_heartbeat(struct stream *s)
{
    uint64_t beat = s->shared->config->heartbeat_ms;
    uint64_t asked = subscription_request(s->client.sub)->heartbeat_ms;
    if (asked && (!beat || asked < beat))
        beat = asked;
    s->heartbeat_ms = (uint32_t)(beat ? stream_spread(beat - beat / 10, beat) : 0);
    set_timer(s);
}

static void set_lifetime(struct stream *s)
{
    uint64_t life = s->shared->config->max_lifetime_ms;
    s->last_write_ms = clock_mono_ms();
    s->end_ms =
        life ? s->last_write_ms + stream_spread(life - life / 10, life + life / 10) : UINT64_MAX;
    if (s->shared->draining)
        s->end_ms = s->last_write_ms;
    set_heartbeat(s);
}

void stream_configure(struct stream *s)
{
    if (s->client.state != CLIENT_CLOSING)
        set_heartbeat(s);
}

void stream_drain(struct stream *s, uint64_t end_ms)
{
    if (s->client.state == CLIENT_CLOSING)
        return;
    s->end_ms = end_ms;
    set_timer(s);
}

/* --- opening and over ------------------------------------------------------------------------ */

struct stream *stream_open(struct stream_shared *shared, void *connection,
                           struct subscription_request *request, const struct stream_form *form)
{
    size_t count = request->topics.count;
    enum cursor_kind kind = request->cursor;
    uint64_t cursor = request->cursor_value;
    struct stream *s = mem_zero(1, sizeof(*s) + count * sizeof(s->subs[0]));
    struct subscription *sub = subscription_new(request);
    s->shared = shared;
    s->connection = connection;
    s->fd = -1;
    s->sub_count = count;
    struct client_form client_form = {.chunked = form->chunked};
    if (form->sum) {
        client_form.packer = gzip_join(shared);
        client_form.sum = *form->sum;
    }
    client_init(&s->client, sub, &client_form);
    subscription_unref(sub);
    ev_init(&s->io, on_io);
    s->io.data = s;
    for (size_t i = 0; i < count; i++)
        interest_add(shared->interest, subscription_ns(sub),
                     slice_of(subscription_request(sub)->topics.items[i]), &s->subs[i], s);
    LIST_INSERT_HEAD(&shared->all, s, all_link);
    shared->count++;
    atomic_fetch_add(&shared->node->clients, 1);
    s->counted_state = CLIENT_OPENING;
    metrics_add(shared->metrics, M_CLIENTS_OPENING, 1);
    metrics_add(shared->metrics, M_STREAMS_OPENED, 1);
    send_read(s, kind, cursor);
    set_lifetime(s);
    return s;
}

void stream_start(struct stream *s, int fd)
{
    s->fd = fd;
    ev_io_set(&s->io, fd, EV_READ);
    ev_io_start(s->shared->loop, &s->io);
    if (s->client.state == CLIENT_CLOSING)
        wheel_set(s->shared->wheel, &s->timer, clock_mono_ms() + CLOSE_DEADLINE_MS);
    stream_mark_dirty(s);
}

void stream_over(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    stream_close(s, CLOSE_CLIENT, false); /* where it never came to a socket of its own */
    s->over_soon = true;
    ev_io_stop(shared->loop, &s->io);
    wheel_cancel(&s->timer);
    if (s->dirty)
        TAILQ_REMOVE(&shared->dirty, s, dirty_link);
    if (s->doomed)
        TAILQ_REMOVE(&shared->doomed, s, doomed_link);
    gzip_leave(s);
    client_reset(&s->client);
    stream_account(s);
    metrics_sub(shared->metrics, M_CLIENTS_CLOSING, 1);
    LIST_REMOVE(s, all_link);
    shared->count--;
    atomic_fetch_sub(&shared->node->clients, 1);
    free(s);
}
