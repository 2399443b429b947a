/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/route_map_parts.h"

/* For a pattern that stands for all values: `*` in place of each capture. */
static const char *any_value(const void *arg, struct slice place, struct strings *values)
{
    (void)arg;
    (void)place;
    strings_add(values, SLICE_LIT("*"));
    return NULL;
}

static bool has_capture(const struct route_condition *condition)
{
    for (size_t i = 0; i < condition->value_count; i++)
        if (condition->values[i].is_capture)
            return true;
    return false;
}

/* The pointer that stands in the way; NULL: none does. */
static const char *find_unmet(const struct route *route, const struct grant *grant)
{
    for (size_t i = 0; i < route->condition_count; i++) {
        const struct route_condition *condition = &route->conditions[i];
        if (!has_capture(condition) && !route_map_is_met(condition, NULL, grant))
            return condition->pointer;
    }
    return NULL;
}

static void put_captures(const struct route *route, struct buf *out)
{
    for (size_t i = 0; i < route->condition_count; i++)
        for (size_t k = 0; k < route->conditions[i].value_count; k++)
            if (route->conditions[i].values[k].is_capture)
                buf_printf(out, ", where %s has %s", route->conditions[i].pointer,
                           route->conditions[i].values[k].text);
}

/* The first topic that does not lie within the grant, whatever is captured; NULL: all do. */
static const struct stencil *find_outside(const struct route *route, const struct grant *grant)
{
    const struct stencil *outside = NULL;
    for (size_t i = 0; i < route->topic_count && !outside && !route->grants; i++) {
        struct strings filled = {0};
        struct buf why = {0};
        stencil_fill(route->topics[i], STENCIL_TOKENS, any_value, NULL, &filled, &why);
        if (filled.count == 0 || !grant_may_subscribe(grant, slice_of(filled.items[0])))
            outside = route->topics[i];
        strings_reset(&filled);
        buf_reset(&why);
    }
    return outside;
}

static void put_route(const struct route *route, const struct grant *grant, struct buf *out)
{
    const char *unmet = find_unmet(route, grant);
    const struct stencil *outside = find_outside(route, grant);
    buf_printf(out, "%-11s %s  (", "route", route->path);
    if (route->is_public) {
        buf_puts(out, "open to everybody");
    } else if (unmet) {
        buf_printf(out, "closed: %s has none of what it requires", unmet);
    } else if (outside && stencil_place_count(outside) == 0) {
        buf_printf(out, "closed: %s is not granted", stencil_text(outside).ptr);
    } else if (outside) {
        buf_printf(out, "open where %s is granted", stencil_text(outside).ptr);
        put_captures(route, out);
    } else {
        buf_puts(out, "open");
        put_captures(route, out);
    }
    flow_request_put(&route->flow, out);
    format_request_put(&route->format, out);
    buf_puts(out, ")\n");
}

void route_map_explain(const struct route_map *map, const struct grant *grant, struct buf *out)
{
    for (size_t i = 0; i < map->count; i++)
        put_route(&map->routes[i], grant, out);
}
