/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of route_map share: for them only. */
#pragma once
#include "relay/auth/place.h"
#include "relay/auth/route_map.h"
#include "common/stencil.h"

enum { ROUTE_PATH_MAX = 512, ROUTE_SEGMENTS_MAX = 16 };

/* What stands between two slashes. */
struct route_segment {
    char *literal; /* normalized; NULL: a capture */
    size_t capture;
};

struct route_value {
    char *text;
    size_t capture;
    bool is_capture; /* what was captured, in place of `text` */
};

struct route_condition {
    char *pointer;
    struct route_value *values; /* one of which the grant must have there */
    size_t value_count;
};

struct route {
    char *path;
    struct route_segment segments[ROUTE_SEGMENTS_MAX];
    size_t segment_count;
    struct strings captures; /* their names */
    struct stencil **topics;
    size_t topic_count;
    struct route_condition *conditions; /* which must all be met */
    size_t condition_count;
    bool is_public, grants;
    char *heartbeat_event;        /* NULL: as configured */
    struct flow_request flow;     /* what its streams have that do not ask otherwise … */
    struct format_request format; /* … and this, too */
};

struct route_map {
    struct route *routes;
    size_t count;
    struct strings pointers;
};

/* Reads an element of the list. @route is empty, and to be freed whatever comes. */
NODISCARD enum err route_map_read(struct route *route, const struct place *at, const cJSON *value,
                                  struct buf *why);
void route_map_reset_route(struct route *route);

/* Appends a segment of a path so that two that mean the same are the same text: what is unreserved
 * (RFC 3986, 2.3) decoded, all else encoded. False: a % without two hexadecimal digits. */
bool route_map_put_segment(struct buf *b, struct slice segment);
/* Whether what was captured, or any text, meets the condition. */
bool route_map_is_met(const struct route_condition *condition, const struct strings *captures,
                      const struct grant *grant);
