#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/bus_parts.h"

/* Finds what the chain of `prev` cannot show: a topic's last events, lost on the live path, with
 * nothing after them. Every now and then the index is asked what has moved since the last time.
 * What has moved but has not been heard may be on its way: so a mark is sent after it by the live
 * path, and what has not come when that has is read from the log. */

enum {
    NAMES_MAX = 256,   /* up to here the index is asked for the names … */
    PAGE_TOPICS = 256, /* … above for all topics, in pages that nobody has to wait for long for */
};

struct check {
    struct store_look look; /* one page */
    struct bus *bus;
    struct space *space;
    struct strings names;      /* copies */
    uint64_t from;             /* what the index has up to here had been heard before */
    uint64_t upto;             /* and it has been asked up to here */
    struct store_look missing; /* what of all pages is missing, perhaps */
    uint64_t mark;             /* 0: the index has not answered all yet */
    LIST_ENTRY(check) link;
};

static void check_end(struct check *check)
{
    struct bus *bus = check->bus;
    struct space *space = check->space;
    LIST_REMOVE(check, link);
    store_look_reset(&check->look);
    strings_reset(&check->names);
    store_look_reset(&check->missing);
    free(check);
    space->checking = false;
    space->jobs--;
    bus_space_release(bus, space);
}

static void check_passed(struct check *check)
{
    if (check->space->checked < check->upto)
        check->space->checked = check->upto;
    check_end(check);
}

static bool is_missing(const struct check *check, const struct store_topic *topic)
{
    const struct space *space = check->space;
    uint64_t last = tails_last(check->bus->tails, slice_of(space->ns), slice_of(topic->name));
    return topic->last > check->from && topic->last > last &&
           topic->last > bus_known_up_to(check->bus, space, slice_of(topic->name));
}

/* All that was published before the look has come, or never will. */
static void confirm(struct check *check)
{
    struct bus *bus = check->bus;
    struct space *space = check->space;
    struct strings lost = {mem_alloc((check->missing.count + 1) * sizeof(char *)), 0};
    uint64_t cursor = UINT64_MAX;
    for (size_t i = 0; i < check->missing.count; i++) {
        struct store_topic *topic = &check->missing.topics[i];
        if (!is_missing(check, topic))
            continue;
        uint64_t last = tails_last(bus->tails, slice_of(space->ns), slice_of(topic->name));
        lost.items[lost.count++] = topic->name;
        last = last ? last : check->from;
        cursor = last < cursor ? last : cursor;
    }
    bool whole = !lost.count;
    if (!whole)
        (void)bus_repair_missing(bus, space, &lost, cursor, check->upto);
    free(lost.items);
    if (whole)
        check_passed(check);
    else
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

/* Keeps what may be missing of a page. A topic that moves on meanwhile may come twice. */
static void take_page(struct check *check)
{
    struct store_look *look = &check->look;
    for (size_t i = 0; i < look->count; i++) {
        struct store_topic *topic = &look->topics[i];
        if (is_missing(check, topic))
            store_look_add(&check->missing, slice_of(topic->name), topic->last);
    }
    store_look_reset(look);
}

static void on_page(struct store_look *look, enum err e);

static void ask_page(struct check *check, bool by_name)
{
    struct bus *bus = check->bus;
    check->look = (struct store_look){.ns = check->space->ns,
                                      .names = by_name ? &check->names : NULL,
                                      .limit = by_name ? 0 : PAGE_TOPICS,
                                      .cursor = check->upto,
                                      .done = on_page,
                                      .arg = check};
    bus->store.ops->look(bus->store.impl, &check->look);
}

static void on_page(struct store_look *look, enum err e)
{
    struct check *check = look->arg;
    if (e) {
        check_end(check);
        return;
    }
    bool more = look->upto < look->position && look->upto > check->upto;
    check->upto = look->upto;
    take_page(check);
    if (more) {
        ask_page(check, false);
        return;
    }
    if (!check->missing.count) {
        check_passed(check);
        return;
    }
    check->mark = check->bus->store.ops->mark(check->bus->store.impl);
    if (!check->mark)
        check_end(check);
}

static void check_start(struct bus *bus, struct space *space)
{
    struct check *check = mem_zero(1, sizeof(*check));
    bool by_name = space->names <= NAMES_MAX && !bus_has_patterns(space);
    const struct name *name;
    check->bus = bus;
    check->space = space;
    check->from = check->upto = space->checked;
    if (by_name)
        LIST_FOREACH (name, &space->watched, link)
            strings_add(&check->names, slice_of(name->store.name));
    LIST_INSERT_HEAD(&bus->checks, check, link);
    space->checking = true;
    space->jobs++;
    ask_page(check, by_name);
}

static bool can_check(const struct space *space)
{
    return space->checked && space->names && !space->unrepaired && !space->checking;
}

void bus_check_all(struct bus *bus)
{
    struct space *space, *tmp;
    if (!bus->store_up || bus->repairing)
        return;
    HASH_ITER (hh, bus->spaces, space, tmp)
        if (can_check(space))
            check_start(bus, space);
}

void bus_store_missed(struct bus *bus, struct slice ns)
{
    struct space *space = bus_space_find(bus, ns);
    if (space)
        bus->missed = space->missed = true;
}

/* A check that is under way may have looked before it was published: another follows it. */
void bus_check_missed(struct bus *bus)
{
    struct space *space, *tmp;
    bus->missed = false;
    HASH_ITER (hh, bus->spaces, space, tmp) {
        if (!space->missed)
            continue;
        if (space->checking) {
            bus->missed = true;
            continue;
        }
        space->missed = false;
        if (can_check(space))
            check_start(bus, space);
    }
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
