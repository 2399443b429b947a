/* One event to publish while it is put together: every field is checked here, wherever its text
 * came from. */
#include <stdlib.h>
#include <string.h>
#include "common/event.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/http/request_parts.h"

static const char *const field_names[FIELD_COUNT] = {
    [FIELD_TOPIC] = "topic", [FIELD_TOPICS] = "topics",     [FIELD_DATA] = "data",
    [FIELD_EVENT] = "event", [FIELD_RETRY] = "retry",       [FIELD_EPHEMERAL] = "ephemeral",
    [FIELD_ONCE] = "once",   [FIELD_PRIORITY] = "priority", [FIELD_KEY] = "key",
    [FIELD_TTL] = "ttl",     [FIELD_MATCH] = "match",
};

enum request_field request_field_find(struct slice name)
{
    size_t i = 0;
    while (i < FIELD_COUNT && !slice_is(name, field_names[i]))
        i++;
    return (enum request_field)i;
}

const char *request_field_name(enum request_field field)
{
    return field_names[field];
}

static enum err refuse(struct request_draft *d, enum request_field field, const char *expected)
{
    return request_refuse(d->problem, 400, "%s%s: expected %s", d->place, field_names[field],
                          expected);
}

/* The same, with the value that is wrong. */
static enum err refuse_value(struct request_draft *d, enum request_field field,
                             const char *expected, struct slice value)
{
    enum err e = refuse(d, field, expected);
    buf_puts(&d->problem->detail, ", not ");
    request_show(d->problem, value);
    return e;
}

enum err request_draft_give(struct request_draft *d, enum request_field field, bool repeatable)
{
    unsigned bit = 1u << field, both = 1u << FIELD_TOPIC | 1u << FIELD_TOPICS;
    if ((d->given & bit) && !repeatable)
        return refuse(d, field, "it once, it stands twice");
    d->given |= bit;
    if ((d->given & both) == both)
        return refuse(d, FIELD_TOPICS, "either topic or topics, not both");
    return OK;
}

enum err request_draft_topic(struct request_draft *d, enum request_field field, struct slice topic)
{
    if (!name_topic_valid(topic))
        return refuse_value(d, field,
                            topic.len > 0 && name_pattern_valid(topic)
                                ? "an exact topic (* and > are for subscribers)"
                                : "1 to 512 bytes of UTF-8 in tokens separated by dots, without "
                                  "spaces, control characters, * or >",
                            topic);
    if (strings_have(&d->topics, topic))
        return OK;
    if (d->topics.count >= REQUEST_PUBLISH_TOPICS)
        return refuse(d, field, "at most 64 topics");
    strings_add(&d->topics, topic);
    return OK;
}

enum err request_draft_data(struct request_draft *d, struct slice data)
{
    char *text = mem_alloc(data.len + 1);
    size_t len = 0;
    if (!slice_utf8_valid(data)) {
        free(text);
        return refuse(d, FIELD_DATA, "valid UTF-8");
    }
    for (size_t i = 0; i < data.len; i++)
        if (data.ptr[i] != '\0')
            text[len++] = data.ptr[i];
    text[len] = '\0';
    if (len > d->config->max_event_bytes) {
        free(text);
        return request_refuse(d->problem, 413, "%sdata: %zu bytes, expected at most %llu", d->place,
                              len, (unsigned long long)d->config->max_event_bytes);
    }
    free(d->texts[FIELD_DATA]);
    d->texts[FIELD_DATA] = text;
    return OK;
}

static bool has_line_end(struct slice s)
{
    return memchr(s.ptr, '\r', s.len) || memchr(s.ptr, '\n', s.len) || memchr(s.ptr, '\0', s.len);
}

static bool name_like(struct slice s)
{
    return s.len >= 1 && s.len <= 256 && !slice_has_control(s) && slice_utf8_valid(s);
}

static bool priority_valid(struct slice s)
{
    return slice_is(s, "low") || slice_is(s, "normal") || slice_is(s, "high") ||
           (s.len == 1 && s.ptr[0] >= '0' && s.ptr[0] <= '9');
}

enum err request_draft_match(struct request_draft *d, const cJSON *match)
{
    static const char *const expected =
        "an object of strings with at least one member, such as {\"user_id\":\"42\"}";
    struct buf text = {0};
    if (!cJSON_IsObject(match) || !match->child)
        return refuse(d, FIELD_MATCH, expected);
    for (const cJSON *item = match->child; item; item = item->next) {
        if (!cJSON_IsString(item) || slice_has_control(slice_of(item->valuestring)) ||
            !name_like(slice_of(item->string)) || text.len > REQUEST_MATCH_BYTES) {
            buf_reset(&text);
            return refuse(d, FIELD_MATCH, expected);
        }
        buf_putc(&text, text.len > 0 ? ',' : '{');
        json_put_string(&text, slice_of(item->string));
        buf_putc(&text, ':');
        json_put_string(&text, slice_of(item->valuestring));
    }
    buf_putc(&text, '}');
    if (text.len > REQUEST_MATCH_BYTES) {
        buf_reset(&text);
        return refuse(d, FIELD_MATCH, "at most 4096 bytes of JSON");
    }
    d->texts[FIELD_MATCH] = buf_take(&text, NULL);
    return OK;
}

