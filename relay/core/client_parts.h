/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of client share, for them only: client.c (the way of each event), which uses
 * client_hold.c (pages of the log, and what comes meanwhile); client_relief.c (what is let go as
 * the node has too much). */
#pragma once
#include "relay/core/client.h"

static inline struct outbox_teller client_teller(const struct client *c,
                                                 const struct client_limits *limits)
{
    const struct outbox_teller *teller = &limits->teller;
    return (struct outbox_teller){teller->config, subscription_control(c->sub, teller->control)};
}

static inline enum slow_policy client_policy(const struct client *c,
                                             const struct client_limits *limits)
{
    const struct flow_request *asked = &subscription_request(c->sub)->flow;
    return asked->has_slow ? asked->slow : limits->slow;
}

/* --- what it may hold ------------------------------------------------------------------------- */

static inline struct outbox_limits client_own_limits(const struct client *c,
                                                     const struct client_limits *limits)
{
    uint32_t events = c->buffer < limits->max_events ? c->buffer : limits->max_events;
    return (struct outbox_limits){events, limits->max_bytes};
}

static inline bool client_fits(const struct client *c, const struct client_limits *limits,
                               size_t bytes)
{
    struct outbox_limits own = client_own_limits(c, limits);
    return outbox_fits(&c->out, &own, bytes);
}

/* --- what is queued, or waits ------------------------------------------------------------------
 */

static inline void client_queue_put(struct client *c, struct event *ev)
{
    uint64_t id = event_id(ev);
    if (id)
        c->cursor = id;
    outbox_put(&c->out, ev);
}

static inline void client_wait_for_commit(struct client *c, struct event *ev)
{
    outbox_wait(&c->out, ev, c->cursor);
    if (event_id(ev))
        c->cursor = event_id(ev);
}

static inline bool client_expire_pending(struct client *c, const struct client_limits *limits)
{
    if (!outbox_pending(&c->out)->has_ttl || !limits->now)
        return false;
    struct event_clock now = limits->now(limits->arg);
    return outbox_expire_pending(&c->out, &now) > 0;
}

/* What is over may have been all that an instant waited for: no write drains that. */
static inline void client_commit_due(struct client *c)
{
    if (c->out.is_due && !c->out.queue.ring.count)
        client_commit(c);
}

/* --- whether it is wanted --------------------------------------------------------------------- */

/* What is wanted is about to be queued. Here, and not there, a ttl costs nothing to events that
 * have none. */
static inline bool client_is_wanted_special(struct client *c, const struct event *ev)
{
    c->out.has_ttl |= event_has_ttl(ev);
    return subscription_wants_event(c->sub, ev);
}

static inline bool client_is_wanted(struct client *c, const struct event *ev)
{
    if (outbox_is_own(ev))
        return true;
    if (c->any_type && event_is_plain(ev))
        return true;
    return client_is_wanted_special(c, ev);
}

/* --- client_hold.c ---------------------------------------------------------------------------- */

/* False: there is no room for it, and the log is to be read once more. */
bool client_hold(struct client *c, const struct client_limits *limits, struct event *ev);
/* Of what is held, or comes while a page is read, what has an id comes from the log again (false);
 * else it is told as dropped. Before the first page nothing is owed that no log has. */
bool client_drop_unlogged(struct client *c, const struct client_limits *limits,
                          const struct event *ev);
