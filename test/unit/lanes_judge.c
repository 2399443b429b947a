/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lanes_world.h"

typedef unsigned long long ull; /* for %llu */

/* --- what arrives
 * -------------------------------------------------------------------------------*/

static uint64_t *newest_of(struct lanes_world *w, const struct lanes_step *step)
{
    return &w->newest[step->topic - 'A'][step->key - 'x'];
}

static void judge_event(struct lanes_world *w, size_t number)
{
    struct lanes_event *e = &w->events[number];
    if (e->got)
        lanes_violated(w, "twice: event %zu", number);
    if (!e->step.wanted)
        lanes_violated(w, "unwanted: event %zu", number);
    e->got = true;
    if (!e->id)
        return;
    if (e->id < w->event_id)
        lanes_violated(w, "overtaken: event %zu comes after one with a higher id", number);
    w->event_id = e->id;
    if (e->step.lane != LANE_COALESCED)
        return;
    if (e->id < *newest_of(w, &e->step))
        lanes_violated(w, "stale: event %zu comes after a newer value", number);
    *newest_of(w, &e->step) = e->id;
}

/* @data: the numbers of the events in it, each with a semicolon. Of one slot, if there are
 * several. */
static void judge_events(struct lanes_world *w, const struct lanes_block *block)
{
    const struct lanes_event *last = NULL;
    for (const char *at = block->data; *at && !w->result.violation[0];) {
        char *end;
        size_t number = strtoul(at, &end, 10);
        if (end == at || *end != ';' || number >= w->count) {
            lanes_violated(w, "broken: data \"%s\"", block->data);
            return;
        }
        const struct lanes_event *e = &w->events[number];
        if (last && (e->step.lane != LANE_APPENDED || last->step.lane != LANE_APPENDED ||
                     e->step.topic != last->step.topic || e->step.key != last->step.key))
            lanes_violated(w, "joined: event %zu with one of another slot", number);
        judge_event(w, number);
        last = e;
        at = end + 1;
    }
    if (last && last->id && (!block->has_id || block->id != last->id))
        lanes_violated(w, "id: a block whose last event has %llu says %llu", (ull)last->id,
                       (ull)block->id);
}

void lanes_judge_block(struct lanes_world *w, const struct lanes_block *block)
{
    if (block->forgets)
        lanes_violated(w, "forgets: the first block of a connection has no id");
    if (block->has_id) {
        if (block->id <= w->block_id)
            lanes_violated(w, "order: id %llu after %llu", (ull)block->id, (ull)w->block_id);
        w->block_id = w->last_id = block->id;
    }
    if (strcmp(block->type, "wanted") == 0)
        judge_events(w, block);
    else if (strcmp(block->type, "relay.dropped") == 0)
        w->result.told += strtoull(block->data + strcspn(block->data, "0123456789"), NULL, 10);
    else if (strcmp(block->type, "other") == 0)
        lanes_violated(w, "unwanted: an event of another type");
}

/* --- between two steps
 * --------------------------------------------------------------------------*/

static size_t bytes_of(const struct event *ev)
{
    return ev ? event_frame(ev).len : 0;
}

static void judge_sums(struct lanes_world *w, size_t *events)
{
    const struct outbox *out = &w->client.out;
    const struct pending *p = outbox_pending(out);
    size_t queued = 0, pending = 0, waiting = 0;
    for (uint32_t i = 0; i < out->queue.ring.count; i++) {
        const struct event *ev = frame_queue_at(&out->queue, i);
        queued += bytes_of(ev);
        *events += ev && !outbox_is_own(ev) && event_end(ev) == END_NONE;
    }
    for (uint32_t i = 0; i < p->used; i++) {
        pending += bytes_of(p->items[i].event);
        waiting += p->items[i].event != NULL;
        *events += p->items[i].event && event_end(p->items[i].event) == END_NONE;
    }
    if (queued != out->bytes || pending != p->bytes || waiting != p->count ||
        out->waits != (waiting > 0))
        lanes_violated(w,
                       "sums: %zu bytes queued, %zu counted; %zu bytes of %zu pending, %zu of %u",
                       queued, out->bytes, pending, waiting, p->bytes, p->count);
}

/* Of two events: they are the earlier and the later of a slot, of which one should do. */
static bool is_unmerged(const struct event *ev, const struct event *other)
{
    return ev && other && event_lane(ev) == LANE_COALESCED && event_has_slot_of(ev, other);
}

static void judge_merged(struct lanes_world *w)
{
    const struct pending *p = outbox_pending(&w->client.out);
    for (uint32_t i = 0; i < p->used; i++)
        for (uint32_t j = i + 1; j < p->used; j++)
            if (is_unmerged(p->items[i].event, p->items[j].event))
                lanes_violated(w, "merge: two values of one slot are pending");
}

static bool is_queued(const struct lanes_world *w, const struct event *ev)
{
    const struct frame_queue *q = &w->client.out.queue;
    for (uint32_t i = 0; i < q->ring.count; i++)
        if (frame_queue_at(q, i) == ev)
            return true;
    return false;
}

