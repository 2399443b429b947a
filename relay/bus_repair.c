#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/bus_parts.h"

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

static void repairs_end(struct bus *bus)
{
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
}

static void repair_page(struct repair *repair);

static void on_repair_page(struct replay *replay, enum err e)
{
    struct repair *repair = (struct repair *)replay;
    struct bus *bus = repair->bus;
    if (e) { /* the store went away again; it will be repaired from where this came to */
        repair_end(repair);
        return;
    }
    for (size_t i = 0; i < replay->count; i++) {
        struct replay_item *item = &replay->items[i];
        if (item->event)
            bus_deliver(bus, item->event, UINT64_MAX);
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
    repair_end(repair);
    if (!bus->repairing && bus->store_up)
        repairs_end(bus);
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

void bus_store_up(struct bus *bus, bool broken)
{
    bus->store_up = true;
    bus_spaces_open(bus);
    if (!broken) {
        repairs_end(bus);
        return;
    }
    struct space *space, *tmp;
    bus->repairing++; /* this loop: a page may come at once */
    HASH_ITER (hh, bus->spaces, space, tmp) {
        if (!space->seen || !space->names)
            continue;
        metrics_add(bus->metrics, M_REPAIRS, 1);
        bus->repairing++;
        repair_page(repair_new(bus, space));
    }
    if (--bus->repairing == 0)
        repairs_end(bus);
}

void bus_store_down(struct bus *bus)
{
    bus->store_up = false;
    atomic_store(&bus->up, false);
}
