/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/stream.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/fanout/stream_parts.h"

enum {
    BYTES_PER_WRITE = 256 << 10, /* so that no client starves another in a loop turn */
    CLOSE_DEADLINE_MS = 5000,    /* for a closing stream's last bytes… */
    SLOW_DEADLINE_MS =
        15000, /* …or for the rest of the frame that a slow client has begun to take */
    ENDED_DEADLINE_MS = 60000,  /* …or for all that was queued, as it will not come again soon */
    URGENT_DEADLINE_MS = 500,   /* …or for what somebody gets who should get nothing any more */
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
    if (s->counted_events != s->client.out.queue.ring.count) {
        metrics_add(m, M_QUEUED_EVENTS, s->client.out.queue.ring.count);
        metrics_sub(m, M_QUEUED_EVENTS, s->counted_events);
        metrics_add(m, M_QUEUED_BYTES, s->client.out.bytes);
        metrics_sub(m, M_QUEUED_BYTES, s->counted_bytes);
        s->counted_events = s->client.out.queue.ring.count;
        s->counted_bytes = s->client.out.bytes;
    }
    if (s->client.out.more)
        (void)stream_flow_account(s);
}

/* --- ending ---------------------------------------------------------------------------------- */

/* Neither dirty nor blocked from here on, as far as others see. */
static void leave_turn(struct stream *s)
{
    if (s->dirty)
        TAILQ_REMOVE(&s->shared->dirty, s, turn_link);
    else if (s->blocked)
        TAILQ_REMOVE(&s->shared->blocked, s, turn_link);
    s->dirty = s->blocked = false;
}

void stream_finish(struct stream *s)
{
    if (s->over_soon)
        return;
    s->over_soon = true;
    ev_io_stop(s->shared->loop, &s->io);
    wheel_cancel(&s->timer);
    leave_turn(s);
    s->shared->end(s->connection);
}

static const struct closing {
    enum metric metric;
    const char *told; /* in relay.shutdown; NULL: there is none */
    uint16_t patience_ms;
    bool urgent; /* it is owed nothing any more */
} closings[] = {
    [CLOSE_CLIENT] = {M_CLOSED_CLIENT, NULL, CLOSE_DEADLINE_MS, false},
    [CLOSE_SLOW] = {M_CLOSED_SLOW, NULL, SLOW_DEADLINE_MS, false},
    [CLOSE_LIFETIME] = {M_CLOSED_LIFETIME, NULL, CLOSE_DEADLINE_MS, false},
    [CLOSE_DRAIN] = {M_CLOSED_DRAIN, "drain", CLOSE_DEADLINE_MS, false},
    [CLOSE_ERROR] = {M_CLOSED_ERROR, NULL, CLOSE_DEADLINE_MS, false},
    [CLOSE_EXPIRED] = {M_CLOSED_EXPIRED, "token-expired", CLOSE_DEADLINE_MS, false},
    [CLOSE_REVOKED] = {M_CLOSED_REVOKED, "revoked", URGENT_DEADLINE_MS, true},
    [CLOSE_STALLED] = {M_CLOSED_STALLED, NULL, URGENT_DEADLINE_MS, false},
    [CLOSE_ENDED] = {M_CLOSED_ENDED, NULL, ENDED_DEADLINE_MS, false},
    [CLOSE_REPLACED] = {M_CLOSED_REPLACED, "replaced", URGENT_DEADLINE_MS, true},
};

void stream_close(struct stream *s, enum stream_close_reason reason, bool keep_queue)
{
    if (s->client.state == CLIENT_CLOSING)
        return;
    struct stream_shared *shared = s->shared;
    if (!keep_queue && s->has_lease)
        stream_lease_dropped(s);
    size_t dropped = client_close(&s->client, keep_queue);
    metrics_add(shared->metrics, closings[reason].metric, 1);
    if (reason == CLOSE_SLOW || reason == CLOSE_STALLED)
        metrics_add(shared->metrics, M_DROPPED_SLOW, dropped);
    stream_read_cancel(s);
    stream_topics_close(s);
    stream_topics_leave(s);
    stream_account(s);
    s->patience_ms = closings[reason].patience_ms;
    if (s->fd < 0)
        return; /* ends as soon as its preamble is sent: stream_start() */
    wheel_set(shared->wheel, &s->timer, clock_mono_ms() + s->patience_ms);
    stream_mark_dirty(s);
}