void lanes_judge_page(struct lanes_world *w)
{
    const struct lanes_page *page = &w->page;
    for (size_t i = 0; i < page->count; i++)
        for (size_t j = i + 1; j < page->count; j++) {
            const struct event *ev = w->events[page->events[i]].event;
            const struct event *other = w->events[page->events[j]].event;
            if (!is_unmerged(ev, other) || !is_queued(w, ev))
                continue;
            const struct lanes_event *later = &w->events[page->events[j]];
            if (is_queued(w, other))
                lanes_violated(w, "merge: two values of one slot come from one page");
            if (later->step.wanted && lanes_is_over(w, later))
                lanes_violated(w, "stale: a page brings a value that it has replaced");
        }
}

void lanes_judge_state(struct lanes_world *w)
{
    const struct client *c = &w->client;
    const struct pending *p = outbox_pending(&c->out);
    size_t events = 0;
    judge_sums(w, &events);
    judge_merged(w);
    /* Without those that end a topic, which are never dropped. A page may bring one that is alone
     * too large. */
    if (events > w->schedule->max_events + 1 || c->held.ring.count > w->schedule->max_events)
        lanes_violated(w, "bound: %zu events wait, %u are held", events, c->held.ring.count);
    if (c->state != CLIENT_LIVE || c->out.queue.ring.count)
        return;
    for (uint32_t i = 0; i < p->used; i++)
        if (p->items[i].event && event_lane(p->items[i].event) == LANE_INSTANT)
            lanes_violated(w, "instant: one waits though the socket is free");
}

/* --- at rest
 * ------------------------------------------------------------------------------------*/

/* Whether the client need not have it. An older value needs not where a newer one came, or would
 * have if it were not over; settled: by topic and key. */
static bool is_missing(struct lanes_world *w, const struct lanes_event *e, bool settled[2][2])
{
    bool *slot = &settled[e->step.topic - 'A'][e->step.key - 'x'];
    bool coalesced = e->step.lane == LANE_COALESCED, over = lanes_is_over(w, e);
    if (!e->step.wanted || (e->excused && !e->got))
        return false;
    bool missing = !e->got && !over && !(coalesced && *slot);
    w->result.merged += !e->got && !over && coalesced && *slot;
    *slot |= coalesced;
    return missing;
}

static size_t count_missing(struct lanes_world *w, size_t *first)
{
    bool settled[2][2] = {{false}};
    size_t missing = 0;
    for (size_t i = w->logged; i-- > 0;) {
        if (!is_missing(w, &w->events[w->log[i]], settled))
            continue;
        missing++;
        *first = w->log[i];
        if (w->events[*first].step.ends)
            lanes_violated(w, "lost: event %zu, which ends its topic", *first);
    }
    return missing;
}

/* Those that no log has, and that have to be sent or told on a connection that was not cut. */
static size_t count_ephemeral(const struct lanes_world *w)
{
    size_t missing = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct lanes_event *e = &w->events[i];
        missing +=
            !e->id && e->step.wanted && !e->got && !e->over_us && e->step.lane != LANE_COALESCED;
    }
    return missing;
}

static bool all_plain(const struct lanes_world *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct lanes_step *step = &w->events[i].step;
        if (step->lane == LANE_COALESCED || step->ephemeral || step->ttl || step->act == ACT_LATE)
            return false;
    }
    return true;
}

static void judge_told(struct lanes_world *w, size_t missing)
{
    size_t lacking = 0, told = (size_t)w->result.told, ephemeral = count_ephemeral(w);
    for (size_t i = 0; i < w->count; i++)
        lacking += w->events[i].step.wanted && !w->events[i].got;
    if (told > lacking)
        lanes_violated(w, "dropped: %zu told, %zu missing", told, lacking);
    if (missing > told || (all_plain(w) && missing != told))
        lanes_violated(w, "dropped: %zu missing, %zu told", missing, told);
    /* What is held during a read may be let go with all the rest, as protocol.md 13 says. */
    if (w->result.connections == 1 && !w->schedule->slow_log && missing + ephemeral > told)
        lanes_violated(w, "untold: %zu and %zu without id missing, %zu told", missing, ephemeral,
                       told);
}

/* With what a heartbeat tells it the client would read nothing again; but for what it did not want
 * while the log was read. */
static void judge_position(struct lanes_world *w)
{
    uint64_t latest = w->logged ? w->events[w->log[w->logged - 1]].id : 0;
    if (w->schedule->control != CONTROL_OFF && !w->schedule->slow_log && w->last_id < latest)
        lanes_violated(w, "position: after a heartbeat the client knows %llu, the latest is %llu",
                       (ull)w->last_id, (ull)latest);
}

void lanes_judge_end(struct lanes_world *w)
{
    judge_position(w);
    enum slow_policy policy = w->schedule->policy;
    bool drops = policy == SLOW_DROP_OLDEST || policy == SLOW_DROP_NEWEST;
    size_t first = 0, missing = count_missing(w, &first);
    if (!drops && missing)
        lanes_violated(w, "lost: %zu events, the first is %zu", missing, first);
    if (w->schedule->control == CONTROL_ON)
        judge_told(w, missing);
    else if (w->result.told)
        lanes_violated(w, "dropped: told, though it wants no control events");
}
