/* SPDX-License-Identifier: Apache-2.0 */
/* The law of the fields for every door in C. The library in Redis (common/sse_relay.lua) has the
 * same for the doors there; docs/protocol.md, 8.1, is where it is written down, and
 * test/vectors/fields.json holds all of them to it. */
#include <stdlib.h>
#include <string.h>

#include "common/event.h"
#include "common/match.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/publication_fields.h"

/* Bytes that a text must not have. */
enum barred {
    BARRED_LINE_ENDS, /* CR, LF, NUL: what would end a line of the wire format */
    BARRED_CONTROLS,  /* below the space, and DEL */
};

struct rule {
    const char *name;
    enum publication_kind kind;
    uint64_t least, greatest; /* of a number; of texts, their bytes */
    enum barred barred;
    bool redis_only; /* no field of HTTP */
    bool reserved;   /* some are only for the relay's own events: event_type_is_reserved() */
    unsigned excludes, needs;                   /* bits of fields */
    const char *excludes_reason, *needs_reason; /* behind "expected" */
};

#define BIT(field) (1u << (field))
#define NAME_BYTES 256 /* of event, once, key */
#define NOT_EPHEMERAL "it without ephemeral: an ephemeral event has no id and no log"

static const struct rule rules[FIELD_COUNT] = {
    [FIELD_TOPIC] = {.name = "topic", .kind = KIND_TOPIC, .least = 1, .greatest = NAME_TOPIC_MAX},
    [FIELD_TOPICS] = {.name = "topics",
                      .kind = KIND_TOPICS,
                      .least = 1,
                      .greatest = NAME_TOPIC_MAX,
                      .excludes = BIT(FIELD_TOPIC),
                      .excludes_reason = "either topic or topics, not both"},
    [FIELD_DATA] = {.name = "data", .kind = KIND_DATA},
    [FIELD_EVENT] = {.name = "event",
                     .kind = KIND_TEXT,
                     .least = 1,
                     .greatest = NAME_BYTES,
                     .barred = BARRED_LINE_ENDS,
                     .reserved = true},
    [FIELD_RETRY] = {.name = "retry", .kind = KIND_MS, .least = 0, .greatest = EVENT_RETRY_MS_MAX},
    [FIELD_EPHEMERAL] = {.name = "ephemeral", .kind = KIND_FLAG},
    [FIELD_ONCE] = {.name = "once",
                    .kind = KIND_TEXT,
                    .least = 1,
                    .greatest = NAME_BYTES,
                    .barred = BARRED_CONTROLS,
                    .excludes = BIT(FIELD_EPHEMERAL),
                    .excludes_reason =
                        "it without ephemeral: an ephemeral event has no id to remember"},
    [FIELD_ONCE_TTL] = {.name = "once_ttl",
                        .kind = KIND_MS,
                        .least = 1,
                        .greatest = EVENT_ID_MAX,
                        .redis_only = true,
                        .needs = BIT(FIELD_ONCE),
                        .needs_reason = "it together with once, whose key it is about"},
    [FIELD_PRIORITY] = {.name = "priority", .kind = KIND_PRIORITY},
    [FIELD_KEY] = {.name = "key",
                   .kind = KIND_TEXT,
                   .least = 1,
                   .greatest = NAME_BYTES,
                   .barred = BARRED_CONTROLS},
    [FIELD_TTL] = {.name = "ttl", .kind = KIND_MS, .least = 1, .greatest = EVENT_ID_MAX},
    [FIELD_MATCH] = {.name = "match", .kind = KIND_MATCH, .least = 1, .greatest = MATCH_MAX},
    [FIELD_END] = {.name = "end",
                   .kind = KIND_FLAG,
                   .excludes = BIT(FIELD_EPHEMERAL) | BIT(FIELD_MATCH),
                   .excludes_reason = "it without ephemeral and match: all must learn of the end, "
                                      "and later"},
    [FIELD_END_AFTER] = {.name = "end_after",
                         .kind = KIND_MS,
                         .least = 1,
                         .greatest = EVENT_END_AFTER_MS_MAX,
                         .excludes = BIT(FIELD_EPHEMERAL),
                         .excludes_reason = NOT_EPHEMERAL},
    [FIELD_LOG_MAX] = {.name = "log_max",
                       .kind = KIND_COUNT,
                       .least = 1,
                       .greatest = EVENT_ID_MAX,
                       .excludes = BIT(FIELD_EPHEMERAL),
                       .excludes_reason = NOT_EPHEMERAL},
    [FIELD_LOG_TTL] = {.name = "log_ttl",
                       .kind = KIND_MS,
                       .least = 1,
                       .greatest = EVENT_ID_MAX,
                       .excludes = BIT(FIELD_EPHEMERAL),
                       .excludes_reason = NOT_EPHEMERAL},
};