void stream_end(struct stream *s, enum stream_close_reason reason)
{
    const struct closing *closing = &closings[reason];
    if (s->client.state == CLIENT_CLOSING)
        return;
    bool tells = closing->told && stream_blocks_are_on(s);
    stream_close(s, reason, !closing->urgent || !s->blocked);
    if (!tells)
        return;
    stream_blocks_put_shutdown(s, closing->told);
    stream_account(s);
    stream_mark_dirty(s);
}

static void stream_gone(struct stream *s)
{
    stream_close(s, CLOSE_CLIENT, false);
    stream_finish(s);
}

/* --- sending --------------------------------------------------------------------------------- */

static void set_timer(struct stream *s);

static void watch_output(struct stream *s, bool blocked)
{
    if (s->blocked == blocked)
        return;
    assert(!s->dirty);
    s->blocked = blocked;
    if (blocked)
        TAILQ_INSERT_TAIL(&s->shared->blocked, s, turn_link);
    else
        TAILQ_REMOVE(&s->shared->blocked, s, turn_link);
    outbox_moves(&s->client.out);
    ev_io_stop(s->shared->loop, &s->io);
    ev_io_set(&s->io, s->fd, blocked ? EV_READ | EV_WRITE : EV_READ);
    ev_io_start(s->shared->loop, &s->io);
    if (s->client.state != CLIENT_CLOSING)
        set_timer(s);
}

struct event_clock stream_clock(const struct stream_shared *shared)
{
    uint64_t offset_us = (uint64_t)bus_clock_offset_us(shared->node->bus);
    return (struct event_clock){clock_wall_us() + offset_us, clock_mono_us()};
}

/* What has to be done first where not all is plain. Apart from stream_offer(), which runs for each
 * write. */
__attribute__((noinline)) static void prepare(struct stream *s)
{
    client_settle(&s->client, &s->shared->limits);
    if (!s->client.out.has_ttl)
        return;
    struct event_clock now = stream_clock(s->shared);
    outbox_expire(&s->client.out, &now, STREAM_FRAMES_PER_WRITE); /* stream_account() counts it */
}

bool stream_offer(struct stream *s, struct writer_write *w)
{
    struct outbox *out = &s->client.out;
    if (out->has_ttl || out->has_hole)
        prepare(s);
    if (!outbox_has_output(out))
        return false;
    w->fd = s->fd;
    w->count = outbox_frames(out, w->iov, STREAM_FRAMES_PER_WRITE, BYTES_PER_WRITE);
    if (out->gzip)
        stream_gzip_account(s->shared);
    return w->count > 0; /* else another worker is compressing what comes next: in the next turn */
}

void stream_settle(struct stream *s)
{
    if (s->client.out.is_due)
        stream_flow_drained(s);
    stream_account(s);
    if (outbox_has_output(&s->client.out))
        stream_mark_dirty(s); /* the rest in the next turn, after the others */
    else if (s->client.state == CLIENT_CLOSING)
        stream_finish(s);
    stream_flow_read_on(s);
}

static size_t sent(struct stream *s, size_t bytes)
{
    const struct stream_shared *shared = s->shared;
    if (shared->config->metrics_types.count)
        return outbox_sent_by_type(&s->client.out, bytes, shared->metrics);
    return outbox_sent(&s->client.out, bytes);
}

