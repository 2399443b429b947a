/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "relay/core/client_parts.h"

enum { TURN_EVENTS = 64 }; /* that may come before the next write */

void client_init(struct client *c, struct subscription *sub, const struct outbox_form *form)
{
    const struct subscription_request *request = subscription_request(sub);
    *c = (struct client){.state = CLIENT_OPENING,
                         .any_type = request->types.count == 0,
                         .buffer = request->flow.buffer ? request->flow.buffer : UINT32_MAX,
                         .sub = subscription_ref(sub)};
    outbox_init(&c->out, form);
}

void client_reset(struct client *c)
{
    outbox_reset(&c->out);
    frame_queue_clear(&c->held);
    subscription_unref(c->sub);
    c->sub = NULL;
    c->state = CLIENT_CLOSING;
}

void client_renew(struct client *c, struct subscription *sub)
{
    subscription_ref(sub);
    subscription_unref(c->sub);
    c->sub = sub;
}

/* --- what it may hold ------------------------------------------------------------------------- */

static struct outbox_limits own_limits(const struct client *c, const struct client_limits *limits)
{
    uint32_t events = c->buffer < limits->max_events ? c->buffer : limits->max_events;
    return (struct outbox_limits){events, limits->max_bytes};
}

static bool fits(const struct client *c, const struct client_limits *limits, size_t bytes)
{
    struct outbox_limits own = own_limits(c, limits);
    return outbox_fits(&c->out, &own, bytes);
}

/* --- what is queued --------------------------------------------------------------------------- */

static void queue_put(struct client *c, struct event *ev)
{
    uint64_t id = event_id(ev);
    if (id)
        c->cursor = id;
    outbox_put(&c->out, ev);
}

void client_put_control(struct client *c, struct event *ev)
{
    if (event_id(ev)) {
        client_commit(c);
        c->cursor = event_id(ev);
    }
    outbox_put(&c->out, ev);
    event_unref(ev);
}

void client_stand_at(struct client *c, uint64_t id)
{
    c->cursor = id;
    outbox_stand_at(&c->out, id);
}

uint64_t client_position(const struct client *c)
{
    return outbox_position(&c->out, c->cursor);
}

void client_stand_behind(struct client *c, uint64_t id)
{
    if (id > c->cursor)
        c->cursor = id;
}

void client_put_position(struct client *c)
{
    outbox_put_position(&c->out, client_position(c));
}

void client_settle(struct client *c, const struct client_limits *limits)
{
    struct outbox_teller teller = client_teller(c, limits);
    outbox_settle(&c->out, &teller);
}

/* --- whether it is wanted --------------------------------------------------------------------- */

/* What is wanted is about to be queued. Here, and not there, a ttl costs nothing to events that
 * have none. */
__attribute__((noinline)) static bool is_wanted_special(struct client *c, const struct event *ev)
{
    c->out.has_ttl |= event_has_ttl(ev);
    return subscription_wants_event(c->sub, ev);
}

static bool is_wanted(struct client *c, const struct event *ev)
{
    if (outbox_is_own(ev))
        return true;
    if (c->any_type && event_is_plain(ev))
        return true;
    return is_wanted_special(c, ev);
}

/* --- what does not fit ------------------------------------------------------------------------ */

/* Back to the log, from what was told or passed over; never from what was merely accepted. */
static enum client_push fall_behind(struct client *c, const struct outbox_teller *teller)
{
    c->cursor = outbox_let_go(&c->out, c->cursor, teller);
    c->state = CLIENT_REPLAY;
    c->is_behind = true;
    c->replayed = 0; /* replay.max_events bounds one catching-up */
    return CLIENT_BEHIND;
}

static bool expire_pending(struct client *c, const struct client_limits *limits)
{
    if (!outbox_pending(&c->out)->has_ttl || !limits->now)
        return false;
    struct event_clock now = limits->now(limits->arg);
    return outbox_expire_pending(&c->out, &now) > 0;
}

/* What is over takes up no room for @ev, which is about to be queued. */
static bool expire(struct client *c, const struct client_limits *limits, const struct event *ev)
{
    bool gone = expire_pending(c, limits);
    if (!c->out.has_ttl || !limits->now)
        return gone;
    struct event_clock now = limits->now(limits->arg);
    client_settle(c, limits);
    gone |= outbox_expire(&c->out, &now, UINT32_MAX) > 0;
    c->out.has_ttl |= event_has_ttl(ev);
    return gone;
}

