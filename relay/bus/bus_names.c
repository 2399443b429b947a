#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/bus_parts.h"

struct space *bus_space_find(struct bus *bus, struct slice ns)
{
    struct space *space = bus->last_space;
    if (space && slice_is(ns, space->ns))
        return space;
    HASH_FIND(hh, bus->spaces, ns.ptr, ns.len, space);
    if (space)
        bus->last_space = space;
    return space;
}

struct name *bus_name_find(struct bus *bus, const char *ns, struct slice text)
{
    struct buf key = {0};
    name_put_lookup(&key, slice_of(ns), text);
    struct name *name;
    HASH_FIND(hh, bus->names, key.ptr, key.len, name);
    buf_reset(&key);
    return name;
}

bool bus_has_patterns(const struct space *space)
{
    return space->patterns && topic_index_names(space->patterns);
}

static void take_earliest(void *owner, void *arg)
{
    const struct name *name = owner;
    uint64_t *since = arg;
    if (name && name->since && name->since < *since)
        *since = name->since;
}

uint64_t bus_known_up_to(struct bus *bus, const struct space *space, struct slice topic)
{
    uint64_t since = UINT64_MAX;
    take_earliest(bus_name_find(bus, space->ns, topic), &since);
    if (space->patterns)
        topic_index_match(space->patterns, topic, take_earliest, &since);
    return since > space->checked ? since : space->checked;
}

static void space_free(struct space *space)
{
    if (space->patterns)
        topic_index_free(space->patterns);
    free(space->ns);
    free(space);
}

void bus_space_release(struct bus *bus, struct space *space)
{
    if (space->names || space->jobs)
        return;
    if (bus->last_space == space)
        bus->last_space = NULL;
    if (bus->store.impl) /* it goes first at the end */
        bus->store.ops->close(bus->store.impl, space->ns);
    HASH_DEL(bus->spaces, space);
    space_free(space);
}

static struct space *space_get(struct bus *bus, const char *ns)
{
    struct space *space = bus_space_find(bus, slice_of(ns));
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->ns = mem_dup(ns, strlen(ns));
    LIST_INIT(&space->watched);
    HASH_ADD_KEYPTR(hh, bus->spaces, space->ns, strlen(space->ns), space);
    bus->store.ops->open(bus->store.impl, space->ns, 0, true);
    return space;
}

static void pattern_add(struct name *name)
{
    struct space *space = name->space;
    if (!space->patterns)
        space->patterns = topic_index_new();
    topic_index_add(space->patterns, slice_of(name->store.name), &name->sub, name);
}

static struct name *name_new(struct bus *bus, const char *ns, const char *text)
{
    struct name *name = mem_zero(1, sizeof(*name));
    struct buf key = {0};
    size_t key_len;
    name_put_lookup(&key, slice_of(ns), slice_of(text));
    name->store.ns = buf_take(&key, &key_len);
    name->store.name = name->store.ns + strlen(ns) + 1;
    name->space = space_get(bus, ns);
    LIST_INSERT_HEAD(&name->space->watched, name, link);
    name->space->names++;
    if (name_is_pattern(slice_of(text)))
        pattern_add(name);
    HASH_ADD_KEYPTR(hh, bus->names, name->store.ns, key_len, name);
    return name;
}

/* Whether the topic with this key is heard without the patterns that have gone. */
static bool is_still_heard(void *arg, struct slice key)
{
    struct bus *bus = arg;
    struct name *name;
    HASH_FIND(hh, bus->names, key.ptr, key.len, name);
    if (name && name->store.heard)
        return true;
    const struct space *space = bus_space_find(bus, slice_of(key.ptr));
    return space && !space->lost_pattern;
}

/* Many patterns may go at a time, and there may be very many tails: one look at them for all. */
void bus_names_sweep(struct bus *bus)
{
    struct space *space, *next;
    if (!bus->lost_pattern)
        return;
    tails_drop_unless(bus->tails, is_still_heard, bus);
    HASH_ITER (hh, bus->spaces, space, next)
        space->lost_pattern = false;
    bus->lost_pattern = false;
}

static void note_heard(void *owner, void *arg)
{
    *(bool *)arg |= ((const struct name *)owner)->store.heard;
}

static bool is_heard_by_pattern(const struct space *space, struct slice topic)
{
    bool heard = false;
    if (space->patterns)
        topic_index_match(space->patterns, topic, note_heard, &heard);
    return heard;
}

/* What only this name brought is not heard any more. */
static void forget_tails(struct bus *bus, struct name *name)
{
    struct slice text = slice_of(name->store.name);
    if (name_is_pattern(text)) {
        topic_index_remove(name->space->patterns, &name->sub);
        name->space->lost_pattern = bus->lost_pattern = true;
    } else if (!is_heard_by_pattern(name->space, text)) {
        tails_drop(bus->tails, slice_of(name->store.ns), text);
    }
}

void bus_take_watch(struct bus *bus, struct note_name *note)
{
    struct name *name = bus_name_find(bus, note->ns, slice_of(note->name));
    bool is_new = !name;
    if (is_new)
        name = name_new(bus, note->ns, note->name);
    name->store.workers |= UINT64_C(1) << note->worker;
    if (is_new)
        bus->store.ops->watch(bus->store.impl, &name->store);
    else
        bus->store.ops->rewatch(bus->store.impl, &name->store);
    note_name_free(note);
}

void bus_take_unwatch(struct bus *bus, struct note_name *note)
{
    struct name *name = bus_name_find(bus, note->ns, slice_of(note->name));
    if (name) {
        name->store.workers &= ~(UINT64_C(1) << note->worker);
        if (name->store.workers) {
            bus->store.ops->rewatch(bus->store.impl, &name->store);
        } else {
            bus->store.ops->unwatch(bus->store.impl, &name->store);
            HASH_DEL(bus->names, name);
            LIST_REMOVE(name, link);
            name->space->names--;
            forget_tails(bus, name);
            bus_space_release(bus, name->space);
            free(name->store.ns);
            free(name);
            bus->recheck = true;
        }
    }
    note_name_free(note);
}

/* Hands the settings of every namespace that concerns this node to the store: after a connect, and
 * now and then, as somebody may have flushed them away. */
void bus_spaces_open(struct bus *bus)
{
    struct space *space, *tmp;
    HASH_ITER (hh, bus->spaces, space, tmp)
        bus->store.ops->open(bus->store.impl, space->ns, space->seen, true);
    const struct strings *fixed = &bus->config->inbox_namespaces;
    for (size_t i = 0; i < fixed->count; i++)
        if (!bus_space_find(bus, slice_of(fixed->items[i])))
            bus->store.ops->open(bus->store.impl, fixed->items[i], 0, false);
}

void bus_names_free(struct bus *bus)
{
    struct name *name, *next_name;
    HASH_ITER (hh, bus->names, name, next_name) {
        HASH_DEL(bus->names, name);
        if (name->sub.node)
            topic_index_remove(name->space->patterns, &name->sub);
        free(name->store.ns);
        free(name);
    }
    struct space *space, *next_space;
    HASH_ITER (hh, bus->spaces, space, next_space) {
        HASH_DEL(bus->spaces, space);
        space_free(space);
    }
}
