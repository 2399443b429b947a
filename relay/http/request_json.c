/* SPDX-License-Identifier: Apache-2.0 */
/* POST /publish with a JSON body: types are checked strictly, then the fields go the common way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/event.h"
#include "common/mem.h"
#include "relay/http/request_parts.h"

/* A value of a type that the field does not have. */
static enum err wrong_type(struct request_draft *d, enum publication_field field)
{
    struct buf expected = {0};
    publication_put_expected(field, &expected);
    buf_putc(&expected, '\0');
    enum err e = request_draft_refuse(d, field, expected.ptr);
    buf_reset(&expected);
    return e;
}

static enum err json_text(struct request_draft *d, enum publication_field field, const cJSON *value)
{
    if (!cJSON_IsString(value))
        return request_draft_refuse(d, field, "a string");
    return request_draft_set(d, field, slice_of(value->valuestring));
}

static enum err json_topics(struct request_draft *d, const cJSON *list)
{
    if (!cJSON_IsArray(list) || !list->child)
        return request_draft_refuse(d, FIELD_TOPICS, "an array of at least one topic");
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return request_draft_refuse(d, FIELD_TOPICS, "an array of strings");
        enum err e = request_draft_set(d, FIELD_TOPICS, slice_of(item->valuestring));
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
    enum err e = json_raw_member(object, publication_field_name(FIELD_DATA), &raw);
    if (e == OK)
        e = json_put_data(&text, raw);
    if (e == OK)
        e = request_draft_set(d, FIELD_DATA, text.ptr ? buf_slice(&text) : SLICE_LIT(""));
    else
        e = request_draft_refuse(d, FIELD_DATA, "a JSON value");
    buf_reset(&text);
    return e;
}

static enum err json_integer(struct request_draft *d, enum publication_field field,
                             const cJSON *value)
{
    char text[32];
    double n = cJSON_IsNumber(value) ? value->valuedouble : -1;
    if (!(n >= 0 && n <= (double)EVENT_ID_MAX) || n != (double)(uint64_t)n)
        return wrong_type(d, field);
    snprintf(text, sizeof(text), "%.0f", n);
    return request_draft_set(d, field, slice_of(text));
}

static enum err json_field(struct request_draft *d, enum publication_field field,
                           const cJSON *value, struct slice object)
{
    switch (publication_field_kind(field)) {
    case KIND_TOPIC:
    case KIND_TEXT:
    case KIND_PRIORITY:
        return json_text(d, field, value);
    case KIND_TOPICS:
        return json_topics(d, value);
    case KIND_DATA:
        return json_data(d, object);
    case KIND_MS:
    case KIND_COUNT:
        return json_integer(d, field, value);
    case KIND_FLAG:
        if (!cJSON_IsBool(value))
            return wrong_type(d, field);
        return request_draft_set(d, field,
                                 cJSON_IsTrue(value) ? SLICE_LIT("true") : SLICE_LIT("false"));
    case KIND_MATCH:
        return request_draft_end(d, publication_set_match(d->event, value, &d->problem->detail));
    }
    return ERR_INVALID;
}

static enum err json_member(struct request_draft *d, const cJSON *item, struct slice object)
{
    enum publication_field field = publication_field_find(slice_of(item->string));
    if (field == FIELD_COUNT) {
        enum err e = request_refuse(d->problem, 400, "%sunknown field ", d->place);
        request_show(d->problem, slice_of(item->string));
        return e;
    }
    /* Elsewhere a topic that stands again is one more; here a list is for that. */
    if (d->event->given & 1u << field)
        return request_draft_refuse(d, field, "it once, it stands twice");
    return json_field(d, field, item, object);
}

static enum err json_event(struct request_draft *d, const cJSON *object, struct slice text)
{
    if (!cJSON_IsObject(object))
        return request_refuse(d->problem, 400, "%.*s: expected an object",
                              d->place[0] ? (int)strlen(d->place) - 1 : 4,
                              d->place[0] ? d->place : "body");
    for (const cJSON *item = object->child; item; item = item->next) {
        enum err e = json_member(d, item, text);
        if (e != OK)
            return e;
    }
    return request_draft_check(d);
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
        d->event = &out->items[out->count++];
        if (!json_raw_next(&body, &element)) /* one for each item of the tree */
            element = SLICE_NONE;
        enum err e = json_event(d, item, element);
        if (e != OK)
            return e;
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
    if (e == ERR_FULL)
        return request_refuse(problem, 400,
                              "body: expected arrays and objects nested at most %d deep; send deep "
                              "data as a string",
                              JSON_DEPTH_MAX);
    if (e != OK)
        return request_refuse(problem, 400, "body: expected valid JSON");
    if (cJSON_IsArray(tree)) {
        e = json_batch(&d, tree, view->body, out);
    } else if (cJSON_IsObject(tree)) {
        d.event = out->items = mem_zero(1, sizeof(*out->items));
        out->count = 1;
        e = json_event(&d, tree, view->body);
    } else {
        e = request_refuse(problem, 400, "body: expected an object, or an array of objects");
    }
    cJSON_Delete(tree);
    return e;
}
