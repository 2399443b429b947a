/* SPDX-License-Identifier: Apache-2.0 */
/* Own URLs for streams: "/projects/{id}/events" and the topics that they stand for. Matched on the
 * raw path: split at "/", then each part decoded once. Immutable after the start. No I/O.
 * docs/protocol.md, 14. */
#pragma once
#include "common/json.h"
#include "relay/core/flow_request.h"
#include "relay/core/format_request.h"
#include "relay/core/grant.h"

struct route_map;

enum { ROUTE_MAP_MAX = 256 }; /* routes */

/* @routes: the array in the auth file; NULL: none. On an error *why says where and what. */
NODISCARD enum err route_map_new(const cJSON *routes, struct route_map **out, struct buf *why,
                                 struct buf *warnings);
void route_map_free(struct route_map *map);

/* A request's path on a route. */
struct route_hit {
    struct strings topics;        /* filled with what was captured; valid patterns */
    bool is_public;               /* nobody is asked who he is */
    bool grants;                  /* its topics need not lie within the grant */
    bool needs_roles;             /* it has `require` */
    const char *heartbeat_event;  /* borrowed; NULL: as configured */
    struct flow_request flow;     /* what its streams have that do not ask otherwise … */
    struct format_request format; /* … and this, too */
    const struct route *route;    /* borrowed; route_map.c's own, as are: */
    struct strings captures;      /* values, in the order of the path */
};

void route_hit_reset(struct route_hit *hit);
/* Whether @grant has what the route requires (true where it requires nothing). */
bool route_hit_allows(const struct route_hit *hit, const struct grant *grant);
/* Whether there is a route that is for everybody. */
bool route_map_has_public(const struct route_map *map);
/* The JSON Pointers of all `require`: a token's values there go into grant_fields.roles. */
const struct strings *route_map_pointers(const struct route_map *map);

enum route_find {
    ROUTE_NONE,    /* no such path */
    ROUTE_INVALID, /* a capture is no topic token: 400; *why says which, and why */
    ROUTE_FOUND,
};
/* @raw_path: as it came, still encoded; without the query. */
enum route_find route_map_find(const struct route_map *map, struct slice raw_path,
                               struct route_hit *hit, struct buf *why);

/* For --explain: appends a line for each route, and whether a stream of @grant may open it. */
void route_map_explain(const struct route_map *map, const struct grant *grant, struct buf *out);
