/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/route_map_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "common/url.h"

/* --- making ----------------------------------------------------------------------------------- */

/* Whether a path could be of both: a capture takes any. */
static bool overlap(const struct route *a, const struct route *b)
{
    if (a->segment_count != b->segment_count)
        return false;
    for (size_t i = 0; i < a->segment_count; i++) {
        const char *x = a->segments[i].literal, *y = b->segments[i].literal;
        if (x && y && strcmp(x, y) != 0)
            return false;
    }
    return true;
}

static enum err check_overlaps(const struct route_map *map, const struct place *at, struct buf *why)
{
    const struct route *last = &map->routes[map->count - 1];
    for (size_t i = 0; i + 1 < map->count; i++)
        if (overlap(&map->routes[i], last))
            return place_refuse(at, why,
                                "a path could be of routes[%zu], too (%s): expected routes of "
                                "which each path has one only",
                                i, map->routes[i].path);
    return OK;
}

static void add_pointers(struct route_map *map, const struct route *route)
{
    for (size_t i = 0; i < route->condition_count; i++)
        strings_add_new(&map->pointers, slice_of(route->conditions[i].pointer));
}

static enum err read_route(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    struct route_map *map = arg;
    map->routes = mem_grow(map->routes, map->count, sizeof(*map->routes));
    struct route *route = &map->routes[map->count++];
    *route = (struct route){0};
    enum err e = route_map_read(route, at, value, why);
    if (e == OK)
        e = check_overlaps(map, at, why);
    if (e == OK)
        add_pointers(map, route);
    return e;
}

static void put_warnings(const struct route_map *map, struct buf *warnings)
{
    for (size_t i = 0; i < map->count; i++)
        if (map->routes[i].is_public)
            buf_printf(warnings,
                       "routes[%zu]: %s is public: everybody may read its topics, without a "
                       "token\n",
                       i, map->routes[i].path);
}

enum err route_map_new(const cJSON *routes, struct route_map **out, struct buf *why,
                       struct buf *warnings)
{
    struct route_map *map = mem_zero(1, sizeof(*map));
    struct place file = PLACE_FILE, at = place_member(&file, "routes");
    enum err e = OK;
    if (routes)
        e = place_read_array(&at, routes, ROUTE_MAP_MAX, read_route, map, why);
    if (e) {
        route_map_free(map);
        return e;
    }
    if (warnings)
        put_warnings(map, warnings);
    *out = map;
    return OK;
}

void route_map_free(struct route_map *map)
{
    if (!map)
        return;
    for (size_t i = 0; i < map->count; i++)
        route_map_reset_route(&map->routes[i]);
    free(map->routes);
    strings_reset(&map->pointers);
    free(map);
}

bool route_map_has_public(const struct route_map *map)
{
    for (size_t i = 0; i < map->count; i++)
        if (map->routes[i].is_public)
            return true;
    return false;
}

const struct strings *route_map_pointers(const struct route_map *map)
{
    return &map->pointers;
}

/* --- finding ---------------------------------------------------------------------------------- */

static bool is_literal(const char *literal, struct slice segment)
{
    struct buf b = {0};
    bool same = route_map_put_segment(&b, segment) && slice_is(buf_slice(&b), literal);
    buf_reset(&b);
    return same;
}

static size_t split(struct slice path, struct slice segments[static ROUTE_SEGMENTS_MAX + 1])
{
    size_t count = 0;
    slice_cut(&path, '/');
    while (path.ptr && count <= ROUTE_SEGMENTS_MAX)
        segments[count++] = slice_cut(&path, '/');
    return count;
}

static const struct route *find_route(const struct route_map *map, const struct slice *segments,
                                      size_t count)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct route *route = &map->routes[i];
        size_t k = 0;
        if (route->segment_count != count)
            continue;
        while (k < count &&
               (!route->segments[k].literal || is_literal(route->segments[k].literal, segments[k])))
            k++;
        if (k == count)
            return route;
    }
    return NULL;
}