static enum err match_from_text(struct request_draft *d, struct slice text)
{
    cJSON *tree = NULL;
    if (!slice_utf8_valid(text) || json_parse(text, &tree) != OK)
        return refuse(d, FIELD_MATCH, "a JSON object such as {\"user_id\":\"42\"}");
    enum err e = request_draft_match(d, tree);
    cJSON_Delete(tree);
    return e;
}

/* What is wrong with the text, or NULL. */
static const char *text_problem(enum request_field field, struct slice s)
{
    uint64_t n;
    switch (field) {
    case FIELD_EVENT:
        if (s.len < 1 || s.len > REQUEST_TYPE_MAX || has_line_end(s) || !slice_utf8_valid(s))
            return "1 to 256 bytes of UTF-8 without line breaks";
        return NULL;
    case FIELD_RETRY:
        return slice_u64(s, REQUEST_RETRY_MAX, &n) == OK ? NULL : "milliseconds from 0 to 86400000";
    case FIELD_EPHEMERAL:
        return slice_is(s, "true") || slice_is(s, "1") || slice_is(s, "false") || slice_is(s, "0")
                   ? NULL
                   : "true or false";
    case FIELD_ONCE:
    case FIELD_KEY:
        return name_like(s) ? NULL : "1 to 256 bytes of UTF-8 without control characters";
    case FIELD_PRIORITY:
        return priority_valid(s) ? NULL : "low, normal, high or a number from 0 to 9";
    case FIELD_TTL:
        return slice_u64(s, EVENT_ID_MAX, &n) == OK && n > 0 ? NULL : "milliseconds, at least 1";
    case FIELD_TOPIC:
    case FIELD_TOPICS:
    case FIELD_DATA:
    case FIELD_MATCH:
    case FIELD_COUNT:
        break;
    }
    return "something else"; /* these have functions of their own */
}

enum err request_draft_set(struct request_draft *d, enum request_field field, struct slice text)
{
    if (field == FIELD_TOPIC || field == FIELD_TOPICS)
        return request_draft_topic(d, field, text);
    if (field == FIELD_DATA)
        return request_draft_data(d, text);
    if (field == FIELD_MATCH)
        return match_from_text(d, text);
    const char *wrong = text_problem(field, text);
    if (wrong)
        return refuse_value(d, field, wrong, text);
    if (field == FIELD_EPHEMERAL) {
        bool yes = slice_is(text, "true") || slice_is(text, "1");
        d->texts[field] = yes ? slice_dup(SLICE_LIT("1")) : NULL;
        return OK;
    }
    d->texts[field] = slice_dup(text);
    return OK;
}

/* Moves @text into the list. */
static void give_argument(struct strings *args, const char *name, char *text)
{
    strings_add(args, slice_of(name));
    strings_add(args, SLICE_LIT(""));
    free(args->items[args->count - 1]);
    args->items[args->count - 1] = text;
}

enum err request_draft_finish(struct request_draft *d, struct publication *out)
{
    enum err e = OK;
    if (d->topics.count == 0)
        e = refuse(d, d->given & (1u << FIELD_TOPICS) ? FIELD_TOPICS : FIELD_TOPIC,
                   "at least one topic to publish to");
    else if (!d->texts[FIELD_DATA])
        e = refuse(d, FIELD_DATA, "it, an event needs data (which may be empty)");
    else if (d->texts[FIELD_ONCE] && d->texts[FIELD_EPHEMERAL])
        e = refuse(d, FIELD_ONCE, "it without ephemeral: an ephemeral event has no id to remember");
    if (e == OK) {
        struct strings args = {0};
        for (size_t i = 0; i < d->topics.count; i++) {
            give_argument(&args, "topic", d->topics.items[i]);
            d->topics.items[i] = NULL;
        }
        for (size_t i = FIELD_DATA; i < FIELD_COUNT; i++) {
            if (d->texts[i])
                give_argument(&args, field_names[i], d->texts[i]);
            d->texts[i] = NULL;
        }
        out->args = args;
    }
    request_draft_reset(d);
    return e;
}

void request_draft_reset(struct request_draft *d)
{
    strings_reset(&d->topics);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        free(d->texts[i]);
        d->texts[i] = NULL;
    }
    d->given = 0;
}
