#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/bus_parts.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"

/* Reads for all watchers what the live path did not bring: of a whole namespace after a broken
 * connection, of single topics where the chain of `prev`, or the index, shows a hole. Meanwhile the
 * store does not read on, so that live events come after what was before them. */

static const double AGAIN_S = 1.0;
/* After a failover the new primary may have given ids that are below the last ones of the old one,
 * which took events until somebody told it: so the log is read again from a while before that. */
#define FAILOVER_OVERLAP_US UINT64_C(60000000)
enum {
    PAGE_EVENTS = 512,
    PAGE_BYTES = 1 << 20,
    TOPIC_REPAIRS_PER_S = 50, /* forged messages could ask for any number */
};

struct repair {
    struct replay replay; /* first */
    struct bus *bus;
    struct space *space;
    struct strings names; /* copies: a name may go while this is under way */
    struct event *held;   /* what showed that something is missing */
    bool whole;           /* all of the namespace's names */
    uint64_t cursor;      /* read up to here … */
    uint64_t known;       /* … but nothing was missed below */
    uint64_t upto; /* and not further; 0: all. What other topics' live events may still be below
                      must not be overtaken */
    struct replay_survey survey; /* from page to page */
    uint64_t confirms; /* up to here the index has nothing else that was missed; 0: nobody looked */
    TAILQ_ENTRY(repair) link; /* in bus->repairs_waiting, while workers are behind */
};

/* --- gaps ------------------------------------------------------------------------------------- */

static void deliver_gap(struct repair *repair, const struct replay_item *item)
{
    bool one = !repair->whole && repair->names.count == 1 &&
               !name_is_pattern(slice_of(repair->names.items[0]));
    char *only = one ? repair->names.items[0] : NULL;
    struct note_gap gap = {.topic = item->topic ? item->topic : only,
                           .from = item->from,
                           .to = item->id,
                           .moves = item->moves,
                           .reason = item->reason};
    if (gap.topic) /* its chain goes on behind the gap */
        tails_drop(repair->bus->base.tails, slice_of(repair->space->ns), slice_of(gap.topic));
    else
        tails_drop_all(repair->bus->base.tails, slice_of(repair->space->ns));
    bus_outbox_post_gap(repair->bus->outbox, repair->space->ns, &gap);
}

/* It was published before others that clients have had already: streams that are past it cannot be
 * given it any more, and are told. */
static void deliver_late(struct repair *repair, struct event *ev)
{
    char *topic = slice_dup(event_topic(ev));
    char *twin = tails_twin(repair->bus->base.tails, ev);
    struct note_gap gap = {.topic = topic,
                           .from = event_id(ev) - 1,
                           .to = event_id(ev),
                           .late = ev,
                           .era = bus_outbox_era(repair->bus->outbox),
                           .is_new = !bus_outbox_had_read(repair->bus->outbox, ev),
                           .unless = twin,
                           .reason = GAP_OVERFLOW};
    bus_outbox_post_gap(repair->bus->outbox, repair->space->ns, &gap);
    free(topic);
    free(twin);
}

static void deliver_event(struct repair *repair, struct event *ev)
{
    struct bus *bus = repair->bus;
    uint64_t id = event_id(ev);
    if (bus_outbox_has_sent(bus->outbox, ev))
        return;
    /* Not of the id that was delivered last: that is the same event on another topic. */
    bool past = id < repair->space->seen;
    /* So long ago that nobody knows whether it was sent: the topic's chain may. */
    bool forgotten = !bus_outbox_reaches(bus->outbox, id);
    bool chained = tails_last(bus->base.tails, event_ns(ev), event_topic(ev)) > 0;
    switch (tails_add(bus->base.tails, ev)) {
    case TAIL_KNOWN:
        if (forgotten)
            return;
        break;
    case TAIL_LATE:
        tails_insert(bus->base.tails, ev);
        break;
    case TAIL_HOLE: /* the gap before it has been told */
        tails_drop(bus->base.tails, event_ns(ev), event_topic(ev));
        (void)tails_add(bus->base.tails, ev);
        break;
    case TAIL_NEXT:
        break;
    }
    if (past && (chained || !forgotten))
        deliver_late(repair, ev);
    metrics_add(bus->base.metrics, M_EVENTS_RECEIVED, 1);
    bus_send(bus, repair->space, ev, UINT64_MAX);
}