/* NULL: *token is appended; else what is wrong, static. */
static const char *capture(struct slice segment, struct strings *tokens)
{
    char *room = mem_alloc(segment.len + 1);
    struct slice token = SLICE_NONE;
    const char *wrong = NULL;
    if (url_decode(segment, URL_PLUS_IS_PLUS, room, &token))
        wrong = "a % needs two hexadecimal digits behind it";
    else if (!name_topic_valid(token) || memchr(token.ptr, '.', token.len) ||
             memchr(token.ptr, '/', token.len))
        wrong = "expected one token of a topic: UTF-8, not empty, without . / * >, spaces and "
                "control characters";
    else
        strings_add(tokens, token);
    free(room);
    return wrong;
}

static bool take_captures(const struct route *route, const struct slice *segments,
                          struct strings *values, struct buf *why)
{
    for (size_t i = 0; i < route->segment_count; i++) {
        if (route->segments[i].literal)
            continue;
        const char *wrong = capture(segments[i], values);
        if (!wrong)
            continue;
        buf_printf(why, "{%s} in the path %s: %s",
                   route->captures.items[route->segments[i].capture], route->path, wrong);
        return false;
    }
    return true;
}

static const char *look(const void *arg, struct slice place, struct strings *values)
{
    const struct route_hit *hit = arg;
    for (size_t i = 0; i < hit->captures.count; i++)
        if (slice_is(place, hit->route->captures.items[i]))
            strings_add(values, slice_of(hit->captures.items[i]));
    return NULL;
}

static bool fill_topics(struct route_hit *hit, struct buf *why)
{
    struct buf ignored = {0};
    size_t filled = 0;
    for (size_t i = 0; i < hit->route->topic_count; i++)
        filled +=
            stencil_fill(hit->route->topics[i], STENCIL_TOKENS, look, hit, &hit->topics, &ignored);
    buf_reset(&ignored);
    if (filled < hit->route->topic_count)
        buf_printf(why, "the path %s: its topics would be longer than %d bytes", hit->route->path,
                   NAME_TOPIC_MAX);
    return filled == hit->route->topic_count;
}

enum route_find route_map_find(const struct route_map *map, struct slice raw_path,
                               struct route_hit *hit, struct buf *why)
{
    struct slice segments[ROUTE_SEGMENTS_MAX + 1];
    if (raw_path.len == 0 || raw_path.ptr[0] != '/')
        return ROUTE_NONE;
    size_t count = split(raw_path, segments);
    const struct route *route = find_route(map, segments, count);
    if (!route)
        return ROUTE_NONE;
    *hit = (struct route_hit){.is_public = route->is_public,
                              .grants = route->grants,
                              .needs_roles = route->condition_count > 0,
                              .heartbeat_event = route->heartbeat_event,
                              .flow = route->flow,
                              .format = route->format,
                              .route = route};
    if (take_captures(route, segments, &hit->captures, why) && fill_topics(hit, why))
        return ROUTE_FOUND;
    route_hit_reset(hit);
    return ROUTE_INVALID;
}

void route_hit_reset(struct route_hit *hit)
{
    strings_reset(&hit->topics);
    strings_reset(&hit->captures);
    *hit = (struct route_hit){0};
}

/* --- who may ---------------------------------------------------------------------------------- */

bool route_map_is_met(const struct route_condition *condition, const struct strings *captures,
                      const struct grant *grant)
{
    const struct grant_fields *fields = grant_fields(grant);
    for (size_t i = 0; i < fields->role_count; i++) {
        if (strcmp(fields->roles[i].name, condition->pointer) != 0)
            continue;
        for (size_t k = 0; k < condition->value_count; k++) {
            const struct route_value *value = &condition->values[k];
            const char *text = value->is_capture ? captures->items[value->capture] : value->text;
            if (strings_have(&fields->roles[i].values, slice_of(text)))
                return true;
        }
    }
    return false;
}

bool route_hit_allows(const struct route_hit *hit, const struct grant *grant)
{
    const struct route *route = hit->route;
    if (route->condition_count && !grant)
        return false;
    for (size_t i = 0; i < route->condition_count; i++)
        if (!route_map_is_met(&route->conditions[i], &hit->captures, grant))
            return false;
    return true;
}
