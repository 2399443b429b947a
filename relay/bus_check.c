#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/bus_parts.h"

/* Finds what the chain of `prev` cannot show: a topic's last events, lost on the live path, with
 * nothing after them. Every now and then the index is asked what has moved since the last time.
 * What has moved but has not been heard may be on its way: so a mark is sent after it by the live
 * path, and what has not come when that has is read from the log. */

enum { NAMES_MAX = 256 }; /* up to here the index is asked for the names, above for all topics */

struct check {
    struct store_look look;
    struct bus *bus;
    struct space *space;
    struct strings names; /* copies */
    uint64_t mark;        /* 0: the index has not answered yet */
    LIST_ENTRY(check) link;
};

static void check_end(struct check *check)
{
    struct bus *bus = check->bus;
    struct space *space = check->space;
    LIST_REMOVE(check, link);
    store_look_reset(&check->look);
    strings_reset(&check->names);
    free(check);
    space->checking = false;
    space->jobs--;
    bus_space_release(bus, space);
}

static bool is_missing(const struct check *check, const struct store_topic *topic)
{
    const struct space *space = check->space;
    uint64_t last = tails_last(check->bus->tails, slice_of(space->ns), slice_of(topic->name));
    return topic->last > check->look.cursor && topic->last > last &&
           topic->last > bus_known_up_to(space, slice_of(topic->name));
}

/* All that was published before the look has come, or never will. */
static void confirm(struct check *check)
{
    struct bus *bus = check->bus;
    struct space *space = check->space;
    struct store_look *look = &check->look;
    struct strings missing = {mem_alloc((look->count + 1) * sizeof(char *)), 0};
    uint64_t cursor = UINT64_MAX;
    for (size_t i = 0; i < look->count; i++) {
        struct store_topic *topic = &look->topics[i];
        if (!is_missing(check, topic))
            continue;
        uint64_t last = tails_last(bus->tails, slice_of(space->ns), slice_of(topic->name));
        missing.items[missing.count++] = topic->name;
        last = last ? last : look->cursor;
        cursor = last < cursor ? last : cursor;
    }
    if (missing.count)
        (void)bus_repair_missing(bus, space, &missing, cursor, look->position);
    else if (space->checked < look->position)
        space->checked = look->position;
    free(missing.items);
    check_end(check);
}

void bus_store_passed(struct bus *bus, uint64_t mark)
{
    struct check *check, *next;
    for (check = LIST_FIRST(&bus->checks); check; check = next) {
        next = LIST_NEXT(check, link);
        if (check->mark && check->mark <= mark)
            confirm(check);
    }
}

static void on_checked(struct store_look *look, enum err e)
{
    struct check *check = look->arg;
    struct space *space = check->space;
    bool missing = false;
    for (size_t i = 0; i < look->count && !e; i++)
        missing |= is_missing(check, &look->topics[i]);
    if (e || !missing) {
        if (!e && look->position > space->checked)
            space->checked = look->position;
        check_end(check);
        return;
    }
    check->mark = check->bus->store.ops->mark(check->bus->store.impl);
    if (!check->mark)
        check_end(check);
}

static void check_start(struct bus *bus, struct space *space)
{
    struct check *check = mem_zero(1, sizeof(*check));
    bool patterns = false;
    const struct name *name;
    check->bus = bus;
    check->space = space;
    LIST_FOREACH (name, &space->watched, link) {
        strings_add(&check->names, slice_of(name->store.name));
        patterns |= name_is_pattern(slice_of(name->store.name));
    }
    check->look = (struct store_look){.ns = space->ns,
                                      .names = &check->names,
                                      .cursor = space->checked,
                                      .moved_only = patterns || space->names > NAMES_MAX,
                                      .done = on_checked,
                                      .arg = check};
    LIST_INSERT_HEAD(&bus->checks, check, link);
    space->checking = true;
    space->jobs++;
    bus->store.ops->look(bus->store.impl, &check->look);
}

void bus_check_all(struct bus *bus)
{
    struct space *space, *tmp;
    if (!bus->store_up || bus->repairing)
        return;
    HASH_ITER (hh, bus->spaces, space, tmp)
        if (space->checked && space->names && !space->unrepaired && !space->checking)
            check_start(bus, space);
}

/* The connection that the marks went by is gone, or everything ends. */
void bus_checks_drop(struct bus *bus)
{
    struct check *check, *next;
    for (check = LIST_FIRST(&bus->checks); check; check = next) {
        next = LIST_NEXT(check, link);
        if (check->mark)
            check_end(check);
    }
}