void stream_written(struct stream *s, const struct writer_write *w)
{
    struct stream_shared *shared = s->shared;
    ssize_t n = w->result;
    metrics_add(shared->metrics, M_WRITES, 1);
    if (n <= 0)
        outbox_not_offered(&s->client.out);
    if (n < 0 && n != -EAGAIN && n != -EWOULDBLOCK && n != -EINTR) {
        stream_gone(s);
        return;
    }
    if (n > 0) {
        uint32_t frames = s->client.out.queue.ring.count;
        size_t events = sent(s, (size_t)n);
        metrics_add(shared->metrics, M_BYTES_OUT, (uint64_t)n);
        metrics_add(shared->metrics, M_EVENTS_DELIVERED, events);
        if (s->has_lease)
            stream_lease_sent(s, frames - s->client.out.queue.ring.count, events);
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

void stream_take_page(struct stream *s, struct note_read *note)
{
    if (note != s->read) {
        if (stream_topics_looked(s, note))
            stream_end(s, CLOSE_ENDED);
        return;
    }
    s->read = NULL;
    s->gap_told = note->gap_told;
    s->era = note->era;
    if (note->kind != CURSOR_ID)
        s->horizon = note->horizon;
    if (s->client.state == CLIENT_OPENING) {
        bool owed = note->start && note->kind != CURSOR_SNAPSHOT;
        s->start = owed ? note->start : note->end;
        stream_blocks_put_connected(s, note->start);
    }
    if (client_page(&s->client, &s->shared->limits, note->events, note->count, note->end,
                    note->final))
        s->live_from = note->end;
    if (s->client.out.waits)
        stream_flow_wait(s);
    if (stream_ends_page(s, note))
        stream_end(s, CLOSE_ENDED);
    note_read_free(note);
    stream_account(s);
    stream_mark_dirty(s);
}

void stream_change_topics(struct stream *s, const struct strings *add, const struct strings *remove,
                          struct note_control *asked)
{
    if (stream_topics_change(s, add, remove, asked))
        stream_end(s, CLOSE_ENDED);
}

/* --- time ------------------------------------------------------------------------------------ */

static uint64_t next_due(struct stream *s)
{
    uint64_t beat = s->heartbeat_ms ? s->last_write_ms + s->heartbeat_ms : UINT64_MAX;
    /* What is blocked takes no heartbeat. */
    uint64_t due = s->blocked ? stream_flow_stall_due_ms(s) : beat;
    due = due < s->end_ms ? due : s->end_ms;
    uint64_t lease = s->has_lease ? stream_lease_due_ms(s) : UINT64_MAX;
    return lease < due ? lease : due;
}

static void set_timer(struct stream *s)
{
    uint64_t due = next_due(s);
    if (due != UINT64_MAX)
        wheel_set(s->shared->wheel, &s->timer, due);
    else
        wheel_cancel(&s->timer);
}

static void put_heartbeat(struct stream *s)
{
    if (outbox_has_output(&s->client.out))
        return; /* it does not even take what it should */
    stream_blocks_put_heartbeat(s);
    stream_mark_dirty(s);
}

/* To whom relay.expiring cannot be told yet, it is told at the next tick at which it can. */
static bool lease_is_over(struct stream *s)
{
    uint64_t left_ms;
    switch (stream_lease_due(s, &left_ms)) {
    case LEASE_HOLDS:
        return false;
    case LEASE_EXPIRING:
        if (s->fd < 0 || s->blocked || !stream_blocks_are_on(s))
            return false;
        stream_lease(s)->exp_told = true;
        stream_blocks_put_expiring(s, left_ms);
        stream_mark_dirty(s);
        return false;
    case LEASE_EXPIRED:
        return true;
    }
    abort();
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
        stream_end(s, shared->draining ? CLOSE_DRAIN : CLOSE_LIFETIME);
        return;
    }
    if (s->has_lease && lease_is_over(s)) {
        stream_end(s, CLOSE_EXPIRED);
        return;
    }
    if (stream_flow_is_stalled(s, now)) {
        stream_close(s, CLOSE_STALLED, false);
        return;
    }
    if (s->heartbeat_ms && now - s->last_write_ms >= s->heartbeat_ms && s->fd >= 0 && !s->blocked) {
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
    if (s->client.state == CLIENT_CLOSING)
        return;
    set_heartbeat(s);
    stream_flow_configure(s);
}

void stream_renew(struct stream *s, struct grant *grant)
{
    struct subscription *sub = subscription_renewed(s->client.sub, grant);
    client_renew(&s->client, sub);
    subscription_unref(sub);
    stream_lease_renew(s);
    set_timer(s);
}

void stream_drain(struct stream *s, uint64_t end_ms)
{
    if (s->client.state == CLIENT_CLOSING)
        return;
    s->end_ms = end_ms;
    set_timer(s);
}

/* --- opening and over ------------------------------------------------------------------------ */

struct stream *stream_find(const struct stream_shared *shared, const struct connection_id *id)
{
    struct id_entry *entry = id_table_find(&shared->by_id, id);
    return entry ? (struct stream *)(void *)((char *)entry - offsetof(struct stream, id)) : NULL;
}

static void enter_id(struct stream *s, const struct connection_id *id)
{
    struct connection_id made;
    if (!id)
        id_pool_take(&s->shared->ids, &made);
    id_table_add(&s->shared->by_id, &s->id, id ? id->secret : made.secret);
}

struct stream *stream_open(struct stream_shared *shared, void *connection,
                           struct subscription_request *request, const struct stream_form *form)
{
    enum cursor_kind kind = request->cursor;
    uint64_t cursor = request->cursor_value;
    struct stream *s = stream_lease_alloc(request, form);
    struct subscription *sub = subscription_new(request);
    s->shared = shared;
    s->connection = connection;
    s->fd = -1;
    struct outbox_form outbox_form = {.chunked = form->chunked,
                                      .format = subscription_request(sub)->event_format};
    if (form->sum) {
        outbox_form.packer = stream_gzip_join(shared);
        outbox_form.sum = *form->sum;
    }
    client_init(&s->client, sub, &outbox_form);
    subscription_unref(sub);
    ev_init(&s->io, on_io);
    s->io.data = s;
    stream_topics_enter(s);
    enter_id(s, form->id);
    if (s->has_lease)
        stream_lease_open(s, form);
    LIST_INSERT_HEAD(&shared->all, s, all_link);
    shared->count++;
    atomic_fetch_add(&shared->node->clients, 1);
    s->counted_state = CLIENT_OPENING;
    metrics_add(shared->metrics, M_CLIENTS_OPENING, 1);
    metrics_add(shared->metrics, M_STREAMS_OPENED, 1);
    stream_read(s, kind, cursor);
    set_lifetime(s);
    return s;
}

/* Without it the kernel takes 4 MB for a client that reads nothing before the queue, and all that
 * judges by it, sees that it does not. What is on its way is not counted, so lines of any length
 * are kept busy. A duplicate of a socket shares it. */
static void bound_unsent(int fd, uint64_t bytes)
{
    int limit = (int)bytes;
    if (limit) /* a failure leaves the system's */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &limit, sizeof(limit));
}

void stream_start(struct stream *s, int fd)
{
    s->fd = fd;
    bound_unsent(fd, s->shared->config->socket_unsent);
    ev_io_set(&s->io, fd, EV_READ);
    ev_io_start(s->shared->loop, &s->io);
    if (s->client.state == CLIENT_CLOSING)
        wheel_set(s->shared->wheel, &s->timer, clock_mono_ms() + s->patience_ms);
    stream_mark_dirty(s);
}

static void forget_doomed(const struct stream *s)
{
    struct stream_shared *shared = s->shared;
    for (size_t i = 0; i < shared->doomed_count; i++)
        if (shared->doomed[i] == s)
            shared->doomed[i] = NULL;
}

void stream_over(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    stream_close(s, CLOSE_CLIENT, false); /* where it never came to a socket of its own */
    s->over_soon = true;
    ev_io_stop(shared->loop, &s->io);
    wheel_cancel(&s->timer);
    leave_turn(s);
    if (s->doomed)
        forget_doomed(s);
    stream_gzip_leave(s);
    if (s->has_lease)
        stream_lease_over(s);
    stream_flow_over(s);
    stream_ends_over(s);
    stream_topics_over(s);
    client_reset(&s->client);
    stream_account(s);
    metrics_sub(shared->metrics, M_CLIENTS_CLOSING, 1);
    id_table_remove(&shared->by_id, &s->id);
    LIST_REMOVE(s, all_link);
    shared->count--;
    atomic_fetch_sub(&shared->node->clients, 1);
    stream_lease_free(s);
}
