#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/bus_parts.h"

static const double AGAIN_S = 1.0;
enum { PAGE_EVENTS = 512, PAGE_BYTES = 1 << 20 };

/* Reads for all of a namespace's watchers what a broken connection missed. */
struct repair {
    struct replay replay; /* first */
    struct bus *bus;
    struct space *space;
    struct strings names; /* copies: a name may go while this is under way */
};

static void post_gap(struct bus *bus, const char *ns, const struct replay_item *item)
{
    for (unsigned w = 0; w < bus->worker_count; w++) {
        struct note_gap *gap = mem_zero(1, sizeof(*gap));
        gap->note.kind = NOTE_GAP;
        gap->ns = mem_dup(ns, strlen(ns));
        gap->topic = item->topic ? mem_dup(item->topic, strlen(item->topic)) : NULL;
        gap->from = item->from;
        gap->to = item->id;
        gap->moves = item->moves;
        gap->reason = item->reason;
        bus_post(bus, w, &gap->note);
    }
}

/* What failed does not hold up the others: its live events are left out, and it is tried again. */
static void repairs_end(struct bus *bus)
{
    struct space *space, *tmp;
    bool again = false;
    HASH_ITER (hh, bus->spaces, space, tmp)
        again |= space->unrepaired;
    if (again) {
        ev_timer_stop(bus->loop, &bus->repair_again);
        ev_timer_set(&bus->repair_again, AGAIN_S, 0.);
        ev_timer_start(bus->loop, &bus->repair_again);
    }
    atomic_store(&bus->up, true);
    bus->store.ops->resume(bus->store.impl);
    bus->recheck = true;
}

static void repair_end(struct repair *repair)
{
    struct bus *bus = repair->bus;
    replay_reset(&repair->replay);
    for (size_t i = 0; i < repair->names.count; i++)
        free(repair->names.items[i]);
    free(repair->names.items);
    repair->space->jobs--;
    bus_space_release(bus, repair->space);
    free(repair);
    bus->repairing--;
    if (!bus->repairing && bus->store_up)
        repairs_end(bus);
}

static void repair_page(struct repair *repair);

static void on_repair_page(struct replay *replay, enum err e)
{
    struct repair *repair = (struct repair *)replay;
    struct bus *bus = repair->bus;
    if (e) { /* it will be repaired from where this came to */
        repair_end(repair);
        return;
    }
    for (size_t i = 0; i < replay->count; i++) {
        struct replay_item *item = &replay->items[i];
        if (item->event)
            bus_deliver_repaired(bus, repair->space, item->event, UINT64_MAX);
        else
            post_gap(bus, repair->space->ns, item);
    }
    repair->space->seen = replay->end;
    bool final = replay->final;
    replay_reset(replay);
    if (!final) {
        repair_page(repair);
        return;
    }
    repair->space->unrepaired = false;
    repair_end(repair);
}

static void repair_page(struct repair *repair)
{
    repair->replay = (struct replay){.store = &repair->bus->store,
                                     .ns = repair->space->ns,
                                     .names = &repair->names,
                                     .kind = CURSOR_ID,
                                     .cursor = repair->space->seen,
                                     .max_events = PAGE_EVENTS,
                                     .max_bytes = PAGE_BYTES,
                                     .budget = UINT64_MAX,
                                     .repair = true,
                                     .done = on_repair_page,
                                     .arg = repair};
    replay_start(&repair->replay);
}

static struct repair *repair_new(struct bus *bus, struct space *space)
{
    struct repair *repair = mem_zero(1, sizeof(*repair));
    repair->bus = bus;
    repair->space = space;
    repair->names.items = mem_zero(space->names ? space->names : 1, sizeof(char *));
    struct name *name, *tmp;
    HASH_ITER (hh, bus->names, name, tmp)
        if (name->space == space)
            repair->names.items[repair->names.count++] =
                mem_dup(name->store.name, strlen(name->store.name));
    space->jobs++;
    return repair;
}

static void repairs_start(struct bus *bus)
{
    struct space *space, *tmp;
    if (bus->repairing)
        return;
    bus->repairing++; /* this loop: a page may come at once */
    HASH_ITER (hh, bus->spaces, space, tmp) {
        if (!space->unrepaired)
            continue;
        metrics_add(bus->metrics, M_REPAIRS, 1);
        bus->repairing++;
        repair_page(repair_new(bus, space));
    }
    if (--bus->repairing == 0 && bus->store_up)
        repairs_end(bus);
}

void bus_store_up(struct bus *bus, bool broken)
{
    bus->store_up = true;
    bus_spaces_open(bus);
    if (!broken) {
        if (!bus->repairing)
            repairs_end(bus);
        return;
    }
    struct space *space, *tmp;
    HASH_ITER (hh, bus->spaces, space, tmp)
        space->unrepaired |= space->seen && space->names;
    repairs_start(bus);
}

void bus_repair_again(struct bus *bus)
{
    if (!bus->store_up || bus->repairing)
        return;
    bus->store.ops->hold(bus->store.impl);
    repairs_start(bus);
}

void bus_store_down(struct bus *bus)
{
    bus->store_up = false;
    atomic_store(&bus->up, false);
}
