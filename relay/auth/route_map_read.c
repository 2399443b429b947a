/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/route_map_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_pointer.h"
#include "common/mem.h"
#include "relay/auth/claim_text.h"

/* --- the path --------------------------------------------------------------------------------- */

static bool name_valid(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.len > 0 && name.len <= 64;
}

static size_t find_capture(const struct route *route, struct slice name)
{
    size_t i = 0;
    while (i < route->captures.count && !slice_is(name, route->captures.items[i]))
        i++;
    return i;
}

static enum err read_capture(struct route *route, const struct place *at, struct slice segment,
                             struct buf *why)
{
    struct slice name = {segment.ptr + 1, segment.len - 2};
    if (segment.len < 3 || segment.ptr[segment.len - 1] != '}' || !name_valid(name))
        return place_refuse(at, why,
                            "expected {name} as a whole part of the path, the name of letters, "
                            "digits and _");
    if (find_capture(route, name) < route->captures.count)
        return place_refuse(at, why, "expected a name of its own for each {…}");
    route->segments[route->segment_count++] = (struct route_segment){NULL, route->captures.count};
    strings_add(&route->captures, name);
    return OK;
}

/* Browsers resolve dots before they ask. */
static bool literal_valid(struct slice segment)
{
    if (segment.len == 0 || slice_is(segment, ".") || slice_is(segment, "..") ||
        slice_has_control(segment))
        return false;
    for (size_t i = 0; i < segment.len; i++)
        if (strchr(" \"#<>?[\\]^`{|}", segment.ptr[i]))
            return false;
    return true;
}

static enum err read_segment(struct route *route, const struct place *at, struct slice segment,
                             struct buf *why)
{
    struct buf literal = {0};
    if (route->segment_count == ROUTE_SEGMENTS_MAX)
        return place_refuse(at, why, "expected at most %d parts", ROUTE_SEGMENTS_MAX);
    if (segment.len && segment.ptr[0] == '{')
        return read_capture(route, at, segment, why);
    if (!literal_valid(segment) || !route_map_put_segment(&literal, segment)) {
        buf_reset(&literal);
        return place_refuse(at, why,
                            "expected a path such as /projects/{id}/events, without empty parts, "
                            "and what URLs do not have encoded as %%XX");
    }
    route->segments[route->segment_count++] = (struct route_segment){buf_take(&literal, NULL), 0};
    return OK;
}

static bool is_fixed(const struct route *route)
{
    static const char *const fixed[] = {"events", "publish", "health", "ready",     "metrics",
                                        "stats",  "tickets", "revoke", "client.js", "client.d.ts"};
    const char *first = route->segments[0].literal;
    if (!first)
        return false;
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (route->segment_count == 1 && strcmp(first, fixed[i]) == 0)
            return true;
    return strcmp(first, "connections") == 0 || strcmp(first, "topics") == 0;
}

static enum err read_path(struct route *route, const struct place *above, const cJSON *value,
                          struct buf *why)
{
    struct place at = place_member(above, "path");
    enum err e = place_read_text(above, value, "path", &route->path, why);
    if (e)
        return e;
    struct slice rest = slice_of(route->path);
    if (!rest.ptr || rest.len < 2 || rest.len > ROUTE_PATH_MAX || rest.ptr[0] != '/')
        return place_refuse(&at, why,
                            "expected a path such as /projects/{id}/events, of up to %d bytes",
                            ROUTE_PATH_MAX);
    slice_cut(&rest, '/');
    while (rest.ptr && e == OK)
        e = read_segment(route, &at, slice_cut(&rest, '/'), why);
    if (e == OK && is_fixed(route))
        e = place_refuse(&at, why, "this path is one of the relay's own");
    return e;
}

/* --- topics ----------------------------------------------------------------------------------- */

static enum err check_places(const struct route *route, const struct stencil *topic,
                             const struct place *at, struct buf *why)
{
    for (size_t i = 0; i < stencil_place_count(topic); i++)
        if (find_capture(route, stencil_place(topic, i)) == route->captures.count)
            return place_refuse(at, why, "there is no such {…} in the path");
    return OK;
}