/* Of a live client. CLIENT_QUEUED: there is room for it now, or it may not be dropped. */
static enum client_push make_room(struct client *c, const struct client_limits *limits,
                                  struct event *ev)
{
    struct outbox_teller teller = client_teller(c, limits);
    if (expire(c, limits, ev) && fits(c, limits, event_frame(ev).len))
        return CLIENT_QUEUED;
    switch (client_policy(c, limits)) {
    case SLOW_BLOCK:
        if (event_id(ev))
            return fall_behind(c, &teller);
        outbox_drop_newest(&c->out, ev, &teller);
        return CLIENT_DROPPED;
    case SLOW_DROP_OLDEST:
        client_commit(c);
        while (!fits(c, limits, event_frame(ev).len))
            if (!outbox_drop_oldest(&c->out, &teller))
                break;
        return CLIENT_QUEUED;
    case SLOW_DROP_NEWEST:
        if (event_end(ev) != END_NONE)
            return CLIENT_QUEUED;
        if (event_id(ev)) { /* what waits has lower ids than what is told as dropped */
            client_commit(c);
            c->cursor = event_id(ev);
        }
        outbox_drop_newest(&c->out, ev, &teller);
        return CLIENT_DROPPED;
    case SLOW_DISCONNECT:
    case SLOW_COUNT:
        break;
    }
    return CLIENT_FULL;
}

/* While it catches up, its queue is full by design. */
__attribute__((noinline)) static enum client_push
overflow(struct client *c, const struct client_limits *limits, struct event *ev)
{
    if (c->state == CLIENT_LIVE)
        return make_room(c, limits, ev);
    struct outbox_teller teller = client_teller(c, limits);
    outbox_drop_newest(&c->out, ev, &teller);
    return CLIENT_DROPPED;
}

/* --- what is held while the log is read ------------------------------------------------------- */

static void wait_for_commit(struct client *c, struct event *ev)
{
    outbox_wait(&c->out, ev, c->cursor);
    if (event_id(ev))
        c->cursor = event_id(ev);
}

/* Of a lane, or behind events that wait; else it needs no memory for what waits. */
static void take_in(struct client *c, struct event *ev, bool merges)
{
    if (!merges) {
        queue_put(c, ev);
        return;
    }
    outbox_supersede(&c->out, ev);
    wait_for_commit(c, ev);
}

/* Of what is held or comes while a page is read, what has an id comes from the log again; else it
 * is told as dropped. Before the first page nothing is owed that no log has. */
static enum client_push drop_unlogged(struct client *c, const struct client_limits *limits,
                                      const struct event *ev)
{
    struct outbox_teller teller = client_teller(c, limits);
    if (event_id(ev) || c->state == CLIENT_OPENING)
        return CLIENT_SKIPPED;
    outbox_drop_newest(&c->out, ev, &teller);
    return CLIENT_DROPPED;
}

static void drop_held(struct client *c, const struct client_limits *limits)
{
    while (c->held.ring.count) {
        struct event *ev = frame_queue_take(&c->held);
        if (is_wanted(c, ev))
            drop_unlogged(c, limits, ev);
        event_unref(ev);
    }
}

/* False: there is no room for it, and the log is to be read once more. */
static bool hold(struct client *c, const struct client_limits *limits, struct event *ev)
{
    if (c->hold_overflow)
        return false;
    size_t bytes = event_frame(ev).len;
    struct outbox_limits own = own_limits(c, limits);
    if (c->held.ring.count >= own.max_events ||
        (c->held.ring.count && c->held_bytes + bytes > own.max_bytes)) {
        c->hold_overflow = true;
        drop_held(c, limits);
        return false;
    }
    c->held_bytes += bytes;
    frame_queue_put(&c->held, event_ref(ev));
    return true;
}

__attribute__((noinline)) static enum client_push
push_held(struct client *c, const struct client_limits *limits, struct event *ev)
{
    return hold(c, limits, ev) ? CLIENT_HELD : drop_unlogged(c, limits, ev);
}

/* Behind a page that is not the last: of what was held, what no log has. */
static void put_held_unlogged(struct client *c, const struct client_limits *limits)
{
    while (c->held.ring.count) {
        struct event *ev = frame_queue_take(&c->held);
        bool due = !event_id(ev) && is_wanted(c, ev);
        if (due && fits(c, limits, event_frame(ev).len)) {
            take_in(c, ev, c->out.waits || event_lane(ev) != LANE_INSTANT);
        } else if (due) {
            client_commit(c);
            drop_unlogged(c, limits, ev);
        }
        event_unref(ev);
    }
    expire_pending(c, limits);
    client_commit(c);
}

/* --- live events ------------------------------------------------------------------------------ */

/* Up to where a turn's events would still fit. */
static bool pending_fills(const struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = own_limits(c, limits);
    const struct pending *p = outbox_pending(&c->out);
    uint32_t turn = own.max_events / 2 < TURN_EVENTS ? own.max_events / 2 : TURN_EVENTS;
    return p->count >= own.max_events - turn || p->bytes >= own.max_bytes / 4 * 3;
}

