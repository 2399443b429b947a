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

/* --- what is queued --------------------------------------------------------------------------- */

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

/* Apart from client_push(), which runs for each delivery. */
__attribute__((noinline)) static bool is_wanted_special(struct client *c, const struct event *ev)
{
    return client_is_wanted_special(c, ev);
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

/* What is over takes up no room for @ev, which is about to be queued. */
static bool expire(struct client *c, const struct client_limits *limits, const struct event *ev)
{
    bool gone = client_expire_pending(c, limits);
    if (!c->out.has_ttl || !limits->now)
        return gone;
    struct event_clock now = limits->now(limits->arg);
    client_settle(c, limits);
    gone |= outbox_expire(&c->out, &now, UINT32_MAX) > 0;
    c->out.has_ttl |= event_has_ttl(ev);
    return gone;
}

/* Too much has come during a pause for what it may hold. Of events that no log has, policies
 * decide. */
static bool is_to_rest(const struct client *c, const struct event *ev)
{
    return c->is_paused && c->out.waits && event_id(ev) && event_lane(ev) != LANE_INSTANT &&
           event_end(ev) == END_NONE;
}

/* Of a live client. CLIENT_QUEUED: there is room for it now, or it may not be dropped. */
static enum client_push make_room(struct client *c, const struct client_limits *limits,
                                  struct event *ev)
{
    struct outbox_teller teller = client_teller(c, limits);
    if (expire(c, limits, ev) && client_fits(c, limits, event_frame(ev).len))
        return CLIENT_QUEUED;
    if (is_to_rest(c, ev)) {
        c->rests = true;
        return fall_behind(c, &teller);
    }
    switch (client_policy(c, limits)) {
    case SLOW_BLOCK:
        if (event_id(ev))
            return fall_behind(c, &teller);
        outbox_drop_newest(&c->out, ev, &teller);
        return CLIENT_DROPPED;
    case SLOW_DROP_OLDEST:
        client_commit(c);
        while (!client_fits(c, limits, event_frame(ev).len))
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

/* --- live events ------------------------------------------------------------------------------ */

__attribute__((noinline)) static enum client_push
push_held(struct client *c, const struct client_limits *limits, struct event *ev)
{
    if (client_hold(c, limits, ev))
        return CLIENT_HELD;
    return client_drop_unlogged(c, limits, ev) ? CLIENT_DROPPED : CLIENT_SKIPPED;
}

/* Up to where a turn's events would still fit. */
static bool pending_fills(const struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = client_own_limits(c, limits);
    const struct pending *p = outbox_pending(&c->out);
    uint32_t turn = own.max_events / 2 < TURN_EVENTS ? own.max_events / 2 : TURN_EVENTS;
    return p->count >= own.max_events - turn || p->bytes >= own.max_bytes / 4 * 3;
}

/* It is pending now. When what waits fills the outbox, it goes: an interval in which so much comes
 * is too long. */
static enum client_push pend(struct client *c, const struct client_limits *limits,
                             enum lane_kind lane)
{
    bool fills = !c->is_paused && pending_fills(c, limits);
    if (fills && client_expire_pending(c, limits))
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
    if (!client_fits(c, limits, event_frame(ev).len)) {
        enum client_push pushed = make_room(c, limits, ev);
        if (pushed != CLIENT_QUEUED)
            return pushed;
    }
    client_wait_for_commit(c, ev);
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

/* It rests no more. What no log has was held meanwhile: that goes, or the page might leave it no
 * room. */
static void wake(struct client *c)
{
    c->rests = false;
    while (c->held.ring.count) {
        struct event *ev = frame_queue_take(&c->held);
        if (client_is_wanted(c, ev))
            client_queue_put(c, ev);
        event_unref(ev);
    }
}

static bool wakes(struct client *c, const struct event *ev)
{
    if (!c->rests || (event_lane(ev) != LANE_INSTANT && event_end(ev) == END_NONE))
        return false;
    wake(c);
    return true;
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
    if (c->state != CLIENT_LIVE && id) /* the log will bring it */
        return wakes(c, ev) ? CLIENT_WOKEN : CLIENT_SKIPPED;
    if (c->rests && !wakes(c, ev))
        return push_held(c, limits, ev);
    if (c->out.waits || (!plain && c->state == CLIENT_LIVE && event_lane(ev) != LANE_INSTANT))
        return push_waiting(c, limits, ev);
    if (!queue_fits(c, limits, event_frame(ev).len)) {
        enum client_push pushed = overflow(c, limits, ev);
        if (pushed != CLIENT_QUEUED)
            return pushed;
    }
    client_queue_put(c, ev);
    return CLIENT_QUEUED;
}

/* CLIENT_QUEUED: there is room for it now, or it may not be dropped. It may be read from the log,
 * where that can still be told from it on. Else the caller knows whether it was owed, and tells a
 * gap. */
static enum client_push overflow_late(struct client *c, const struct client_limits *limits,
                                      const struct event *ev)
{
    struct outbox_teller teller = client_teller(c, limits);
    if (expire(c, limits, ev) && client_fits(c, limits, event_frame(ev).len))
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
        client_commit_due(c);
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
    if (!client_fits(c, limits, event_frame(ev).len)) {
        enum client_push pushed = overflow_late(c, limits, ev);
        if (pushed != CLIENT_QUEUED)
            return pushed;
    }
    if (c->out.waits || event_lane(ev) != LANE_INSTANT) {
        outbox_wait_late(&c->out, ev);
        return pend(c, limits, event_lane(ev));
    }
    c->out.has_ttl |= event_has_ttl(ev);
    client_queue_put(c, ev);
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
        (void)client_hold(c, limits, ev);
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

/* --- a pause ---------------------------------------------------------------------------------- */

void client_pause(struct client *c)
{
    c->is_paused = true;
}

bool client_resume(struct client *c)
{
    bool rested = c->rests;
    c->is_paused = false;
    if (rested)
        wake(c);
    return rested;
}

size_t client_close(struct client *c, bool keep_queue)
{
    c->state = CLIENT_CLOSING;
    c->reading = c->rests = false;
    frame_queue_clear(&c->held);
    return outbox_close(&c->out, keep_queue);
}