/* --- the course of a repair ------------------------------------------------------------------- */

static void again_soon(struct bus *bus)
{
    timer_once(bus->base.loop, &bus->repair_again, AGAIN_S);
}

/* What failed does not hold up the others: its live events are left out, and it is tried again. */
static void repairs_end(struct bus *bus)
{
    struct space *space, *tmp;
    bool again = false;
    HASH_ITER (hh, bus->spaces, space, tmp)
        again |= space->unrepaired;
    if (again)
        again_soon(bus);
    atomic_store(&bus->up, true);
    bus->base.store.ops->resume(bus->base.store.impl);
    bus->recheck = true;
}

static void repair_end(struct repair *repair)
{
    struct bus *bus = repair->bus;
    replay_reset(&repair->replay);
    replay_survey_reset(&repair->survey);
    strings_reset(&repair->names);
    event_unref(repair->held);
    repair->space->jobs--;
    bus_space_release(bus, repair->space);
    free(repair);
    bus->repairing--;
    if (!bus->repairing && bus->store_up)
        repairs_end(bus);
}

static void postpone(struct space *space, uint64_t cursor)
{
    space->unrepaired = true;
    if (!space->repair_from || cursor < space->repair_from)
        space->repair_from = cursor;
}

/* The store went away, or refused: the whole namespace is repaired later, from where this came to.
 */
static void repair_fail(struct repair *repair)
{
    postpone(repair->space, repair->cursor);
    repair_end(repair);
}

static void repair_page(struct repair *repair);

static void on_repair_page(struct replay *replay, enum err e)
{
    struct repair *repair = (struct repair *)replay;
    struct bus *bus = repair->bus;
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
    struct space *space = repair->space;
    repair->cursor = replay->end;
    if (repair->whole && replay->end > space->seen)
        space->seen = replay->end;
    bool final = replay->final;
    replay_reset(replay);
    if (!final) {
        TAILQ_INSERT_TAIL(&bus->repairs_waiting, repair, link);
        bus_repairs_go_on(bus);
        return;
    }
    if (repair->held)
        deliver_event(repair, repair->held);
    if (space->checked < repair->confirms)
        space->checked = repair->confirms;
    if (repair->whole) {
        space->unrepaired = false;
        space->repair_from = 0;
        space->moved = false;
        space->checked = repair->cursor;
    }
    repair_end(repair);
}