static enum err read_topic(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    struct route *route = arg;
    struct stencil *topic;
    if (!cJSON_IsString(value))
        return place_refuse(at, why, "expected a topic or pattern, such as \"project.{id}\"");
    const char *wrong = stencil_new(slice_of(value->valuestring), &topic);
    if (wrong)
        return place_refuse(at, why, "%s", wrong);
    route->topics = mem_grow(route->topics, route->topic_count, sizeof(struct stencil *));
    route->topics[route->topic_count++] = topic;
    return check_places(route, topic, at, why);
}

/* --- what it requires ------------------------------------------------------------------------- */

static enum err read_value(struct route *route, struct route_condition *condition,
                           const struct place *at, const cJSON *value, struct buf *why)
{
    struct buf text = {0};
    struct route_value v = {0};
    if (!claim_text_put(&text, value, CLAIM_SCALARS))
        return place_refuse(at, why, "expected a text, a whole number, true or false");
    struct slice whole = buf_slice(&text);
    if (whole.len > 2 && whole.ptr[0] == '{' && whole.ptr[whole.len - 1] == '}') {
        v.is_capture = true;
        v.capture = find_capture(route, (struct slice){whole.ptr + 1, whole.len - 2});
    }
    if (v.is_capture && v.capture == route->captures.count) {
        buf_reset(&text);
        return place_refuse(at, why, "there is no such {…} in the path");
    }
    v.text = buf_take(&text, NULL);
    condition->values =
        mem_grow(condition->values, condition->value_count, sizeof(*condition->values));
    condition->values[condition->value_count++] = v;
    return OK;
}

static enum err read_condition(struct route *route, const struct place *at, const cJSON *item,
                               struct buf *why)
{
    size_t i = 0;
    if (!json_pointer_is_setting(slice_of(item->string)))
        return place_refuse(at, why, "expected a JSON Pointer, such as \"/roles\"");
    route->conditions =
        mem_grow(route->conditions, route->condition_count, sizeof(*route->conditions));
    struct route_condition *condition = &route->conditions[route->condition_count++];
    *condition = (struct route_condition){.pointer = slice_dup(slice_of(item->string))};
    if (!cJSON_IsArray(item))
        return read_value(route, condition, at, item, why);
    enum err e = item->child ? OK : place_refuse(at, why, "expected one value at least");
    for (const cJSON *value = item->child; value && e == OK; value = value->next) {
        struct place here = place_element(at, i);
        if (i++ >= CLAIM_TEXT_LIST_MAX)
            return place_refuse(at, why, "expected at most %d values", CLAIM_TEXT_LIST_MAX);
        e = read_value(route, condition, &here, value, why);
    }
    return e;
}

static enum err read_require(struct route *route, const struct place *above, const cJSON *value,
                             struct buf *why)
{
    const cJSON *object = place_find(value, "require");
    struct place at = place_member(above, "require");
    if (!object)
        return OK;
    enum err e = place_check_object(&at, object, NULL, why);
    if (e == OK && !object->child)
        e = place_refuse(&at, why,
                         "expected one claim at least, such as {\"/roles\": [\"viewer\"]}");
    for (const cJSON *item = object->child; item && e == OK; item = item->next) {
        struct place here = place_member(&at, item->string);
        e = read_condition(route, &here, item, why);
    }
    return e;
}

/* --- all of it -------------------------------------------------------------------------------- */

