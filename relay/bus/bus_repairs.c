/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_repairs.h"

#include <assert.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/replay.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"

/* Redis's pub/sub promises nothing, and a client's ids may only go up: what the live path lost must
 * be read from the log and sent before anything that came after it, or it can never be given to
 * streams that are past it. So while a repair is under way the store reads no live events, and a
 * repair never reads beyond what the live path has brought: else it would overtake other topics.
 * What still comes late is told as a gap to those who cannot take it. A repair that fails, or that
 * is refused because there are too many, leaves its namespace unrepaired: its live events are left
 * out, and it is read in whole a little later. docs/architecture.md, "What the live path lost". */

static const double AGAIN_S = 1.0;
enum {
    PAGE_EVENTS = 512,
    PAGE_BYTES = 1 << 20,
    TOPIC_REPAIRS_PER_S = 50, /* forged messages could ask for any number */
};

struct repair {
    struct replay replay; /* first */
    struct bus_repairs *all;
    struct bus_space *space;
    struct strings names; /* copies: a name may go while this is under way */
    struct event *held;   /* what showed that something is missing */
    bool whole;           /* all of the namespace's names */
    uint64_t cursor;      /* read up to here … */
    uint64_t known;       /* … but nothing was missed below */
    uint64_t upto; /* and not further; 0: all. What other topics' live events may still be below
                      must not be overtaken */
    struct replay_survey survey; /* from page to page */
    uint64_t confirms; /* up to here the index has nothing else that was missed; 0: nobody looked */
    TAILQ_ENTRY(repair) link; /* in all->waiting, while workers are behind */
};

TAILQ_HEAD(repair_list, repair);

struct bus_repairs {
    const struct bus_base *base;
    struct bus_outbox *outbox;
    struct bus_spaces *spaces;
    void (*over)(void *arg);
    void *arg;
    unsigned under_way;
    struct repair_list waiting; /* for workers that are behind */
    uint64_t second;            /* which `left` is for */
    unsigned left;
    struct log_limit hole_limit;
    ev_timer again;
};

/* --- what a repair has read ------------------------------------------------------------------- */

static void deliver_gap(struct repair *repair, const struct replay_item *item)
{
    struct tails *tails = repair->all->base->tails;
    const char *ns = bus_space_ns(repair->space);
    bool one = !repair->whole && repair->names.count == 1 &&
               !name_is_pattern(slice_of(repair->names.items[0]));
    char *only = one ? repair->names.items[0] : NULL;
    struct note_gap gap = {.topic = item->topic ? item->topic : only,
                           .from = item->from,
                           .to = item->id,
                           .moves = item->moves,
                           .reason = item->reason};
    if (gap.topic) /* its chain goes on behind the gap */
        tails_drop(tails, slice_of(ns), slice_of(gap.topic));
    else
        tails_drop_all(tails, slice_of(ns));
    bus_outbox_post_gap(repair->all->outbox, ns, &gap);
}

/* It was published before others that clients have had already: streams that are past it cannot be
 * given it any more, and are told. */
static void deliver_late(struct repair *repair, struct event *ev)
{
    struct bus_outbox *outbox = repair->all->outbox;
    char *topic = slice_dup(event_topic(ev));
    char *twin = tails_twin(repair->all->base->tails, ev);
    struct note_gap gap = {.topic = topic,
                           .from = event_id(ev) - 1,
                           .to = event_id(ev),
                           .late = ev,
                           .era = bus_outbox_era(outbox),
                           .is_new = !bus_outbox_had_read(outbox, ev),
                           .unless = twin,
                           .reason = GAP_OVERFLOW};
    bus_outbox_post_gap(outbox, bus_space_ns(repair->space), &gap);
    free(topic);
    free(twin);
}

static void deliver_event(struct repair *repair, struct event *ev)
{
    struct bus_outbox *outbox = repair->all->outbox;
    struct tails *tails = repair->all->base->tails;
    uint64_t id = event_id(ev);
    if (bus_outbox_has_sent(outbox, ev))
        return;
    /* Not of the id that was delivered last: that is the same event on another topic. */
    bool past = id < bus_space_seen(repair->space);
    /* So long ago that nobody knows whether it was sent: the topic's chain may. */
    bool forgotten = !bus_outbox_reaches(outbox, id);
    bool chained = tails_last(tails, event_ns(ev), event_topic(ev)) > 0;
    switch (tails_add(tails, ev)) {
    case TAIL_KNOWN:
    case TAIL_OLD:
        if (forgotten)
            return;
        break;
    case TAIL_LATE:
        tails_insert(tails, ev);
        break;
    case TAIL_HOLE: /* the gap before it has been told */
        tails_drop(tails, event_ns(ev), event_topic(ev));
        (void)tails_add(tails, ev);
        break;
    case TAIL_NEXT:
        break;
    }
    if (past && (chained || !forgotten))
        deliver_late(repair, ev);
    bus_outbox_count_received(outbox, ev);
    bus_space_see(repair->all->spaces, repair->space, ev);
    bus_outbox_send(outbox, ev, UINT64_MAX);
}

