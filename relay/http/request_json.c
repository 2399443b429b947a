/* POST /publish with a JSON body: types are checked strictly, then the fields go the common way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/event.h"
#include "common/mem.h"
#include "relay/http/request_parts.h"

static enum err wrong_type(struct request_draft *d, enum request_field field, const char *expected)
{
    return request_refuse(d->problem, 400, "%s%s: expected %s", d->place, request_field_name(field),
                          expected);
}

static enum err json_topics(struct request_draft *d, const cJSON *list)
{
    if (!cJSON_IsArray(list) || !list->child)
        return wrong_type(d, FIELD_TOPICS, "an array of at least one topic");
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return wrong_type(d, FIELD_TOPICS, "an array of strings");
        enum err e = request_draft_topic(d, FIELD_TOPICS, slice_of(item->valuestring));
        if (e != OK)
            return e;
    }
    return OK;
}

/* The raw text, not cJSON's value: a double would change the digits of large numbers. */
static enum err json_data(struct request_draft *d, struct slice object)
{
    struct slice raw;
    struct buf text = {0};
    enum err e = json_raw_member(object, "data", &raw);
    if (e == OK)
        e = json_put_data(&text, raw);
    if (e == OK)
        e = request_draft_data(d, text.ptr ? buf_slice(&text) : SLICE_LIT(""));
    else
        e = wrong_type(d, FIELD_DATA, "a JSON value");
    buf_reset(&text);
    return e;
}

static enum err json_text(struct request_draft *d, enum request_field field, const cJSON *value)
{
    if (!cJSON_IsString(value))
        return wrong_type(d, field, "a string");
    return request_draft_set(d, field, slice_of(value->valuestring));
}

static enum err json_integer(struct request_draft *d, enum request_field field, const cJSON *value)
{
    char text[32];
    double n = cJSON_IsNumber(value) ? value->valuedouble : -1;
    if (!(n >= 0 && n <= (double)EVENT_ID_MAX) || n != (double)(uint64_t)n)
        return wrong_type(d, field,
                          field == FIELD_RETRY      ? "milliseconds from 0 to 86400000"
                          : field == FIELD_PRIORITY ? "low, normal, high or a number from 0 to 9"
                                                    : "milliseconds, at least 1");
    snprintf(text, sizeof(text), "%.0f", n);
    return request_draft_set(d, field, slice_of(text));
}

static enum err json_field(struct request_draft *d, enum request_field field, const cJSON *value,
                           struct slice object)
{
    switch (field) {
    case FIELD_TOPIC:
    case FIELD_EVENT:
    case FIELD_ONCE:
    case FIELD_KEY:
        return json_text(d, field, value);
    case FIELD_TOPICS:
        return json_topics(d, value);
    case FIELD_DATA:
        return json_data(d, object);
    case FIELD_RETRY:
    case FIELD_TTL:
        return json_integer(d, field, value);
    case FIELD_PRIORITY:
        return cJSON_IsString(value) ? json_text(d, field, value) : json_integer(d, field, value);
    case FIELD_EPHEMERAL:
        if (!cJSON_IsBool(value))
            return wrong_type(d, field, "true or false");
        return request_draft_set(d, field,
                                 cJSON_IsTrue(value) ? SLICE_LIT("true") : SLICE_LIT("false"));
    case FIELD_MATCH:
        return request_draft_match(d, value);
    case FIELD_COUNT:
        break;
    }
    return ERR_INVALID;
}

static enum err json_event(struct request_draft *d, const cJSON *object, struct slice text,
                           struct publication *out)
{
    if (!cJSON_IsObject(object))
        return request_refuse(d->problem, 400, "%.*s: expected an object",
                              d->place[0] ? (int)strlen(d->place) - 1 : 4,
                              d->place[0] ? d->place : "body");
    for (const cJSON *item = object->child; item; item = item->next) {
        enum request_field field = request_field_find(slice_of(item->string));
        enum err e;
        if (field == FIELD_COUNT) {
            e = request_refuse(d->problem, 400, "%sunknown field ", d->place);
            request_show(d->problem, slice_of(item->string));
        } else {
            e = request_draft_give(d, field, false);
        }
        if (e == OK)
            e = json_field(d, field, item, text);
        if (e != OK)
            return e;
    }
    return request_draft_finish(d, out);
}

static enum err json_batch(struct request_draft *d, const cJSON *array, struct slice body,
                           struct publication_request *out)
{
    size_t count = (size_t)cJSON_GetArraySize(array), i = 0;
    struct slice element;
    if (count == 0)
        return request_refuse(d->problem, 400, "body: expected at least one event in the array");
    if (count > REQUEST_BATCH_MAX)
        return request_refuse(d->problem, 400, "body: expected at most %d events in the array",
                              REQUEST_BATCH_MAX);
    out->batch = true;
    out->items = mem_zero(count, sizeof(*out->items));
    for (const cJSON *item = array->child; item; item = item->next, i++) {
        snprintf(d->place, sizeof(d->place), "[%zu].", i);
        if (!json_raw_next(&body, &element)) /* one for each item of the tree */
            element = SLICE_NONE;
        enum err e = json_event(d, item, element, &out->items[i]);
        if (e != OK)
            return e;
        out->count++;
    }
    return OK;
}

enum err request_parse_json(const struct request_view *view, const struct config *config,
                            struct publication_request *out, struct problem *problem)
{
    struct request_draft d = {.config = config, .problem = problem};
    cJSON *tree = NULL;
    enum err e;
    if (!view->body.ptr || view->body.len == 0)
        return request_refuse(problem, 400, "body: empty, expected a JSON object or array");
    if (!slice_utf8_valid(view->body))
        return request_refuse(problem, 400, "body: expected valid UTF-8");
    if ((e = json_parse(view->body, &tree)) == ERR_RANGE)
        return request_refuse(problem, 400,
                              "body: expected at most %d JSON values; send large data as a string",
                              JSON_VALUES_MAX);
    if (e != OK)
        return request_refuse(problem, 400, "body: expected valid JSON");
    if (cJSON_IsArray(tree)) {
        e = json_batch(&d, tree, view->body, out);
    } else if (cJSON_IsObject(tree)) {
        out->items = mem_zero(1, sizeof(*out->items));
        e = json_event(&d, tree, view->body, &out->items[0]);
        out->count = e == OK;
    } else {
        e = request_refuse(problem, 400, "body: expected an object, or an array of objects");
    }
    request_draft_reset(&d);
    cJSON_Delete(tree);
    return e;
}