/* It is pending now. When what waits fills the outbox, it goes: an interval in which so much comes
 * is too long. */
static enum client_push pend(struct client *c, const struct client_limits *limits,
                             enum lane_kind lane)
{
    bool fills = pending_fills(c, limits);
    if (fills && expire_pending(c, limits))
        fills = pending_fills(c, limits);
    c->out.is_due |= c->out.waits && (lane == LANE_INSTANT || fills);
    if (!c->out.is_due || c->out.queue.ring.count)
        return CLIENT_PENDING;
    client_commit(c);
    return CLIENT_FLUSHED;
}

/* Of a lane, or behind events that wait. */
__attribute__((noinline)) static enum client_push
push_waiting(struct client *c, const struct client_limits *limits, struct event *ev)
{
    outbox_supersede(&c->out, ev);
    if (!fits(c, limits, event_frame(ev).len)) {
        enum client_push pushed = make_room(c, limits, ev);
        if (pushed != CLIENT_QUEUED)
            return pushed;
    }
    wait_for_commit(c, ev);
    return pend(c, limits, event_lane(ev));
}

/* Nothing is pending: only the queue counts. An empty one takes any event. */
static inline bool queue_fits(const struct client *c, const struct client_limits *limits,
                              size_t bytes)
{
    uint32_t count = c->out.queue.ring.count;
    return count == 0 || (count < limits->max_events && count < c->buffer &&
                          c->out.bytes + bytes <= limits->max_bytes);
}

enum client_push client_push(struct client *c, const struct client_limits *limits, struct event *ev)
{
    uint64_t id = event_id(ev);
    bool plain = event_is_plain(ev);
    if (c->state == CLIENT_CLOSING || (id && id <= c->cursor))
        return CLIENT_SKIPPED;
    if (!(plain && c->any_type) && !is_wanted_special(c, ev)) {
        if (c->state == CLIENT_LIVE && id)
            c->cursor = id;
        return CLIENT_SKIPPED;
    }
    if (c->reading)
        return push_held(c, limits, ev);
    if (c->state != CLIENT_LIVE && id)
        return CLIENT_SKIPPED;
    if (c->out.waits || (!plain && c->state == CLIENT_LIVE && event_lane(ev) != LANE_INSTANT))
        return push_waiting(c, limits, ev);
    if (!queue_fits(c, limits, event_frame(ev).len)) {
        enum client_push pushed = overflow(c, limits, ev);
        if (pushed != CLIENT_QUEUED)
            return pushed;
    }
    queue_put(c, ev);
    return CLIENT_QUEUED;
}

/* What is over may have been all that an instant waited for: no write drains that. */
static void commit_due(struct client *c)
{
    if (c->out.is_due && !c->out.queue.ring.count)
        client_commit(c);
}

/* CLIENT_QUEUED: there is room for it now, or it may not be dropped. It may be read from the log,
 * where that can still be told from it on. Else the caller knows whether it was owed, and tells a
 * gap. */
static enum client_push overflow_late(struct client *c, const struct client_limits *limits,
                                      const struct event *ev)
{
    struct outbox_teller teller = client_teller(c, limits);
    if (expire(c, limits, ev) && fits(c, limits, event_frame(ev).len))
        return CLIENT_QUEUED;
    switch (client_policy(c, limits)) {
    case SLOW_BLOCK:
        if (event_id(ev) <= c->cursor)
            c->cursor = event_id(ev) - 1;
        return fall_behind(c, &teller);
    case SLOW_DROP_OLDEST:
    case SLOW_DROP_NEWEST:
        if (event_end(ev) != END_NONE)
            return CLIENT_QUEUED;
        commit_due(c);
        return CLIENT_SKIPPED;
    case SLOW_DISCONNECT:
    case SLOW_COUNT:
        break;
    }
    return CLIENT_FULL;
}

enum client_push client_push_late(struct client *c, const struct client_limits *limits,
                                  struct event *ev)
{
    uint64_t cursor = c->cursor;
    if (c->state != CLIENT_LIVE || c->reading || event_id(ev) <= c->out.told)
        return CLIENT_SKIPPED;
    if (!fits(c, limits, event_frame(ev).len)) {
        enum client_push pushed = overflow_late(c, limits, ev);
        if (pushed != CLIENT_QUEUED)
            return pushed;
    }
    if (c->out.waits || event_lane(ev) != LANE_INSTANT) {
        outbox_wait_late(&c->out, ev);
        return pend(c, limits, event_lane(ev));
    }
    c->out.has_ttl |= event_has_ttl(ev);
    queue_put(c, ev);
    c->cursor = cursor; /* it has not gone back */
    return CLIENT_QUEUED;
}