enum publication_field publication_field_find(struct slice name)
{
    size_t i = 0;
    while (i < FIELD_COUNT && (rules[i].redis_only || !slice_is(name, rules[i].name)))
        i++;
    return (enum publication_field)i;
}

const char *publication_field_name(enum publication_field field)
{
    return rules[field].name;
}

enum publication_kind publication_field_kind(enum publication_field field)
{
    return rules[field].kind;
}

void publication_put_expected(enum publication_field field, struct buf *b)
{
    const struct rule *rule = &rules[field];
    unsigned long long least = rule->least, greatest = rule->greatest;
    switch (rule->kind) {
    case KIND_TOPIC:
    case KIND_TOPICS:
        buf_printf(b,
                   "%llu to %llu bytes of UTF-8 in tokens separated by dots, without spaces, "
                   "control characters, * or >",
                   least, greatest);
        break;
    case KIND_DATA:
        buf_puts(b, "valid UTF-8");
        break;
    case KIND_TEXT:
        buf_printf(b, "%llu to %llu bytes of UTF-8 without %s%s", least, greatest,
                   rule->barred == BARRED_LINE_ENDS ? "line breaks" : "control characters",
                   rule->reserved ? " that do not begin with relay." : "");
        break;
    case KIND_MS:
        if (greatest < EVENT_ID_MAX)
            buf_printf(b, "milliseconds from %llu to %llu", least, greatest);
        else
            buf_printf(b, "milliseconds, at least %llu", least);
        break;
    case KIND_COUNT:
        buf_printf(b, "a whole number, at least %llu", least);
        break;
    case KIND_FLAG:
        buf_puts(b, "true or false");
        break;
    case KIND_PRIORITY:
        buf_puts(b, "instant, batched, coalesced or appended");
        break;
    case KIND_MATCH:
        buf_printf(b,
                   "an object of strings with at least one member and none twice, such as "
                   "{\"user_id\":\"42\"}, at most %llu bytes of JSON",
                   greatest);
        break;
    }
}

bool publication_has(const struct publication *p, enum publication_field field)
{
    if (field == FIELD_EPHEMERAL || field == FIELD_END)
        return field == FIELD_END ? p->ends : p->ephemeral;
    return (p->given & BIT(field)) != 0;
}

/* --- refusals -------------------------------------------------------------------------------- */

static enum err refuse_for(enum publication_field field, const char *expected, struct buf *why)
{
    buf_clear(why);
    buf_printf(why, "%s: expected %s", rules[field].name, expected);
    return ERR_INVALID;
}

static enum err refuse(enum publication_field field, struct buf *why)
{
    refuse_for(field, "", why);
    publication_put_expected(field, why);
    return ERR_INVALID;
}

/* Goes on with the sentence: a stranger's text, quoted, not too long. */
static enum err refuse_value(struct buf *why, struct slice value)
{
    enum { SHOWN_MAX = 80 };
    struct slice shown = {value.ptr ? value.ptr : "",
                          value.len < SHOWN_MAX ? value.len : SHOWN_MAX};
    buf_puts(why, ", not ");
    json_put_string(why, shown);
    if (shown.len < value.len)
        buf_puts(why, "...");
    return ERR_INVALID;
}

static enum err give(struct publication *p, enum publication_field field, struct buf *why)
{
    enum publication_kind kind = rules[field].kind;
    if ((p->given & BIT(field)) && kind != KIND_TOPIC && kind != KIND_TOPICS)
        return refuse_for(field, "it once, it stands twice", why);
    p->given |= BIT(field);
    return OK;
}

/* --- values ---------------------------------------------------------------------------------- */

