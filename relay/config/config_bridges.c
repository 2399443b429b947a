/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_bridges.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/event.h"
#include "common/glob.h"
#include "common/json.h"
#include "common/json_pointer.h"
#include "common/mem.h"
#include "common/names.h"
#include "common/nearest.h"
#include "common/stencil.h"

enum {
    CHANNEL_MAX = 512,
    STREAM_MAX = 128,
    GROUP_MAX = 64, /* as name_put_bridge() writes it */
    TEXT_MAX = 256, /* of an event's type and key: docs/protocol.md, 8.1 */
    ENTRY_ID_MAX = 41,
};
static_assert(sizeof("bridge:::") + GROUP_MAX + STREAM_MAX + ENTRY_ID_MAX <= TEXT_MAX,
              "they make a `once` key, which has the same bound");

/* --- the members of an object ----------------------------------------------------------------- */

/* As they were given; NULL: not at all. */
struct draft {
    const char *channel, *stream, *group, *ns, *topic, *topic_field, *data_field, *event,
        *event_field, *priority, *key;
};

static const struct {
    const char *name;
    size_t offset;
} members[] = {
    {"channel", offsetof(struct draft, channel)},
    {"stream", offsetof(struct draft, stream)},
    {"group", offsetof(struct draft, group)},
    {"ns", offsetof(struct draft, ns)},
    {"topic", offsetof(struct draft, topic)},
    {"topic_field", offsetof(struct draft, topic_field)},
    {"data_field", offsetof(struct draft, data_field)},
    {"event", offsetof(struct draft, event)},
    {"event_field", offsetof(struct draft, event_field)},
    {"priority", offsetof(struct draft, priority)},
    {"key", offsetof(struct draft, key)},
};
enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

/* Where something is wrong. */
struct place {
    size_t index;
    struct buf *why;
};

/* "bridges[1].topic: …"; @member NULL: the whole of it. */
__attribute__((format(printf, 3, 4))) static enum err
refuse(const struct place *at, const char *member, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    buf_printf(at->why, "bridges[%zu]%s%s: %s", at->index, member ? "." : "", member ? member : "",
               text);
    return ERR_INVALID;
}

static enum err refuse_unknown(const struct place *at, const char *name)
{
    struct nearest near = nearest_to(slice_of(name));
    for (size_t i = 0; i < MEMBERS; i++)
        nearest_consider(&near, members[i].name);
    if (near.best)
        return refuse(at, NULL, "unknown member \"%.64s\": did you mean \"%s\"?", name, near.best);
    return refuse(at, NULL, "unknown member \"%.64s\"", name);
}

static const char **draft_member(struct draft *draft, const char *name)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (strcmp(name, members[i].name) == 0)
            return (const char **)(void *)((char *)draft + members[i].offset);
    return NULL;
}

static enum err draft_read(const cJSON *object, const struct place *at, struct draft *draft)
{
    if (!cJSON_IsObject(object))
        return refuse(at, NULL, "expected an object");
    for (const cJSON *item = object->child; item; item = item->next) {
        const char **member = draft_member(draft, item->string);
        if (!member)
            return refuse_unknown(at, item->string);
        if (*member)
            return refuse(at, item->string, "stands twice");
        if (!cJSON_IsString(item))
            return refuse(at, item->string, "expected a text");
        *member = item->valuestring;
    }
    return OK;
}

/* --- what each may be ------------------------------------------------------------------------- */

static bool text_valid(const char *text, size_t max)
{
    struct slice s = slice_of(text);
    return s.len >= 1 && s.len <= max && !slice_has_control(s);
}

static enum err check_text(const struct place *at, const char *member, const char *text, size_t max)
{
    if (!text || text_valid(text, max))
        return OK;
    return refuse(at, member, "expected 1 to %zu bytes without control characters", max);
}

static enum err check_group(const struct place *at, const char *group)
{
    size_t len = strlen(group);
    for (const char *c = group; *c; c++)
        len += *c == ':' || *c == '%' ? 2 : 0;
    if (len <= GROUP_MAX && text_valid(group, GROUP_MAX))
        return OK;
    return refuse(
        at, "group",
        "expected 1 to %d bytes without control characters, of which : and %% count three",
        GROUP_MAX);
}

static enum err check_kind(const struct place *at, const struct draft *d)
{
    if (!d->channel == !d->stream)
        return refuse(at, NULL, "expected either channel or stream");
    if (d->stream && !d->group)
        return refuse(at, "group", "missing: the consumer group that reads the stream");
    if (d->channel && d->group)
        return refuse(at, "group", "only with stream");
    if (check_text(at, "channel", d->channel, CHANNEL_MAX) ||
        check_text(at, "stream", d->stream, STREAM_MAX) || (d->group && check_group(at, d->group)))
        return ERR_INVALID;
    if (d->ns && !name_ns_valid(slice_of(d->ns)))
        return refuse(at, "ns", "expected 1 to 64 characters of A-Z a-z 0-9 _ -");
    return OK;
}