/* --- the course of a repair ------------------------------------------------------------------- */

static void again_soon(struct bus_repairs *repairs)
{
    timer_once(repairs->base->loop, &repairs->again, AGAIN_S);
}

/* What failed does not hold up the others: its live events are left out, and it is tried again. */
static void repairs_end(struct bus_repairs *repairs)
{
    const struct store *store = &repairs->base->store;
    struct bus_space *space;
    bool again = false;
    for (space = bus_spaces_first(repairs->spaces); space; space = bus_space_next(space))
        again |= bus_space_is_unrepaired(space);
    if (again)
        again_soon(repairs);
    repairs->over(repairs->arg);
    store->ops->resume(store->impl);
}

static void end_if_over(struct bus_repairs *repairs)
{
    if (!repairs->under_way && bus_spaces_are_up(repairs->spaces))
        repairs_end(repairs);
}

static void repair_end(struct repair *repair)
{
    struct bus_repairs *repairs = repair->all;
    replay_reset(&repair->replay);
    replay_survey_reset(&repair->survey);
    strings_reset(&repair->names);
    event_unref(repair->held);
    bus_space_release(repairs->spaces, repair->space);
    free(repair);
    repairs->under_way--;
    end_if_over(repairs);
}

/* The store went away, or refused: the whole namespace is repaired later, from where this came to.
 */
static void repair_fail(struct repair *repair)
{
    bus_space_postpone(repair->space, repair->cursor);
    repair_end(repair);
}

static void repair_succeed(struct repair *repair)
{
    if (repair->held)
        deliver_event(repair, repair->held);
    bus_space_confirm(repair->space, repair->confirms);
    if (repair->whole)
        bus_space_repaired(repair->space, repair->cursor);
    repair_end(repair);
}

static void on_repair_page(struct replay *replay, enum err e)
{
    struct repair *repair = (struct repair *)replay;
    struct bus_repairs *repairs = repair->all;
    if (e) {
        repair_fail(repair);
        return;
    }
    for (size_t i = 0; i < replay->count; i++) {
        struct replay_item *item = &replay->items[i];
        if (item->event)
            deliver_event(repair, item->event);
        else
            deliver_gap(repair, item);
    }
    repair->cursor = replay->end;
    if (repair->whole)
        bus_space_raise_seen(repair->space, replay->end);
    bool final = replay->final;
    replay_reset(replay);
    if (final) {
        repair_succeed(repair);
        return;
    }
    TAILQ_INSERT_TAIL(&repairs->waiting, repair, link);
    bus_repairs_go_on(repairs);
}

static void repair_page(struct repair *repair)
{
    repair->replay = (struct replay){.store = &repair->all->base->store,
                                     .ns = bus_space_ns(repair->space),
                                     .names = &repair->names,
                                     .kind = CURSOR_ID,
                                     .cursor = repair->cursor,
                                     .known = repair->known,
                                     .max_events = PAGE_EVENTS,
                                     .max_bytes = PAGE_BYTES,
                                     .budget = UINT64_MAX,
                                     .repair = true,
                                     .moved_only = repair->whole,
                                     .upto = repair->upto,
                                     .survey = repair->upto ? NULL : &repair->survey,
                                     .done = on_repair_page,
                                     .arg = repair};
    replay_start(&repair->replay);
}

void bus_repairs_go_on(struct bus_repairs *repairs)
{
    struct repair *repair;
    while ((repair = TAILQ_FIRST(&repairs->waiting)) && !bus_outbox_is_paused(repairs->outbox)) {
        if (bus_outbox_is_behind(repairs->outbox))
            return;
        TAILQ_REMOVE(&repairs->waiting, repair, link);
        repair_page(repair);
    }
}

static struct repair *repair_new(struct bus_repairs *repairs, struct bus_space *space)
{
    struct repair *repair = mem_zero(1, sizeof(*repair));
    repair->all = repairs;
    repair->space = space;
    bus_space_use(space);
    repairs->under_way++;
    metrics_add(repairs->base->metrics, M_REPAIRS, 1);
    return repair;
}

/* --- whole namespaces, after a broken connection ------------------------------------------------
 */

static struct repair *repair_whole(struct bus_repairs *repairs, struct bus_space *space)
{
    struct repair *repair = repair_new(repairs, space);
    bool moved;
    bus_names_copy(bus_space_names(space), &repair->names);
    repair->whole = true;
    repair->known = bus_space_repair_from(space, &moved);
    /* At least the last event again: the connection may have broken between two of its topics. */
    uint64_t overlap = moved ? BUS_FAILOVER_OVERLAP_US : 1;
    repair->cursor = repair->known > overlap ? repair->known - overlap : 0;
    return repair;
}

