#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/bus_parts.h"

/* Finds what the chain of `prev` cannot show: a topic's last events, lost on the live path, with
 * nothing after them. Every now and then the index is asked what has moved since the last time.
 * What has moved but has not been heard is given a moment, as it may be on its way; then it is read
 * from the log. */

static const double CONFIRM_MAX_S = 2.0;
enum { NAMES_MAX = 256 }; /* up to here the index is asked for the names, above for all topics */

struct check {
    struct store_look look;
    struct bus *bus;
    struct space *space;
    struct strings names; /* copies */
    ev_timer confirm;
    LIST_ENTRY(check) link;
};

static void check_end(struct check *check)
{
    struct bus *bus = check->bus;
    struct space *space = check->space;
    ev_timer_stop(bus->loop, &check->confirm);
    LIST_REMOVE(check, link);
    store_look_reset(&check->look);
    for (size_t i = 0; i < check->names.count; i++)
        free(check->names.items[i]);
    free(check->names.items);
    free(check);
    space->checking = false;
    space->jobs--;
    bus_space_release(bus, space);
}

static void wait_confirm(struct check *check)
{
    double period = (double)check->bus->config->redis_check_ms / 1000.;
    ev_timer_set(&check->confirm, period < CONFIRM_MAX_S ? period : CONFIRM_MAX_S, 0.);
    ev_timer_start(check->bus->loop, &check->confirm);
}

static bool is_missing(const struct check *check, const struct store_topic *topic)
{
    if (topic->last <= check->look.cursor)
        return false;
    return tails_last(check->bus->tails, slice_of(check->space->ns), slice_of(topic->name)) <
           topic->last;
}

static void on_confirm(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct check *check = w->data;
    struct bus *bus = check->bus;
    if (bus->paused || bus->repairing) { /* what is on its way has not been read yet */
        wait_confirm(check);
        return;
    }
    struct space *space = check->space;
    bool done = bus->store_up && !space->unrepaired;
    for (size_t i = 0; i < check->look.count && done; i++) {
        const struct store_topic *topic = &check->look.topics[i];
        uint64_t last = tails_last(bus->tails, slice_of(space->ns), slice_of(topic->name));
        if (is_missing(check, topic))
            done = bus_repair_name(bus, space, slice_of(topic->name),
                                   last ? last : check->look.cursor, NULL);
    }
    if (done && space->checked < check->look.position)
        space->checked = check->look.position;
    check_end(check);
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
    wait_confirm(check);
}

static void check_start(struct bus *bus, struct space *space)
{
    struct check *check = mem_zero(1, sizeof(*check));
    bool patterns = false;
    struct name *name, *tmp;
    check->bus = bus;
    check->space = space;
    check->names.items = mem_zero(space->names, sizeof(char *));
    HASH_ITER (hh, bus->names, name, tmp) {
        if (name->space != space)
            continue;
        check->names.items[check->names.count++] =
            mem_dup(name->store.name, strlen(name->store.name));
        patterns |= name_is_pattern(slice_of(name->store.name));
    }
    check->look = (struct store_look){.ns = space->ns,
                                      .names = &check->names,
                                      .cursor = space->checked,
                                      .moved_only = patterns || space->names > NAMES_MAX,
                                      .done = on_checked,
                                      .arg = check};
    ev_init(&check->confirm, on_confirm);
    check->confirm.data = check;
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

void bus_checks_free(struct bus *bus)
{
    struct check *check;
    while ((check = LIST_FIRST(&bus->checks)))
        check_end(check);
}