bool client_pass_over(struct client *c, const struct client_limits *limits, struct event *ev)
{
    uint64_t id = event_id(ev);
    if (c->state == CLIENT_CLOSING || (id && id <= c->cursor))
        return false;
    bool is_live = c->state == CLIENT_LIVE && !c->reading;
    if (is_live && id)
        c->cursor = id;
    if (!subscription_wants_event(c->sub, ev))
        return false;
    if (c->reading && event_lane(ev) == LANE_COALESCED) {
        (void)hold(c, limits, ev);
        return false;
    }
    outbox_pass_over(&c->out, ev); /* stale is worse than none */
    return is_live || !id;         /* else the log may have brought it in time */
}

void client_pass_over_late(struct client *c, const struct event *ev)
{
    if (c->state == CLIENT_LIVE && !c->reading)
        outbox_pass_over(&c->out, ev);
}

/* --- reading the log -------------------------------------------------------------------------- */

void client_read_begin(struct client *c)
{
    c->reading = true;
    c->hold_overflow = false;
    c->held_bytes = 0;
}

void client_room(const struct client *c, const struct client_limits *limits, uint32_t *events,
                 size_t *bytes)
{
    struct outbox_limits own = own_limits(c, limits);
    uint32_t queued = c->out.queue.ring.count;
    *events = queued < own.max_events ? own.max_events - queued : 1;
    *bytes = c->out.bytes < own.max_bytes ? own.max_bytes - c->out.bytes : 1;
}

bool client_has_room(const struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = own_limits(c, limits);
    return c->out.queue.ring.count <= own.max_events / 2 && c->out.bytes <= own.max_bytes / 2;
}

double client_fullness(const struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = own_limits(c, limits);
    double events = (double)outbox_events(&c->out) / (double)own.max_events;
    double bytes = (double)outbox_bytes(&c->out) / (double)own.max_bytes;
    return events > bytes ? events : bytes;
}

/* It was wanted when it came, but its subscription may have been renewed since. */
static bool is_held_due(struct client *c, const struct event *ev)
{
    return (!event_id(ev) || event_id(ev) > c->cursor) && is_wanted(c, ev);
}

static bool held_fits(struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = own_limits(c, limits);
    size_t bytes = c->out.bytes;
    uint32_t count = c->out.queue.ring.count;
    for (uint32_t i = 0; i < c->held.ring.count; i++) {
        struct event *ev = frame_queue_at(&c->held, i);
        if (!is_held_due(c, ev))
            continue;
        bytes += event_frame(ev).len;
        count++;
    }
    return count <= own.max_events && (count <= 1 || bytes <= own.max_bytes);
}

/* What was held while the last page was read follows it, if the outbox can take it all. */
static bool release_held(struct client *c, const struct client_limits *limits)
{
    if (!held_fits(c, limits))
        return false;
    while (c->held.ring.count) {
        struct event *ev = frame_queue_take(&c->held);
        if (is_held_due(c, ev)) {
            bool instant = event_lane(ev) == LANE_INSTANT;
            take_in(c, ev, c->out.waits || !instant);
            c->out.is_due |= c->out.waits && instant;
        }
        event_unref(ev);
    }
    expire_pending(c, limits);
    return true;
}

static bool has_lanes(struct event *const *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (event_lane(events[i]) == LANE_COALESCED || event_lane(events[i]) == LANE_APPENDED)
            return true;
    return false;
}

/* What is merged as live events are, is so per page: the last of each comes in any case, unless it
 * is over: then none does. */
static void page_put(struct client *c, const struct client_limits *limits,
                     struct event *const *events, size_t count)
{
    bool merges = has_lanes(events, count);
    assert(!c->out.waits);
    for (size_t i = 0; i < count; i++) {
        struct event *ev = events[i];
        if ((event_id(ev) && event_id(ev) <= c->cursor) || !is_wanted(c, ev))
            continue;
        take_in(c, ev, merges);
        c->replayed += !outbox_is_own(ev);
    }
    expire_pending(c, limits);
    client_commit(c);
}

bool client_page(struct client *c, const struct client_limits *limits, struct event *const *events,
                 size_t count, uint64_t cursor, bool final)
{
    c->reading = false;
    page_put(c, limits, events, count);
    if (cursor > c->cursor)
        c->cursor = cursor;
    if (final && !c->hold_overflow && release_held(c, limits)) {
        c->state = CLIENT_LIVE;
        c->is_behind = false;
        commit_due(c);
        return true;
    }
    c->state = CLIENT_REPLAY;
    put_held_unlogged(c, limits);
    return false;
}

size_t client_close(struct client *c, bool keep_queue)
{
    c->state = CLIENT_CLOSING;
    c->reading = false;
    frame_queue_clear(&c->held);
    return outbox_close(&c->out, keep_queue);
}
