/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_connections.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/core/connection_topic.h"

/* In one namespace, what came for connections while the store was away. */
struct search {
    struct store_look look;
    struct bus_connections *all;
    char *ns;
    uint64_t from;
    bool under_way;
    TAILQ_ENTRY(search) link;
};

struct bus_connections {
    const struct bus_base *base;
    struct bus_live *live;
    struct bus_spaces *spaces;
    struct bus_repairs *repairs;
    TAILQ_HEAD(, search) searches;
};

/* --- live ------------------------------------------------------------------------------------- */

/* Its own message on the topic's channel comes here, then, or has: both are sent in one step. */
static bool is_heard(struct bus_space *space, struct slice topic)
{
    const struct bus_names *names = bus_space_names(space);
    const struct store_name *name = bus_names_find(names, topic);
    return (name && name->heard) || bus_names_hear_by_pattern(names, topic);
}

void bus_connections_hear(struct bus_connections *c, struct event *ev)
{
    uint64_t worker = bus_live_owner(c->live, event_topic(ev));
    struct bus_space *space = bus_spaces_find(c->spaces, event_ns(ev));
    if (space && worker && !is_heard(space, event_topic(ev)))
        bus_live_deliver(c->live, ev, worker);
}

/* --- what was missed -------------------------------------------------------------------------- */

static void search_free(struct search *search)
{
    TAILQ_REMOVE(&search->all->searches, search, link);
    store_look_reset(&search->look);
    free(search->ns);
    free(search);
}

static struct search *search_find(const struct bus_connections *c, const char *ns)
{
    struct search *search;
    TAILQ_FOREACH (search, &c->searches, link)
        if (strcmp(search->ns, ns) == 0)
            return search;
    return NULL;
}

void bus_connections_lose(struct bus_connections *c)
{
    struct bus_space *space;
    for (space = bus_spaces_first(c->spaces); space; space = bus_space_next(space)) {
        uint64_t seen = bus_space_seen(space);
        if (!seen || search_find(c, bus_space_ns(space)))
            continue;
        struct search *search = mem_zero(1, sizeof(*search));
        search->all = c;
        search->ns = slice_dup(slice_of(bus_space_ns(space)));
        search->from = seen > BUS_FAILOVER_OVERLAP_US ? seen - BUS_FAILOVER_OVERLAP_US : 0;
        TAILQ_INSERT_TAIL(&c->searches, search, link);
    }
}

static bool is_missing(const struct search *search, const struct store_topic *topic)
{
    struct slice name = slice_of(topic->name);
    return topic->last > search->from && bus_live_owner(search->all->live, name) &&
           topic->last > tails_last(search->all->base->tails, slice_of(search->ns), name);
}

static void on_looked(struct store_look *look, enum err e)
{
    struct search *search = look->arg;
    struct bus_connections *c = search->all;
    struct bus_space *space = bus_spaces_find(c->spaces, slice_of(search->ns));
    struct strings topics = {0};
    search->under_way = false;
    if (e) { /* the store has gone again: the same once it is back */
        store_look_reset(look);
        return;
    }
    for (size_t i = 0; i < look->count; i++)
        if (is_missing(search, &look->topics[i]))
            strings_add(&topics, slice_of(look->topics[i].name));
    if (topics.count && space)
        (void)bus_repairs_read_missing(c->repairs, space, &topics, search->from, look->position);
    strings_reset(&topics);
    search_free(search);
}

void bus_connections_find(struct bus_connections *c)
{
    static char *all[] = {CONNECTION_TOPIC_PREFIX "*"};
    static const struct strings names = {all, 1};
    const struct store *store = &c->base->store;
    struct search *search, *next;
    for (search = TAILQ_FIRST(&c->searches); search; search = next) {
        next = TAILQ_NEXT(search, link);
        if (search->under_way)
            continue;
        search->under_way = true;
        search->look = (struct store_look){.ns = search->ns,
                                           .names = &names,
                                           .cursor = search->from,
                                           .done = on_looked,
                                           .arg = search};
        store->ops->look(store->impl, &search->look);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

struct bus_connections *bus_connections_new(const struct bus_base *base, struct bus_live *live,
                                            struct bus_spaces *spaces, struct bus_repairs *repairs)
{
    struct bus_connections *c = mem_zero(1, sizeof(*c));
    c->base = base;
    c->live = live;
    c->spaces = spaces;
    c->repairs = repairs;
    TAILQ_INIT(&c->searches);
    return c;
}

void bus_connections_free(struct bus_connections *c)
{
    struct search *search;
    if (!c)
        return;
    while ((search = TAILQ_FIRST(&c->searches)))
        search_free(search);
    free(c);
}