/* @other: what says the same for all. */
static enum err check_field(const struct place *at, const struct draft *d, const char *member,
                            const char *text, const char *other, bool has_other)
{
    if (!text)
        return OK;
    if (has_other)
        return refuse(at, member, "together with %s, which says it for all", other);
    if (check_text(at, member, text, JSON_POINTER_MAX))
        return ERR_INVALID;
    if (text[0] == '/' && !json_pointer_is_setting(slice_of(text)))
        return refuse(at, member,
                      "expected a JSON Pointer such as /order/region, with ~0 for ~ "
                      "and ~1 for a / in a name");
    if (text[0] != '/' && d->channel)
        return refuse(at, member,
                      "expected a JSON Pointer such as /region: a message of a "
                      "channel has no fields");
    return OK;
}

static enum err check_event(const struct place *at, const struct draft *d)
{
    if (check_text(at, "event", d->event, TEXT_MAX) || check_text(at, "key", d->key, TEXT_MAX))
        return ERR_INVALID;
    if (d->event && event_type_is_reserved(slice_of(d->event), NULL))
        return refuse(at, "event", "begins like the types of the relay's own events");
    enum lane_kind ignored;
    if (d->priority && lane_parse(slice_of(d->priority), &ignored))
        return refuse(at, "priority", "expected instant, batched, coalesced or appended");
    return OK;
}

static enum err check_fields(const struct place *at, const struct draft *d)
{
    if (!d->topic && !d->topic_field)
        return refuse(at, "topic", "missing: expected topic or topic_field");
    if (check_field(at, d, "topic_field", d->topic_field, "topic", d->topic) ||
        check_field(at, d, "event_field", d->event_field, "event", d->event))
        return ERR_INVALID;
    return check_field(at, d, "data_field", d->data_field, "", false);
}

/* --- topics ----------------------------------------------------------------------------------- */

static const char *look_x(const void *arg, struct slice place, struct strings *values)
{
    (void)arg, (void)place;
    strings_add(values, SLICE_LIT("x"));
    return NULL;
}

/* Not a pattern, whatever stands in its places. */
static bool is_topic(const struct stencil *t)
{
    struct strings filled = {0};
    struct buf why = {0};
    bool valid = stencil_fill(t, STENCIL_TOKENS, look_x, NULL, &filled, &why) == 1 &&
                 name_topic_valid(slice_of(filled.items[0]));
    strings_reset(&filled);
    buf_reset(&why);
    return valid;
}

static enum err check_places(const struct place *at, const struct stencil *t, size_t stars)
{
    uint64_t number;
    for (size_t i = 0; i < stencil_place_count(t); i++) {
        struct slice name = stencil_place(t, i);
        if (slice_u64(name, STENCIL_PLACES_MAX, &number) || number == 0)
            return refuse(at, "topic", "expected {1} to {8}, not {%.*s}", (int)name.len, name.ptr);
        if (number > stars)
            return refuse(at, "topic",
                          "{%.*s} is what a * of the channel stood for, and it has %zu of them",
                          (int)name.len, name.ptr, stars);
    }
    return OK;
}

static enum err topic_read(const struct place *at, const struct draft *d, struct stencil **out)
{
    size_t stars = d->channel ? glob_stars(slice_of(d->channel)) : 0;
    struct stencil *t = NULL;
    const char *wrong = d->topic ? stencil_new(slice_of(d->topic), &t) : NULL;
    enum err e = OK;
    if (wrong)
        e = refuse(at, "topic", "%s", wrong);
    else if (t && !is_topic(t))
        e = refuse(at, "topic", "expected an exact topic (* and > are for subscribers)");
    else if (t)
        e = check_places(at, t, stars);
    if (e)
        stencil_free(t);
    else
        *out = t;
    return e;
}

/* --- all of it -------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    return text ? slice_dup(slice_of(text)) : NULL;
}

static void bridge_fill(struct config_bridge *bridge, const struct draft *d, struct stencil *topic)
{
    *bridge = (struct config_bridge){
        .is_stream = d->stream != NULL,
        .is_glob = d->channel && glob_is_pattern(slice_of(d->channel)),
        .source = copy(d->channel ? d->channel : d->stream),
        .group = copy(d->group),
        .ns = copy(d->ns ? d->ns : "default"),
        .topic = topic,
        .event = copy(d->event),
        .key = copy(d->key),
        .topic_field = copy(d->topic_field),
        .event_field = copy(d->event_field),
        .data_field = copy(d->data_field ? d->data_field
                           : d->stream   ? "data"
                                         : NULL),
        .has_lane = d->priority != NULL,
    };
    if (d->priority && lane_parse(slice_of(d->priority), &bridge->lane))
        abort(); /* check_event() */
}

