/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_spaces.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"

#define SEEN_AHEAD_US (UINT64_C(24) * 3600 * 1000000)

struct bus_space {
    /* for each event */
    char *ns;
    uint64_t seen, checked;
    bool unrepaired;
    /* now and then */
    bool moved; /* to another server, since it was repaired */
    bool checking;
    bool missed;          /* it is to be checked, whatever a check under way has seen */
    bool lost_pattern;    /* what only that brought is not heard any more */
    unsigned users;       /* reads, repairs and checks under way or waiting */
    uint64_t repair_from; /* where the next repair begins, if below `seen`; 0: there */
    struct bus_names *names;
    struct store_name connections; /* of this node: STORE_CONNECTIONS */
    UT_hash_handle hh;
};

struct bus_spaces {
    struct bus_space *last; /* of the event before: most come from one namespace */
    struct bus_space *all;
    const struct bus_base *base;
    bool up;
    bool lost_pattern; /* some namespace has: bus_spaces_sweep() */
};

/* --- all of them ------------------------------------------------------------------------------ */

struct bus_space *bus_spaces_find(struct bus_spaces *spaces, struct slice ns)
{
    struct bus_space *space = spaces->last;
    if (space && slice_is(ns, space->ns))
        return space;
    HASH_FIND(hh, spaces->all, ns.ptr, ns.len, space);
    if (space)
        spaces->last = space;
    return space;
}

struct bus_space *bus_spaces_first(const struct bus_spaces *spaces)
{
    return spaces->all;
}

struct bus_space *bus_space_next(const struct bus_space *space)
{
    return space->hh.next;
}

static struct bus_space *space_get(struct bus_spaces *spaces, const char *ns)
{
    const struct store *store = &spaces->base->store;
    struct bus_space *space = bus_spaces_find(spaces, slice_of(ns));
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->ns = mem_dup(ns, strlen(ns));
    space->names = bus_names_new();
    HASH_ADD_KEYPTR(hh, spaces->all, space->ns, strlen(space->ns), space);
    bus_space_open(spaces, space);
    space->connections = (struct store_name){
        .subject = STORE_CONNECTIONS,
        .ns = space->ns,
        .name = mem_dup(spaces->base->tag_text, strlen(spaces->base->tag_text))};
    store->ops->watch(store->impl, &space->connections);
    return space;
}

static void space_free(struct bus_spaces *spaces, struct bus_space *space)
{
    HASH_DEL(spaces->all, space);
    bus_names_free(space->names);
    free(space->connections.name);
    free(space->ns);
    free(space);
}

/* One that nobody watches here. */
static void open_fixed(struct bus_spaces *spaces, const char *ns)
{
    const struct store *store = &spaces->base->store;
    if (!bus_spaces_find(spaces, slice_of(ns)))
        store->ops->open(store->impl, ns, 0, false);
}

void bus_spaces_open(struct bus_spaces *spaces)
{
    const struct config *config = spaces->base->config;
    for (struct bus_space *space = spaces->all; space; space = bus_space_next(space))
        bus_space_open(spaces, space);
    for (size_t i = 0; i < config->inbox_namespaces.count; i++)
        open_fixed(spaces, config->inbox_namespaces.items[i]);
    for (size_t i = 0; i < config->bridge_count; i++)
        if (config->bridge_list[i].is_stream)
            open_fixed(spaces, config->bridge_list[i].ns);
}

void bus_spaces_set_up(struct bus_spaces *spaces, bool up)
{
    spaces->up = up;
}

bool bus_spaces_are_up(const struct bus_spaces *spaces)
{
    return spaces->up;
}

void bus_spaces_doubt(struct bus_spaces *spaces, bool moved)
{
    for (struct bus_space *space = spaces->all; space; space = bus_space_next(space)) {
        space->unrepaired |= space->seen && bus_names_count(space->names);
        space->moved |= moved;
        bus_names_lose(space->names);
    }
}

/* --- who watches what ------------------------------------------------------------------------- */

void bus_spaces_watch(struct bus_spaces *spaces, const struct note_name *note)
{
    const struct store *store = &spaces->base->store;
    struct bus_space *space = space_get(spaces, note->ns);
    struct store_name *name = bus_names_find(space->names, slice_of(note->name));
    bool is_new = !name;
    if (is_new)
        name = bus_names_add(space->names, note->ns, note->name);
    name->workers |= UINT64_C(1) << note->worker;
    if (is_new)
        store->ops->watch(store->impl, name);
    else
        store->ops->rewatch(store->impl, name);
}

/* What only this name brought is not heard any more. */
static void forget_tails(struct bus_spaces *spaces, struct bus_space *space, struct slice name)
{
    if (name_is_pattern(name))
        space->lost_pattern = spaces->lost_pattern = true;
    else if (!bus_names_hear_by_pattern(space->names, name))
        tails_drop(spaces->base->tails, slice_of(space->ns), name);
}

static void release_unused(struct bus_spaces *spaces, struct bus_space *space)
{
    const struct store *store = &spaces->base->store;
    if (bus_names_count(space->names) || space->users)
        return;
    if (spaces->last == space)
        spaces->last = NULL;
    if (store->impl) { /* it goes first at the end */
        store->ops->unwatch(store->impl, &space->connections);
        store->ops->close(store->impl, space->ns);
    }
    space_free(spaces, space);
}

