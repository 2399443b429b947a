/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_bridges.h"

#include <stdlib.h>
#include <string.h>

#include "relay/config/config_bridges.h"
#include "common/mem.h"

struct redis_bridges {
    struct ev_loop *loop;
    struct redis_target *target;
    const struct redis_bridge_handler *handler;
    void *arg;
    struct metrics *metrics;
    bool started, enabled, draining;
    struct redis_bridge *items[CONFIG_BRIDGES_MAX];
    size_t count;
};

/* Takes the one that @rule is about out of @old; NULL: there is none. */
static struct redis_bridge *take(struct redis_bridge **old, size_t count,
                                 const struct config_bridge *rule)
{
    for (size_t i = 0; i < count; i++) {
        struct redis_bridge *bridge = old[i];
        if (!bridge || !redis_bridge_is(bridge, rule))
            continue;
        old[i] = NULL;
        return bridge;
    }
    return NULL;
}

static void begin(struct redis_bridges *bridges, struct redis_bridge *bridge)
{
    if (bridges->started)
        redis_bridge_start(bridge);
    if (bridges->enabled)
        redis_bridge_enable(bridge, true);
}

void redis_bridges_configure(struct redis_bridges *bridges, struct config *config)
{
    struct redis_bridge *old[CONFIG_BRIDGES_MAX];
    size_t count = bridges->count;
    if (bridges->draining)
        return;
    memcpy(old, bridges->items, sizeof(old));
    bridges->count = 0;
    for (size_t i = 0; i < config->bridge_count; i++) {
        const struct config_bridge *rule = &config->bridge_list[i];
        if (!rule->is_stream)
            continue;
        struct redis_bridge *bridge = take(old, count, rule);
        if (bridge) {
            redis_bridge_configure(bridge, config, rule);
        } else {
            bridge = redis_bridge_new(bridges->loop, bridges->target, config, rule,
                                      bridges->handler, bridges->arg, bridges->metrics);
            begin(bridges, bridge);
        }
        bridges->items[bridges->count++] = bridge;
    }
    for (size_t i = 0; i < count; i++)
        redis_bridge_free(old[i]);
}

struct redis_bridges *redis_bridges_new(struct ev_loop *loop, struct redis_target *target,
                                        struct config *config,
                                        const struct redis_bridge_handler *handler, void *arg,
                                        struct metrics *metrics)
{
    struct redis_bridges *bridges = mem_zero(1, sizeof(*bridges));
    bridges->loop = loop;
    bridges->target = target;
    bridges->handler = handler;
    bridges->arg = arg;
    bridges->metrics = metrics;
    redis_bridges_configure(bridges, config);
    return bridges;
}

void redis_bridges_free(struct redis_bridges *bridges)
{
    if (!bridges)
        return;
    for (size_t i = 0; i < bridges->count; i++)
        redis_bridge_free(bridges->items[i]);
    free(bridges);
}

void redis_bridges_start(struct redis_bridges *bridges)
{
    bridges->started = true;
    for (size_t i = 0; i < bridges->count; i++)
        redis_bridge_start(bridges->items[i]);
}

void redis_bridges_drop(struct redis_bridges *bridges, const char *why)
{
    for (size_t i = 0; i < bridges->count; i++)
        redis_bridge_drop(bridges->items[i], why);
}

void redis_bridges_enable(struct redis_bridges *bridges, bool enabled)
{
    bridges->enabled = enabled;
    for (size_t i = 0; i < bridges->count; i++)
        redis_bridge_enable(bridges->items[i], enabled);
}

void redis_bridges_drain(struct redis_bridges *bridges)
{
    bridges->draining = true;
    for (size_t i = 0; i < bridges->count; i++)
        redis_bridge_drain(bridges->items[i]);
}
