/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_live.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/core/connection_topic.h"
#include "relay/core/event_set.h"
#include "relay/kit/log.h"

enum { LATE_MAX = 4096 };

struct bus_live {
    /* for each event */
    struct bus_spaces *spaces;
    struct bus_outbox *outbox;
    struct event *last_event; /* the same one comes again for the workers of another pattern … */
    bool last_wanted;         /* … and is treated alike; */
    uint64_t last_workers;    /* these have it */
    const struct bus_base *base;
    /* now and then */
    struct bus_repairs *repairs;
    struct event_set *late; /* what came after its time, so that the log was asked for it */
    struct log_limit late_limit;
};

static void count_late(struct bus_live *live, struct event *ev)
{
    uint64_t held;
    metrics_add(live->base->metrics, M_DROPPED_INVALID, 1);
    if (!log_limit_pass(&live->late_limit, clock_mono_us(), &held))
        return;
    char *ns = slice_dup(event_ns(ev)), *topic = slice_dup(event_topic(ev));
    log_put(LOG_WARN, "an event came after a later one of its topic", "ns", ns, "topic", topic,
            "id", log_u64(event_id(ev)), "not_logged", log_u64(held), NULL);
    free(ns);
    free(topic);
}

/* The topic is new here, and yet has had an event since. */
static bool lacks_first(struct bus_live *live, struct bus_space *space, struct event *ev,
                        uint64_t *known)
{
    uint64_t prev = event_prev(ev);
    if (prev == EVENT_PREV_UNKNOWN || prev <= bus_space_checked(space) ||
        tails_last(live->base->tails, event_ns(ev), event_topic(ev)))
        return false;
    *known = bus_space_known_up_to(space, event_topic(ev));
    return prev > *known;
}

/* The log is asked for what is missing before a live event; that brings the event, too, in its
 * place. False: nothing is missing that has not been asked for lately, so take it. */
static bool ask_log(struct bus_live *live, struct bus_space *space, struct event *ev,
                    uint64_t known)
{
    if (bus_repairs_read_event(live->repairs, space, ev, known, true))
        return true;
    uint64_t prev = event_prev(ev), checked = bus_space_checked(space);
    if (prev <= checked || !bus_outbox_reaches(live->outbox, prev) ||
        bus_outbox_has_sent_prev(live->outbox, ev))
        return false; /* it was heard, or may have been */
    bus_repairs_postpone(live->repairs, space, known > checked ? known : checked);
    return true;
}

/* It is below others of its topic that were sent: only the log says whether it is one of them. */
static void ask_log_late(struct bus_live *live, struct bus_space *space, struct event *ev)
{
    count_late(live, ev);
    if (event_set_has(live->late, ev))
        return;
    event_set_add(live->late, ev, bus_outbox_era(live->outbox));
    bus_space_open(live->spaces, space);
    uint64_t before = event_id(ev) - 1;
    if (!bus_repairs_read_event(live->repairs, space, ev, before, false) &&
        bus_outbox_reaches(live->outbox, before))
        bus_repairs_postpone(live->repairs, space, before);
}

/* If others are missing before it, or it comes after its time, the log is asked. */
static bool is_next(struct bus_live *live, struct bus_space *space, struct event *ev)
{
    struct tails *tails = live->base->tails;
    uint64_t known;
    if (bus_outbox_has_sent(live->outbox, ev)) /* a repair was faster */
        return false;
    if (lacks_first(live, space, ev, &known) && ask_log(live, space, ev, known))
        return false;
    switch (tails_add(tails, ev)) {
    case TAIL_NEXT:
        return true;
    case TAIL_KNOWN: /* a page or a repair was faster */
        return false;
    case TAIL_OLD: /* or it was sent, so long ago that nobody knows */
        if (bus_outbox_reaches(live->outbox, event_id(ev) - 1))
            ask_log_late(live, space, ev);
        return false;
    case TAIL_HOLE:
        known = tails_last(tails, event_ns(ev), event_topic(ev));
        if (ask_log(live, space, ev, known))
            return false;
        tails_drop(tails, event_ns(ev), event_topic(ev));
        return tails_add(tails, ev) == TAIL_NEXT;
    case TAIL_LATE:
        ask_log_late(live, space, ev);
        return false;
    }
    return false;
}

/* What a namespace's repair is to bring, the live path leaves out: its repair failed, and is tried
 * again. */
static bool is_wanted(struct bus_live *live, struct bus_space *space, struct event *ev)
{
    if (!space || !event_id(ev))
        return true;
    return !bus_space_is_unrepaired(space) && is_next(live, space, ev);
}

uint64_t bus_live_owner(const struct bus_live *live, struct slice topic)
{
    struct connection_id id;
    if (connection_topic_parse(topic, &id) || id.tag != live->base->tag ||
        id.worker >= bus_outbox_workers(live->outbox))
        return 0;
    return UINT64_C(1) << id.worker;
}

/* Those who have not had it yet. */
static uint64_t workers_left(struct bus_live *live, const struct event *ev, uint64_t workers)
{
    if (connection_topic_is(event_topic(ev)))
        workers |= bus_live_owner(live, event_topic(ev));
    workers &= ~live->last_workers;
    live->last_workers |= workers;
    return workers;
}

void bus_live_deliver(struct bus_live *live, struct event *ev, uint64_t workers)
{
    struct bus_space *space = bus_spaces_find(live->spaces, event_ns(ev));
    if (ev != live->last_event) {
        live->last_wanted = is_wanted(live, space, ev);
        live->last_workers = 0;
        event_unref(live->last_event);
        live->last_event = event_ref(ev);
        if (live->last_wanted)
            bus_outbox_count_received(live->outbox, ev);
    }
    if (!live->last_wanted)
        return;
    if (space)
        bus_space_see(live->spaces, space, ev);
    bus_outbox_send(live->outbox, ev, workers_left(live, ev, workers));
}

struct bus_live *bus_live_new(const struct bus_base *base, struct bus_outbox *outbox,
                              struct bus_spaces *spaces, struct bus_repairs *repairs)
{
    struct bus_live *live = mem_zero(1, sizeof(*live));
    live->base = base;
    live->outbox = outbox;
    live->spaces = spaces;
    live->repairs = repairs;
    live->late = event_set_new(LATE_MAX, true);
    return live;
}

void bus_live_free(struct bus_live *live)
{
    if (!live)
        return;
    event_unref(live->last_event);
    event_set_free(live->late);
    free(live);
}