bool bus_spaces_unwatch(struct bus_spaces *spaces, const struct note_name *note)
{
    const struct store *store = &spaces->base->store;
    struct bus_space *space = bus_spaces_find(spaces, slice_of(note->ns));
    struct store_name *name = space ? bus_names_find(space->names, slice_of(note->name)) : NULL;
    if (!name)
        return false;
    name->workers &= ~(UINT64_C(1) << note->worker);
    if (name->workers) {
        store->ops->rewatch(store->impl, name);
        return false;
    }
    store->ops->unwatch(store->impl, name);
    bus_names_remove(space->names, name);
    forget_tails(spaces, space, slice_of(note->name));
    release_unused(spaces, space);
    return true;
}

/* Whether the topic with this key is heard without the patterns that have gone. */
static bool is_still_heard(void *arg, struct slice key)
{
    struct slice ns = slice_of(key.ptr);
    struct bus_space *space = bus_spaces_find(arg, ns);
    if (!space)
        return false;
    struct slice topic = {key.ptr + ns.len + 1, key.len - ns.len - 1};
    const struct store_name *name = bus_names_find(space->names, topic);
    return (name && name->heard) || !space->lost_pattern;
}

/* Many patterns may go at a time, and there may be very many tails: one look at them for all. */
void bus_spaces_sweep(struct bus_spaces *spaces)
{
    if (!spaces->lost_pattern)
        return;
    tails_drop_unless(spaces->base->tails, is_still_heard, spaces);
    for (struct bus_space *space = spaces->all; space; space = bus_space_next(space))
        space->lost_pattern = false;
    spaces->lost_pattern = false;
}

/* --- one of them ------------------------------------------------------------------------------ */

void bus_space_use(struct bus_space *space)
{
    space->users++;
}

void bus_space_release(struct bus_spaces *spaces, struct bus_space *space)
{
    space->users--;
    release_unused(spaces, space);
}

const char *bus_space_ns(const struct bus_space *space)
{
    return space->ns;
}

struct bus_names *bus_space_names(struct bus_space *space)
{
    return space->names;
}

void bus_space_open(struct bus_spaces *spaces, const struct bus_space *space)
{
    const struct store *store = &spaces->base->store;
    store->ops->open(store->impl, space->ns, space->seen, true);
}

uint64_t bus_space_seen(const struct bus_space *space)
{
    return space->seen;
}

void bus_space_raise_seen(struct bus_space *space, uint64_t id)
{
    if (id > space->seen)
        space->seen = id;
}

/* By the clock that gives the ids. */
static uint64_t now_us(const struct bus_spaces *spaces)
{
    return clock_wall_us() + (uint64_t)store_clock_offset_us(&spaces->base->store);
}

void bus_space_see(const struct bus_spaces *spaces, struct bus_space *space, const struct event *ev)
{
    /* All counters are raised to it. */
    if (event_id(ev) > space->seen && event_id(ev) < now_us(spaces) + SEEN_AHEAD_US)
        space->seen = event_id(ev);
}

uint64_t bus_space_checked(const struct bus_space *space)
{
    return space->checked;
}

void bus_space_confirm(struct bus_space *space, uint64_t upto)
{
    if (upto > space->checked)
        space->checked = upto;
}

void bus_space_date(struct bus_space *space, uint64_t position)
{
    if (!space->seen)
        space->seen = position;
    if (!space->checked || position < space->checked)
        space->checked = position;
}

uint64_t bus_space_known_up_to(const struct bus_space *space, struct slice topic)
{
    uint64_t since = bus_names_earliest(space->names, topic);
    return since > space->checked ? since : space->checked;
}

bool bus_space_is_unrepaired(const struct bus_space *space)
{
    return space->unrepaired;
}

void bus_space_postpone(struct bus_space *space, uint64_t cursor)
{
    space->unrepaired = true;
    if (!space->repair_from || cursor < space->repair_from)
        space->repair_from = cursor;
}

uint64_t bus_space_repair_from(const struct bus_space *space, bool *moved)
{
    bool earlier = space->repair_from && space->repair_from < space->seen;
    *moved = space->moved;
    return earlier ? space->repair_from : space->seen;
}

void bus_space_repaired(struct bus_space *space, uint64_t upto)
{
    space->unrepaired = false;
    space->repair_from = 0;
    space->moved = false;
    space->checked = upto;
}

bool bus_space_is_checking(const struct bus_space *space)
{
    return space->checking;
}

void bus_space_set_checking(struct bus_space *space, bool checking)
{
    space->checking = checking;
}

struct bus_spaces *bus_spaces_new(const struct bus_base *base)
{
    struct bus_spaces *spaces = mem_zero(1, sizeof(*spaces));
    spaces->base = base;
    return spaces;
}

void bus_spaces_free(struct bus_spaces *spaces)
{
    if (!spaces)
        return;
    while (spaces->all)
        space_free(spaces, spaces->all);
    free(spaces);
}

bool bus_space_is_missing_some(const struct bus_space *space)
{
    return space->missed;
}

void bus_space_set_missing_some(struct bus_space *space, bool missed)
{
    space->missed = missed;
}
