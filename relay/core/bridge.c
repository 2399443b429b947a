/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/bridge.h"

#include <string.h>

#include "common/glob.h"
#include "common/names.h"
#include "common/stencil.h"

enum { TYPE_MAX = 256 }; /* docs/protocol.md, 8.1 */

/* Where the fields of one message or entry are looked for. */
struct source {
    const struct slice *fields; /* of an entry: names and values in turn */
    size_t count;
    struct slice data; /* what pointers go into; absent: there is none */
    bool is_json;      /* it has been found to be */
};

void bridge_reset(struct bridge *bridge)
{
    envelope_reset(&bridge->envelope);
    buf_reset(&bridge->envelope.match);
    buf_reset(&bridge->topic);
    buf_reset(&bridge->type);
    buf_reset(&bridge->data);
}

static enum err refuse(struct bridge *bridge, const char *why)
{
    bridge->why = why;
    return ERR_INVALID;
}

/* --- fields ----------------------------------------------------------------------------------- */

/* Of two with one name the first. */
static struct slice find_field(const struct source *from, const char *name)
{
    for (size_t i = 0; i + 1 < from->count; i += 2)
        if (slice_is(from->fields[i], name))
            return from->fields[i + 1];
    return SLICE_NONE;
}

/* Looked at once, however many pointers go into it. */
static enum err check_json(struct bridge *bridge, struct source *from)
{
    cJSON *tree;
    if (from->is_json)
        return OK;
    if (!from->data.ptr || json_parse(from->data, &tree))
        return refuse(bridge, "its data is not JSON, into which a pointer could go");
    cJSON_Delete(tree);
    from->is_json = true;
    return OK;
}

/* Appends what @field names. ERR_NOT_FOUND: nothing is there. @any: JSON of every kind; else only a
 * text, or a number as it is written, and a null is nothing. */
static enum err put_pointed(struct bridge *bridge, struct source *from, struct slice pointer,
                            bool any, struct buf *out)
{
    struct slice raw;
    if (check_json(bridge, from))
        return ERR_INVALID;
    if (json_pointer_raw(from->data, pointer, &raw) || (!any && slice_is(raw, "null")))
        return ERR_NOT_FOUND;
    if (!any && !strchr("\"-0123456789", raw.ptr[0]))
        return refuse(bridge, "what a pointer leads to is neither a text nor a number");
    return json_put_data(out, raw) ? refuse(bridge, "its data is not JSON") : OK;
}

static enum err put_field(struct bridge *bridge, struct source *from, const char *field,
                          struct buf *out)
{
    if (field[0] == '/')
        return put_pointed(bridge, from, slice_of(field), false, out);
    struct slice value = find_field(from, field);
    buf_put_slice(out, value.ptr ? value : SLICE_LIT(""));
    return value.ptr ? OK : ERR_NOT_FOUND;
}

/* --- topic ------------------------------------------------------------------------------------ */

struct stars {
    struct slice items[STENCIL_PLACES_MAX];
};

static const char *look_up_star(const void *arg, struct slice place, struct strings *values)
{
    const struct stars *stars = arg;
    struct buf token = {0};
    stencil_put_token(&token, stars->items[place.ptr[0] - '1']); /* {1} to {8} */
    strings_add(values, token.ptr ? buf_slice(&token) : SLICE_LIT(""));
    buf_reset(&token);
    return NULL;
}

static enum err fill_topic(struct bridge *bridge, const struct config_bridge *rule,
                           struct slice channel)
{
    struct stars stars = {{{"", 0}}};
    struct strings filled = {0};
    struct buf why = {0};
    enum err e = OK;
    if (rule->is_glob &&
        !glob_match(slice_of(rule->source), channel, stars.items, STENCIL_PLACES_MAX))
        return refuse(bridge, "its channel is none that the glob stands for");
    if (stencil_fill(rule->topic, STENCIL_TOKENS, look_up_star, &stars, &filled, &why) == 1)
        buf_put_slice(&bridge->topic, slice_of(filled.items[0]));
    else
        e = refuse(bridge, "what a * of the glob stood for is empty, or too long for a topic");
    strings_reset(&filled);
    buf_reset(&why);
    return e;
}

static enum err read_topic(struct bridge *bridge, const struct config_bridge *rule,
                           struct source *from, struct slice channel)
{
    if (rule->topic)
        return fill_topic(bridge, rule, channel);
    enum err e = put_field(bridge, from, rule->topic_field, &bridge->topic);
    if (e == ERR_NOT_FOUND)
        return refuse(bridge, "it names no topic where topic_field looks for one");
    if (e == OK && (!bridge->topic.len || !name_topic_valid(buf_slice(&bridge->topic))))
        return refuse(bridge, "what topic_field names is no topic");
    return e;
}