static bool has_barred(struct slice s, enum barred barred)
{
    if (barred == BARRED_CONTROLS)
        return slice_has_control(s);
    return memchr(s.ptr, '\r', s.len) || memchr(s.ptr, '\n', s.len) || memchr(s.ptr, '\0', s.len);
}

bool publication_text_valid(enum publication_field field, struct slice text)
{
    const struct rule *rule = &rules[field];
    return text.ptr && text.len >= rule->least && text.len <= rule->greatest &&
           !has_barred(text, rule->barred) && slice_utf8_valid(text);
}

static struct slice text_copy(struct slice text)
{
    return (struct slice){mem_dup(text.ptr, text.len), text.len};
}

static enum err set_topic(struct publication *p, enum publication_field field, struct slice topic,
                          struct buf *why)
{
    if (!name_topic_valid(topic)) {
        if (topic.len > 0 && name_pattern_valid(topic))
            refuse_for(field, "an exact topic (* and > are for subscribers)", why);
        else
            refuse(field, why);
        return refuse_value(why, topic);
    }
    if (strings_have(&p->topics, topic))
        return OK;
    if (p->topics.count >= PUBLICATION_TOPICS_MAX) {
        refuse_for(field, "", why);
        buf_printf(why, "at most %d topics", PUBLICATION_TOPICS_MAX);
        return ERR_INVALID;
    }
    strings_add(&p->topics, topic);
    return OK;
}

enum err publication_set_data(struct publication *p, struct slice data, uint64_t max_bytes,
                              struct buf *why)
{
    enum err e = give(p, FIELD_DATA, why);
    if (e != OK)
        return e;
    if (!slice_utf8_valid(data))
        return refuse(FIELD_DATA, why);
    char *text = mem_alloc(data.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < data.len; i++)
        if (data.ptr[i] != '\0')
            text[len++] = data.ptr[i];
    text[len] = '\0';
    if (len > max_bytes) {
        free(text);
        buf_clear(why);
        buf_printf(why, "%s: %zu bytes, expected at most %llu", rules[FIELD_DATA].name, len,
                   (unsigned long long)max_bytes);
        return ERR_RANGE;
    }
    p->data = (struct slice){text, len};
    return OK;
}

/* --- match ----------------------------------------------------------------------------------- */

/* Appends it without white space. False: it is not right. */
static bool put_match(const cJSON *match, struct buf *b)
{
    if (!match_is_valid(match))
        return false;
    for (const cJSON *item = match->child; item; item = item->next) {
        buf_putc(b, b->len > 0 ? ',' : '{');
        json_put_string(b, slice_of(item->string));
        buf_putc(b, ':');
        json_put_string(b, slice_of(item->valuestring));
        if (b->len >= rules[FIELD_MATCH].greatest) /* without the brace */
            return false;
    }
    buf_putc(b, '}');
    return true;
}

enum err publication_set_match(struct publication *p, const cJSON *match, struct buf *why)
{
    struct buf text = {0};
    size_t len;
    enum err e = give(p, FIELD_MATCH, why);
    if (e != OK)
        return e;
    if (!put_match(match, &text)) {
        buf_reset(&text);
        return refuse(FIELD_MATCH, why);
    }
    char *bytes = buf_take(&text, &len);
    p->match = (struct slice){bytes, len};
    return OK;
}

static enum err set_match_text(struct publication *p, struct slice text, struct buf *why)
{
    cJSON *tree = NULL;
    if (json_parse(text, &tree) != OK)
        return refuse(FIELD_MATCH, why);
    enum err e = publication_set_match(p, tree, why);
    cJSON_Delete(tree);
    return e;
}

/* --- all of it ------------------------------------------------------------------------------- */

static struct slice *text_field(struct publication *p, enum publication_field field)
{
    return field == FIELD_EVENT ? &p->event : field == FIELD_ONCE ? &p->once : &p->key;
}

static uint64_t *number_field(struct publication *p, enum publication_field field)
{
    switch (field) {
    case FIELD_RETRY:
        return &p->retry_ms;
    case FIELD_TTL:
        return &p->ttl_ms;
    case FIELD_END_AFTER:
        return &p->end_after_ms;
    case FIELD_LOG_MAX:
        return &p->log_max;
    case FIELD_LOG_TTL:
        return &p->log_ttl_ms;
    default:
        return &p->once_ttl_ms;
    }
}