static enum err check_together(const struct route *route, const struct place *at, struct buf *why)
{
    if (!route->topic_count)
        return place_refuse(at, why, "expected topics, one at least");
    if (route->is_public && route->condition_count)
        return place_refuse(at, why,
                            "public and require contradict each other: nobody is asked who he is, "
                            "or somebody is");
    if (route->is_public && !route->grants)
        return place_refuse(at, why,
                            "public needs \"grants\": true: without a token nothing is granted "
                            "that the topics could lie within");
    if (route->grants && !route->is_public && !route->condition_count)
        return place_refuse(at, why,
                            "grants needs require, which says of whom; or \"public\": true, for "
                            "everybody");
    if (strlen(route->heartbeat_event ? route->heartbeat_event : "") > 256)
        return place_refuse(at, why, "expected heartbeat_event to have at most 256 bytes");
    return OK;
}

/* A number, or a boolean, is as good as its text; "%.17g" keeps what makes one that is not whole.
 */
static void put_text(const cJSON *member, struct buf *text)
{
    if (cJSON_IsNumber(member))
        buf_printf(text, "%.17g", member->valuedouble);
    else if (cJSON_IsBool(member))
        buf_puts(text, cJSON_IsTrue(member) ? "true" : "false");
    else if (cJSON_IsString(member))
        buf_puts(text, member->valuestring);
}

static enum err set_flow(struct route *route, const char *name, struct slice text,
                         struct buf *reason)
{
    return flow_request_set(&route->flow, name, text, NULL, reason);
}

static enum err set_format(struct route *route, const char *name, struct slice text,
                           struct buf *reason)
{
    return format_request_set(&route->format, name, text, reason);
}

/* What a request may ask for by parameters of the same names. */
static enum err read_asked(struct route *route, const struct place *above, const cJSON *value,
                           const char *const *names,
                           enum err (*set)(struct route *route, const char *name, struct slice text,
                                           struct buf *reason),
                           struct buf *why)
{
    enum err e = OK;
    for (; *names && e == OK; names++) {
        const cJSON *member = place_find(value, *names);
        struct place at = place_member(above, *names);
        struct buf text = {0}, reason = {0};
        if (!member)
            continue;
        put_text(member, &text);
        e = set(route, *names, buf_slice(&text), &reason);
        if (e != OK)
            e = place_refuse(&at, why, "%.*s", (int)reason.len, reason.ptr);
        buf_reset(&text);
        buf_reset(&reason);
    }
    return e;
}

enum err route_map_read(struct route *route, const struct place *at, const cJSON *value,
                        struct buf *why)
{
    static const char *const known[] = {
        "path",  "topics",  "require",         "public", "grants",          "slow", "buffer",
        "flush", "control", "heartbeat_event", "format", "type_from_topic", NULL};
    static const char *const flow[] = {"slow", "buffer", "flush", "control", NULL};
    enum err e = place_check_object(at, value, known, why);
    if (e == OK)
        e = read_path(route, at, value, why);
    if (e == OK)
        e = place_read_list(at, value, "topics", 64, read_topic, route, why);
    if (e == OK)
        e = read_require(route, at, value, why);
    if (e == OK)
        e = place_read_bool(at, value, "public", &route->is_public, why);
    if (e == OK)
        e = place_read_bool(at, value, "grants", &route->grants, why);
    if (e == OK)
        e = place_read_text(at, value, "heartbeat_event", &route->heartbeat_event, why);
    if (e == OK)
        e = read_asked(route, at, value, flow, set_flow, why);
    if (e == OK)
        e = read_asked(route, at, value, format_request_names, set_format, why);
    return e == OK ? check_together(route, at, why) : e;
}

void route_map_reset_route(struct route *route)
{
    free(route->path);
    for (size_t i = 0; i < route->segment_count; i++)
        free(route->segments[i].literal);
    strings_reset(&route->captures);
    for (size_t i = 0; i < route->topic_count; i++)
        stencil_free(route->topics[i]);
    free(route->topics);
    for (size_t i = 0; i < route->condition_count; i++) {
        struct route_condition *condition = &route->conditions[i];
        for (size_t k = 0; k < condition->value_count; k++)
            free(condition->values[k].text);
        free(condition->values);
        free(condition->pointer);
    }
    free(route->conditions);
    free(route->heartbeat_event);
    *route = (struct route){0};
}