/* --- type and data ---------------------------------------------------------------------------- */

/* As at the other doors of Redis. */
static void drop_line_ends(struct buf *type)
{
    size_t kept = 0;
    for (size_t i = 0; i < type->len; i++)
        if (type->ptr[i] != '\r' && type->ptr[i] != '\n' && type->ptr[i] != '\0')
            type->ptr[kept++] = type->ptr[i];
    type->len = kept;
}

/* SLICE_NONE: it has none. */
static enum err read_type(struct bridge *bridge, const struct config_bridge *rule,
                          struct source *from, struct slice *out)
{
    *out = slice_of(rule->event);
    if (!rule->event_field)
        return OK;
    enum err e = put_field(bridge, from, rule->event_field, &bridge->type);
    drop_line_ends(&bridge->type);
    if (e == ERR_NOT_FOUND || (e == OK && !bridge->type.len))
        return OK;
    *out = buf_slice(&bridge->type);
    return e;
}

static enum err read_data(struct bridge *bridge, const struct config *config, struct source *from,
                          const char *pointer, struct slice *out)
{
    *out = from->data;
    if (pointer) {
        enum err e = put_pointed(bridge, from, slice_of(pointer), true, &bridge->data);
        if (e)
            return e == ERR_NOT_FOUND ? refuse(bridge, "nothing is where data_field points") : e;
        *out = bridge->data.ptr ? buf_slice(&bridge->data) : SLICE_LIT("");
    }
    if (!out->ptr)
        return refuse(bridge, "it has no data");
    if (out->len > config->max_event_bytes)
        return refuse(bridge, "its data is larger than max_event_bytes");
    return OK;
}

static const char *pointer_of(const char *field)
{
    return field && field[0] == '/' ? field : NULL;
}

static enum err read_all(struct bridge *bridge, const struct config *config,
                         const struct config_bridge *rule, struct source *from,
                         struct slice channel, struct event_fields *out)
{
    buf_clear(&bridge->topic);
    buf_clear(&bridge->type);
    buf_clear(&bridge->data);
    struct slice type, data;
    if (read_topic(bridge, rule, from, channel) || read_type(bridge, rule, from, &type) ||
        read_data(bridge, config, from, pointer_of(rule->data_field), &data))
        return ERR_INVALID;
    out->ns = slice_of(rule->ns);
    out->topic = buf_slice(&bridge->topic);
    out->data = data;
    if (type.ptr && !out->type.len)
        out->type = type;
    if (out->type.len > TYPE_MAX)
        return refuse(bridge, "its type is longer than 256 bytes");
    if (event_type_is_reserved(out->type, config->control_prefix))
        return refuse(bridge, "its type begins like those of the relay's own events");
    return OK;
}

/* --- messages --------------------------------------------------------------------------------- */

/* No log has it, so nothing that is about its place there holds; what else an envelope says comes
 * before what the rule says for all. */
static void settle_message(const struct config_bridge *rule, struct event_fields *f)
{
    f->id = f->prev = f->twin = f->end_after_ms = 0;
    f->has_prev = false;
    f->end = END_NONE;
    if (!f->key.ptr)
        f->key = slice_of(rule->key);
    if (!f->has_lane && rule->has_lane) {
        f->has_lane = true;
        f->lane = rule->lane;
    }
}

enum err bridge_read_message(struct bridge *bridge, const struct config *config,
                             const struct config_bridge *rule, struct slice channel,
                             struct slice payload, struct event_fields *out)
{
    struct event_fields fields;
    if (payload.len > config->max_event_bytes * 8) /* as of door 3, before its tree takes more */
        return refuse(bridge, "it is larger than eight times max_event_bytes");
    enum err e = envelope_parse(&bridge->envelope, payload, SLICE_NONE, SLICE_NONE, &fields);
    if (e && e != ERR_NOT_FOUND)
        return refuse(bridge, "it says that it is an envelope, and is none");
    struct source from = {.data = fields.data};
    if (read_all(bridge, config, rule, &from, channel, &fields))
        return ERR_INVALID;
    settle_message(rule, &fields);
    *out = fields;
    return OK;
}

/* --- entries ---------------------------------------------------------------------------------- */

enum err bridge_read_entry(struct bridge *bridge, const struct config *config,
                           const struct config_bridge *rule, const struct slice *fields,
                           size_t count, struct event_fields *out)
{
    struct source from = {.fields = fields, .count = count};
    struct event_fields f = {.retry_ms = -1};
    from.data = find_field(&from, pointer_of(rule->data_field) ? "data" : rule->data_field);
    if (read_all(bridge, config, rule, &from, SLICE_NONE, &f))
        return ERR_INVALID;
    *out = f;
    return OK;
}