/* False: it is no flag. */
static bool set_flag(bool *flag, struct slice text)
{
    *flag = slice_is(text, "true") || slice_is(text, "1");
    return *flag || slice_is(text, "false") || slice_is(text, "0");
}

/* False: not right. */
static bool set_plain(struct publication *p, enum publication_field field, struct slice text)
{
    const struct rule *rule = &rules[field];
    uint64_t n;
    if (rule->kind == KIND_TEXT) {
        if (!publication_text_valid(field, text) ||
            (rule->reserved && event_type_is_reserved(text, NULL)))
            return false;
        *text_field(p, field) = text_copy(text);
    } else if (rule->kind == KIND_MS || rule->kind == KIND_COUNT) {
        if (slice_u64(text, rule->greatest, &n) != OK || n < rule->least)
            return false;
        *number_field(p, field) = n;
    } else if (rule->kind == KIND_FLAG) {
        return set_flag(field == FIELD_END ? &p->ends : &p->ephemeral, text);
    } else {
        return lane_parse(text, &p->lane) == OK;
    }
    return true;
}

enum err publication_set(struct publication *p, enum publication_field field, struct slice text,
                         struct buf *why)
{
    enum publication_kind kind = rules[field].kind;
    enum err e;
    if (kind == KIND_DATA)
        return publication_set_data(p, text, UINT64_MAX, why);
    if (kind == KIND_MATCH)
        return set_match_text(p, text, why);
    if ((e = give(p, field, why)) != OK)
        return e;
    if (kind == KIND_TOPIC || kind == KIND_TOPICS)
        return set_topic(p, field, text, why);
    if (set_plain(p, field, text))
        return OK;
    refuse(field, why);
    return refuse_value(why, text);
}

/* Whether one of the fields in @bits says something. */
static bool has_any(const struct publication *p, unsigned bits)
{
    for (enum publication_field field = 0; field < FIELD_COUNT; field++)
        if ((bits & BIT(field)) && publication_has(p, field))
            return true;
    return false;
}

/* What no other field has a say in, but the configuration. */
static enum err check_bounds(const struct publication *p, const struct publication_bounds *bounds,
                             struct buf *why)
{
    enum publication_field field = p->log_max > bounds->log_max ? FIELD_LOG_MAX : FIELD_LOG_TTL;
    if (p->log_max <= bounds->log_max && p->log_ttl_ms <= bounds->log_ttl_ms)
        return OK;
    refuse_for(field, "", why);
    buf_printf(why, "at most %llu here (%s)",
               (unsigned long long)(field == FIELD_LOG_MAX ? bounds->log_max : bounds->log_ttl_ms),
               field == FIELD_LOG_MAX ? "log.max_events_limit" : "milliseconds, index.ttl");
    return ERR_INVALID;
}

enum err publication_check(const struct publication *p, const struct publication_bounds *bounds,
                           struct buf *why)
{
    for (enum publication_field field = 0; field < FIELD_COUNT; field++) {
        if (!publication_has(p, field))
            continue;
        if (rules[field].excludes && has_any(p, rules[field].excludes))
            return refuse_for(field, rules[field].excludes_reason, why);
        if (rules[field].needs && !has_any(p, rules[field].needs))
            return refuse_for(field, rules[field].needs_reason, why);
    }
    bool merges = p->lane == LANE_COALESCED || p->lane == LANE_APPENDED;
    if (merges && p->topics.count > 1)
        return refuse_for(FIELD_PRIORITY,
                          "one topic, of which coalesced and appended events are a part", why);
    if (p->lane == LANE_APPENDED && has_any(p, BIT(FIELD_TTL) | BIT(FIELD_RETRY)))
        return refuse_for(FIELD_PRIORITY, "appended without ttl and retry", why);
    if (p->topics.count == 0)
        return refuse_for(publication_has(p, FIELD_TOPICS) ? FIELD_TOPICS : FIELD_TOPIC,
                          "at least one topic to publish to", why);
    if (!p->data.ptr)
        return refuse_for(FIELD_DATA, "it, an event needs data (which may be empty)", why);
    return check_bounds(p, bounds, why);
}