static void repair_page(struct repair *repair)
{
    repair->replay = (struct replay){.store = &repair->bus->base.store,
                                     .ns = repair->space->ns,
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

void bus_repairs_go_on(struct bus *bus)
{
    struct repair *repair;
    while ((repair = TAILQ_FIRST(&bus->repairs_waiting)) && !bus_outbox_is_paused(bus->outbox)) {
        TAILQ_REMOVE(&bus->repairs_waiting, repair, link);
        if (bus_outbox_is_behind(bus->outbox)) {
            TAILQ_INSERT_HEAD(&bus->repairs_waiting, repair, link);
            return; /* the next turn comes back */
        }
        repair_page(repair);
    }
}

static struct repair *repair_new(struct bus *bus, struct space *space)
{
    struct repair *repair = mem_zero(1, sizeof(*repair));
    repair->bus = bus;
    repair->space = space;
    space->jobs++;
    bus->repairing++;
    metrics_add(bus->base.metrics, M_REPAIRS, 1);
    return repair;
}

/* --- whole namespaces, after a broken connection ------------------------------------------------
 */

static struct repair *repair_whole(struct bus *bus, struct space *space)
{
    struct repair *repair = repair_new(bus, space);
    const struct name *name;
    LIST_FOREACH (name, &space->watched, link)
        strings_add(&repair->names, slice_of(name->store.name));
    repair->whole = true;
    bool earlier = space->repair_from && space->repair_from < space->seen;
    repair->known = earlier ? space->repair_from : space->seen;
    /* At least the last event again: the connection may have broken between two of its topics. */
    uint64_t overlap = space->moved ? FAILOVER_OVERLAP_US : 1;
    repair->cursor = repair->known > overlap ? repair->known - overlap : 0;
    return repair;
}

static void repairs_start(struct bus *bus)
{
    struct space *space, *tmp;
    if (bus->repairing)
        return;
    bus->repairing++; /* this loop: a page may come at once */
    HASH_ITER (hh, bus->spaces, space, tmp)
        if (space->unrepaired)
            repair_page(repair_whole(bus, space));
    if (--bus->repairing == 0 && bus->store_up)
        repairs_end(bus);
}

void bus_store_up(struct bus *bus, enum store_loss loss)
{
    bus->store_up = true;
    if (loss == STORE_WHOLE) {
        if (!bus->repairing)
            repairs_end(bus);
        return;
    }
    struct space *space, *next_space;
    HASH_ITER (hh, bus->spaces, space, next_space) {
        space->unrepaired |= space->seen && space->names;
        space->moved |= loss == STORE_MOVED;
    }
    if (loss == STORE_MOVED)
        bus_outbox_begin_era(bus->outbox);
    struct name *name, *next_name;
    HASH_ITER (hh, bus->names, name, next_name)
        name->lost |= name->was_heard && !name->store.heard; /* refused: on_store_heard() */
    repairs_start(bus);
}

void bus_repair_again(struct bus *bus)
{
    if (!bus->store_up || bus->repairing)
        return;
    bus->base.store.ops->hold(bus->base.store.impl);
    repairs_start(bus);
}

void bus_store_down(struct bus *bus)
{
    bus->store_up = false;
    atomic_store(&bus->up, false);
    bus_reads_ground(bus);
    bus_checks_drop(bus);
    struct repair *repair;
    while ((repair = TAILQ_FIRST(&bus->repairs_waiting))) {
        TAILQ_REMOVE(&bus->repairs_waiting, repair, link);
        repair_fail(repair);
    }
}

/* --- single names ------------------------------------------------------------------------------
 */

static bool may_repair(struct bus *bus)
{
    uint64_t second = clock_mono_us() / 1000000;
    if (bus->repair_second != second) {
        bus->repair_second = second;
        bus->repairs_left = TOPIC_REPAIRS_PER_S;
    }
    if (!bus->repairs_left)
        return false;
    bus->repairs_left--;
    return true;
}

static bool repair_names(struct bus *bus, struct space *space, const struct strings *names,
                         uint64_t cursor, const struct repair *like)
{
    if (!bus->store_up || space->unrepaired) {
        postpone(space, cursor);
        return true;
    }
    if (!may_repair(bus))
        return false;
    uint64_t skipped;
    if (log_limit_pass(&bus->hole_limit, clock_mono_us(), &skipped))
        log_put(LOG_WARN, "an event did not come by the live path, reading the log", "ns",
                space->ns, "topic", names->items[0], "after", log_u64(cursor), "not_logged",
                log_u64(skipped), NULL);
    struct repair *repair = repair_new(bus, space);
    for (size_t i = 0; i < names->count; i++)
        strings_add(&repair->names, slice_of(names->items[i]));
    repair->cursor = repair->known = cursor;
    repair->upto = like->upto;
    repair->confirms = like->confirms;
    repair->held = like->held ? event_ref(like->held) : NULL;
    metrics_add(bus->base.metrics, M_HOLES, names->count);
    bus->base.store.ops->hold(bus->base.store.impl);
    repair_page(repair);
    return true;
}

bool bus_repair_names(struct bus *bus, struct space *space, const struct strings *names,
                      uint64_t cursor, uint64_t upto)
{
    struct repair like = {.upto = upto};
    return repair_names(bus, space, names, cursor, &like);
}

bool bus_repair_missing(struct bus *bus, struct space *space, const struct strings *names,
                        uint64_t cursor, uint64_t position)
{
    struct repair like = {.upto = position, .confirms = position};
    return repair_names(bus, space, names, cursor, &like);
}

void bus_repair_later(struct bus *bus, struct space *space, uint64_t cursor)
{
    metrics_add(bus->base.metrics, M_HOLES, 1);
    postpone(space, cursor);
    if (!bus->repairing && !ev_is_active(&bus->repair_again))
        again_soon(bus);
}

bool bus_repair_event(struct bus *bus, struct space *space, struct event *ev, uint64_t cursor,
                      bool held)
{
    char *topic = slice_dup(event_topic(ev));
    struct strings names = {&topic, 1};
    struct repair like = {.upto = event_id(ev), .held = held ? ev : NULL};
    bool started = repair_names(bus, space, &names, cursor, &like);
    free(topic);
    return started;
}