void bus_repairs_start(struct bus_repairs *repairs)
{
    struct bus_space *space, *next;
    if (repairs->under_way)
        return;
    repairs->under_way++; /* this loop: a page may come at once */
    for (space = bus_spaces_first(repairs->spaces); space; space = next) {
        next = bus_space_next(space);
        if (bus_space_is_unrepaired(space))
            repair_page(repair_whole(repairs, space));
    }
    repairs->under_way--;
    end_if_over(repairs);
}

void bus_repairs_settle(struct bus_repairs *repairs)
{
    end_if_over(repairs);
}

/* What could not be repaired the last time. */
static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus_repairs *repairs = w->data;
    const struct store *store = &repairs->base->store;
    if (!bus_spaces_are_up(repairs->spaces) || repairs->under_way)
        return;
    store->ops->hold(store->impl);
    bus_repairs_start(repairs);
}

void bus_repairs_give_up(struct bus_repairs *repairs)
{
    struct repair *repair;
    while ((repair = TAILQ_FIRST(&repairs->waiting))) {
        TAILQ_REMOVE(&repairs->waiting, repair, link);
        repair_fail(repair);
    }
}

bool bus_repairs_are_under_way(const struct bus_repairs *repairs)
{
    return repairs->under_way > 0;
}

/* --- single names ------------------------------------------------------------------------------
 */

static bool may_repair(struct bus_repairs *repairs)
{
    uint64_t second = clock_mono_us() / 1000000;
    if (repairs->second != second) {
        repairs->second = second;
        repairs->left = TOPIC_REPAIRS_PER_S;
    }
    if (!repairs->left)
        return false;
    repairs->left--;
    return true;
}

static bool read_names(struct bus_repairs *repairs, struct bus_space *space,
                       const struct strings *names, uint64_t cursor, const struct repair *like)
{
    const struct bus_base *base = repairs->base;
    if (!bus_spaces_are_up(repairs->spaces) || bus_space_is_unrepaired(space)) {
        bus_space_postpone(space, cursor);
        return true;
    }
    if (!may_repair(repairs))
        return false;
    uint64_t skipped;
    if (log_limit_pass(&repairs->hole_limit, clock_mono_us(), &skipped))
        log_put(LOG_WARN, "an event did not come by the live path, reading the log", "ns",
                bus_space_ns(space), "topic", names->items[0], "after", log_u64(cursor),
                "not_logged", log_u64(skipped), NULL);
    struct repair *repair = repair_new(repairs, space);
    for (size_t i = 0; i < names->count; i++)
        strings_add(&repair->names, slice_of(names->items[i]));
    repair->cursor = repair->known = cursor;
    repair->upto = like->upto;
    repair->confirms = like->confirms;
    repair->held = like->held ? event_ref(like->held) : NULL;
    metrics_add(base->metrics, M_HOLES, names->count);
    base->store.ops->hold(base->store.impl);
    repair_page(repair);
    return true;
}

bool bus_repairs_read_names(struct bus_repairs *repairs, struct bus_space *space,
                            const struct strings *names, uint64_t cursor, uint64_t upto)
{
    struct repair like = {.upto = upto};
    return read_names(repairs, space, names, cursor, &like);
}

bool bus_repairs_read_missing(struct bus_repairs *repairs, struct bus_space *space,
                              const struct strings *names, uint64_t cursor, uint64_t position)
{
    struct repair like = {.upto = position, .confirms = position};
    return read_names(repairs, space, names, cursor, &like);
}

bool bus_repairs_read_event(struct bus_repairs *repairs, struct bus_space *space, struct event *ev,
                            uint64_t cursor, bool held)
{
    char *topic = slice_dup(event_topic(ev));
    struct strings names = {&topic, 1};
    struct repair like = {.upto = event_id(ev), .held = held ? ev : NULL};
    bool started = read_names(repairs, space, &names, cursor, &like);
    free(topic);
    return started;
}

void bus_repairs_postpone(struct bus_repairs *repairs, struct bus_space *space, uint64_t cursor)
{
    metrics_add(repairs->base->metrics, M_HOLES, 1);
    bus_space_postpone(space, cursor);
    if (!repairs->under_way && !ev_is_active(&repairs->again))
        again_soon(repairs);
}

/* --- all of them ------------------------------------------------------------------------------ */

struct bus_repairs *bus_repairs_new(const struct bus_base *base, struct bus_outbox *outbox,
                                    struct bus_spaces *spaces, void (*over)(void *arg), void *arg)
{
    struct bus_repairs *repairs = mem_zero(1, sizeof(*repairs));
    repairs->base = base;
    repairs->outbox = outbox;
    repairs->spaces = spaces;
    repairs->over = over;
    repairs->arg = arg;
    TAILQ_INIT(&repairs->waiting);
    ev_init(&repairs->again, on_again);
    repairs->again.data = repairs;
    return repairs;
}

void bus_repairs_free(struct bus_repairs *repairs)
{
    if (!repairs)
        return;
    assert(!repairs->under_way);
    ev_timer_stop(repairs->base->loop, &repairs->again);
    free(repairs);
}
