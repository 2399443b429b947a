/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_bridges.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/core/bridge.h"
#include "relay/kit/log.h"

struct heard {
    struct store_name store; /* first: the store hands this pointer back */
    const struct config_bridge *rule;
};

struct bus_bridges {
    const struct bus_base *base;
    struct bus_spaces *spaces;
    struct bus_live *live;
    struct config *config; /* the rules are its */
    struct heard *heard;
    size_t count;
    struct bridge reading;
    struct log_limit dropped_limit;
};

static void count_dropped(struct bus_bridges *bridges, struct slice channel)
{
    struct metrics *metrics = bridges->base->metrics;
    uint64_t held;
    metrics_add(metrics, M_BRIDGED_MESSAGES_DROPPED, 1);
    metrics_add(metrics, M_DROPPED_BRIDGE, 1);
    if (!log_limit_pass(&bridges->dropped_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(channel);
    log_put(LOG_WARN, "dropped a message of a bridged channel that is no event", "channel", text,
            "reason", bridges->reading.why, "not_logged", log_u64(held), NULL);
    free(text);
}

/* The workers that want it; 0: nobody here. */
static uint64_t who_wants(const struct bus_bridges *bridges, const struct event_fields *fields)
{
    struct bus_space *space = bus_spaces_find(bridges->spaces, fields->ns);
    return space ? bus_names_workers(bus_space_names(space), fields->topic) : 0;
}

void bus_bridges_hear(struct bus_bridges *bridges, const struct store_name *name,
                      struct slice channel, struct slice payload)
{
    const struct config_bridge *rule = ((const struct heard *)name)->rule;
    const struct config *config = bridges->config;
    struct event_fields fields;
    if (bridge_read_message(&bridges->reading, config, rule, channel, payload, &fields)) {
        count_dropped(bridges, channel);
        return;
    }
    metrics_add(bridges->base->metrics, M_BRIDGED_MESSAGES, 1);
    uint64_t workers = who_wants(bridges, &fields);
    if (!workers)
        return;
    struct event *ev = store_event(config, &fields, clock_mono_us());
    bus_live_deliver(bridges->live, ev, workers);
    event_unref(ev);
}

/* --- which there are -------------------------------------------------------------------------- */

static void watch(struct bus_bridges *bridges, const struct config_bridge *rule)
{
    const struct store *store = &bridges->base->store;
    struct heard *heard = &bridges->heard[bridges->count++];
    *heard = (struct heard){{.subject = STORE_BRIDGE, .ns = rule->ns, .name = rule->source}, rule};
    store->ops->watch(store->impl, &heard->store);
}

static void unwatch_all(struct bus_bridges *bridges, struct heard *heard, size_t count)
{
    const struct store *store = &bridges->base->store;
    for (size_t i = 0; i < count; i++)
        store->ops->unwatch(store->impl, &heard[i].store);
    free(heard);
}

/* The new ones first, so that a channel that is in both never has nobody. */
void bus_bridges_configure(struct bus_bridges *bridges)
{
    struct config *config = bridges->base->config, *old_config = bridges->config;
    struct heard *old = bridges->heard;
    size_t old_count = bridges->count;
    bridges->config = config_ref(config);
    bridges->heard = mem_zero(config->bridge_count + 1, sizeof(*bridges->heard));
    bridges->count = 0;
    for (size_t i = 0; i < config->bridge_count; i++)
        if (!config->bridge_list[i].is_stream)
            watch(bridges, &config->bridge_list[i]);
    unwatch_all(bridges, old, old_count);
    config_unref(old_config);
}

struct bus_bridges *bus_bridges_new(const struct bus_base *base, struct bus_spaces *spaces,
                                    struct bus_live *live)
{
    struct bus_bridges *bridges = mem_zero(1, sizeof(*bridges));
    bridges->base = base;
    bridges->spaces = spaces;
    bridges->live = live;
    return bridges;
}

void bus_bridges_free(struct bus_bridges *bridges)
{
    if (!bridges)
        return;
    bridge_reset(&bridges->reading);
    free(bridges->heard);
    config_unref(bridges->config);
    free(bridges);
}
