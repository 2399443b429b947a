/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of the log, and the live events that come while one is read: client.h has the why. */
#include <assert.h>

#include "relay/core/client_parts.h"

/* --- what is held while the log is read ------------------------------------------------------- */

/* Of a lane, or behind events that wait; else it needs no memory for what waits. */
static void take_in(struct client *c, struct event *ev, bool merges)
{
    if (!merges) {
        client_queue_put(c, ev);
        return;
    }
    outbox_supersede(&c->out, ev);
    client_wait_for_commit(c, ev);
}

bool client_drop_unlogged(struct client *c, const struct client_limits *limits,
                          const struct event *ev)
{
    struct outbox_teller teller = client_teller(c, limits);
    if (event_id(ev) || c->state == CLIENT_OPENING)
        return false;
    outbox_drop_newest(&c->out, ev, &teller);
    return true;
}

static void drop_held(struct client *c, const struct client_limits *limits)
{
    while (c->held.ring.count) {
        struct event *ev = frame_queue_take(&c->held);
        if (client_is_wanted(c, ev))
            (void)client_drop_unlogged(c, limits, ev);
        event_unref(ev);
    }
}

bool client_hold(struct client *c, const struct client_limits *limits, struct event *ev)
{
    if (c->hold_overflow)
        return false;
    size_t bytes = event_frame(ev).len;
    struct outbox_limits own = client_own_limits(c, limits);
    if (!c->held.ring.count)
        c->held_bytes = 0;
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

/* Behind a page that is not the last: of what was held, what no log has. */
static void put_held_unlogged(struct client *c, const struct client_limits *limits)
{
    while (c->held.ring.count) {
        struct event *ev = frame_queue_take(&c->held);
        bool due = !event_id(ev) && client_is_wanted(c, ev);
        if (due && client_fits(c, limits, event_frame(ev).len)) {
            take_in(c, ev, c->out.waits || event_lane(ev) != LANE_INSTANT);
        } else if (due) {
            client_commit(c);
            (void)client_drop_unlogged(c, limits, ev);
        }
        event_unref(ev);
    }
    client_expire_pending(c, limits);
    client_commit(c);
}

/* --- reading the log -------------------------------------------------------------------------- */

void client_read_begin(struct client *c)
{
    c->reading = true;
    c->hold_overflow = false;
}

void client_room(const struct client *c, const struct client_limits *limits, uint32_t *events,
                 size_t *bytes)
{
    struct outbox_limits own = client_own_limits(c, limits);
    uint32_t queued = c->out.queue.ring.count;
    *events = queued < own.max_events ? own.max_events - queued : 1;
    *bytes = c->out.bytes < own.max_bytes ? own.max_bytes - c->out.bytes : 1;
}

bool client_has_room(const struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = client_own_limits(c, limits);
    return c->out.queue.ring.count <= own.max_events / 2 && c->out.bytes <= own.max_bytes / 2;
}

double client_fullness(const struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = client_own_limits(c, limits);
    double events = (double)outbox_events(&c->out) / (double)own.max_events;
    double bytes = (double)outbox_bytes(&c->out) / (double)own.max_bytes;
    return events > bytes ? events : bytes;
}

/* It was wanted when it came, but its subscription may have been renewed since. */
static bool is_held_due(struct client *c, const struct event *ev)
{
    return (!event_id(ev) || event_id(ev) > c->cursor) && client_is_wanted(c, ev);
}

static bool held_fits(struct client *c, const struct client_limits *limits)
{
    struct outbox_limits own = client_own_limits(c, limits);
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
    client_expire_pending(c, limits);
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
        if ((event_id(ev) && event_id(ev) <= c->cursor) || !client_is_wanted(c, ev))
            continue;
        take_in(c, ev, merges);
        c->replayed += !outbox_is_own(ev);
    }
    client_expire_pending(c, limits);
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
        client_commit_due(c);
        return true;
    }
    c->state = CLIENT_REPLAY;
    put_held_unlogged(c, limits);
    return false;
}