static enum err bridge_read(const cJSON *object, const struct place *at, struct config_bridge *out)
{
    struct draft d = {0};
    struct stencil *topic = NULL;
    if (draft_read(object, at, &d) || check_kind(at, &d) || check_fields(at, &d) ||
        check_event(at, &d) || topic_read(at, &d, &topic))
        return ERR_INVALID;
    bridge_fill(out, &d, topic);
    return OK;
}

static void bridge_reset(struct config_bridge *b)
{
    stencil_free(b->topic);
    char *texts[] = {b->source, b->group,       b->ns,          b->event,
                     b->key,    b->topic_field, b->event_field, b->data_field};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        free(texts[i]);
}

static void list_free(struct config_bridge *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bridge_reset(&list[i]);
    free(list);
}

/* Two readers of one group would get some of its entries each. */
static enum err check_repeats(const struct place *at, const struct config_bridge *list)
{
    const struct config_bridge *b = &list[at->index];
    for (size_t i = 0; i < at->index && b->is_stream; i++)
        if (list[i].is_stream && strcmp(list[i].source, b->source) == 0 &&
            strcmp(list[i].group, b->group) == 0)
            return refuse(at, "group", "the same stream and group as bridges[%zu]", i);
    return OK;
}

static enum err tree_parse(struct slice text, cJSON **out, struct buf *why)
{
    size_t wrong_at = 0;
    cJSON *tree = NULL;
    enum err e = json_parse_where(text, &tree, &wrong_at);
    if (e == OK && cJSON_IsArray(tree) && cJSON_GetArraySize(tree) <= CONFIG_BRIDGES_MAX) {
        *out = tree;
        return OK;
    }
    if (e == ERR_INVALID)
        buf_printf(why, "bridges: not valid JSON from byte %zu on: expected an array of objects",
                   wrong_at + 1);
    else
        buf_printf(why, "bridges: expected a JSON array of at most %d objects", CONFIG_BRIDGES_MAX);
    cJSON_Delete(tree);
    return ERR_INVALID;
}

/* @text: not empty. */
static enum err list_parse(const cJSON *tree, struct config_bridge **list, size_t *count,
                           struct buf *why)
{
    struct config_bridge *found = mem_zero(CONFIG_BRIDGES_MAX, sizeof(*found));
    struct place at = {.why = why};
    enum err e = OK;
    for (const cJSON *item = tree->child; item && e == OK; item = item->next) {
        e = bridge_read(item, &at, &found[at.index]);
        if (e == OK)
            e = check_repeats(&at, found);
        at.index++;
    }
    if (e) {
        list_free(found, at.index);
        return e;
    }
    *list = found;
    *count = at.index;
    return OK;
}

static enum err parse(struct slice text, struct buf *out, struct config_bridge **list,
                      size_t *count, struct buf *why)
{
    cJSON *tree;
    enum err e = tree_parse(text, &tree, why);
    if (e)
        return e;
    e = list_parse(tree, list, count, why);
    if (e == OK && out) {
        char *kept = cJSON_PrintUnformatted(tree);
        buf_puts(out, kept);
        cJSON_free(kept);
    }
    cJSON_Delete(tree);
    return e;
}

enum err config_bridges_normalize(struct slice text, struct buf *out, struct buf *why)
{
    struct config_bridge *list;
    size_t count;
    if (!slice_trim(text).len) {
        buf_puts(out, "[]");
        return OK;
    }
    enum err e = parse(text, out, &list, &count, why);
    if (e == OK)
        list_free(list, count);
    return e;
}

static enum err fit(const struct config *config, const struct config_bridge *b,
                    const struct place *at)
{
    if (name_is_own(slice_of(b->source), config->prefix))
        return refuse(at, b->is_stream ? "stream" : "channel",
                      "begins like the keys and channels of relays (prefix=%s): events come from "
                      "those without a bridge",
                      config->prefix);
    if (b->event && event_type_is_reserved(slice_of(b->event), config->control_prefix))
        return refuse(at, "event",
                      "begins like the types of the relay's own events "
                      "(control_prefix)");
    return OK;
}

enum err config_bridges_fit(const struct config *config, struct buf *why)
{
    struct config_bridge *list;
    size_t count;
    struct place at = {.why = why};
    enum err e = parse(slice_of(config->bridges), NULL, &list, &count, why);
    if (e)
        return e;
    if (count && strcmp(config->redis, "memory:") == 0)
        e = refuse(&at, NULL,
                   "with redis=memory: there are no channels and streams of others: "
                   "bridges need a Redis");
    for (; at.index < count && e == OK; at.index++)
        e = fit(config, &list[at.index], &at);
    list_free(list, count);
    return e;
}

void config_bridges_read(struct config *config)
{
    struct buf ignored = {0};
    assert(!config->bridge_list);
    enum err e = parse(slice_of(config->bridges), NULL, &config->bridge_list, &config->bridge_count,
                       &ignored);
    assert(e == OK && "the table has checked it");
    (void)e;
    buf_reset(&ignored);
}

void config_bridges_free(struct config *config)
{
    list_free(config->bridge_list, config->bridge_count);
}
