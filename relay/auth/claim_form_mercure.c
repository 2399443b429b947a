/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of Mercure: `mercure.subscribe` and `mercure.publish` with topic selectors, and since its
 * version 1.0 `authorization_details` (RFC 9396) with matchers. Exact topics and `*` for all. */
#include "relay/auth/claim_form_parts.h"

#include <string.h>

#include "common/names.h"

static void add_topic(struct draft *d, enum draft_list list, const char *topic,
                      const struct place *from)
{
    struct slice name = slice_of(topic);
    if (slice_is(name, "*"))
        draft_add_pattern(d, list, SLICE_LIT(">"), from);
    else if (name.len && name_topic_valid(name))
        draft_add_pattern(d, list, name, from);
    else
        draft_refuse(d, name, from, "only topics count, and * for all");
}

/* {"match": topic}, with "matchType": "exact" or none, and nothing else. */
static const char *matcher_topic(const cJSON *matcher)
{
    const cJSON *topic = cJSON_GetObjectItemCaseSensitive(matcher, "match");
    for (const cJSON *item = matcher->child; item; item = item->next) {
        bool is_exact = strcmp(item->string, "matchType") == 0 && cJSON_IsString(item) &&
                        strcmp(item->valuestring, "exact") == 0;
        if (item != topic && !is_exact)
            return NULL;
    }
    return cJSON_IsString(topic) ? topic->valuestring : NULL;
}

static void add_selector(struct draft *d, enum draft_list list, const cJSON *selector,
                         const struct place *from)
{
    const char *topic = NULL;
    if (cJSON_IsObject(selector))
        topic = matcher_topic(selector);
    else if (cJSON_IsString(selector) && !strchr(selector->valuestring, '{'))
        topic = selector->valuestring; /* with a brace it is a URI template */
    if (topic)
        add_topic(d, list, topic, from);
    else
        draft_refuse(d, slice_of(cJSON_GetStringValue(selector)), from,
                     "only topics count, and * for all");
}

static void put_selectors(struct draft *d, enum draft_list list, const cJSON *selectors,
                          const struct place *at)
{
    size_t i = 0;
    for (const cJSON *item = cJSON_IsArray(selectors) ? selectors->child : NULL; item;
         item = item->next) {
        struct place from = place_element(at, i++);
        add_selector(d, list, item, &from);
    }
}

static bool has_action(const cJSON *detail, const char *action)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(detail, "actions");
    for (const cJSON *item = cJSON_IsArray(list) ? list->child : NULL; item; item = item->next)
        if (cJSON_IsString(item) && strcmp(item->valuestring, action) == 0)
            return true;
    return false;
}

static void put_details(struct draft *d, const cJSON *details)
{
    static const char kind[] = "https://mercure.rocks/authorization-detail";
    struct place list = place_member(&PLACE_FILE, "/authorization_details");
    size_t i = 0;
    for (const cJSON *item = cJSON_IsArray(details) ? details->child : NULL; item;
         item = item->next) {
        struct place at = place_element(&list, i++), from = place_member(&at, "topics");
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(item, "type");
        const cJSON *topics = cJSON_GetObjectItemCaseSensitive(item, "topics");
        if (!cJSON_IsString(type) || strcmp(type->valuestring, kind) != 0)
            continue;
        if (has_action(item, "subscribe"))
            put_selectors(d, DRAFT_SUBSCRIBE, topics, &from);
        if (has_action(item, "publish"))
            put_selectors(d, DRAFT_PUBLISH, topics, &from);
    }
}

void claim_form_mercure_put(const cJSON *claims, struct draft *d)
{
    const cJSON *mercure = cJSON_GetObjectItemCaseSensitive(claims, "mercure");
    struct place at = place_member(&PLACE_FILE, "/mercure");
    struct place subscribe = place_member(&at, "subscribe"), publish = place_member(&at, "publish");
    put_selectors(d, DRAFT_SUBSCRIBE, cJSON_GetObjectItemCaseSensitive(mercure, "subscribe"),
                  &subscribe);
    put_selectors(d, DRAFT_PUBLISH, cJSON_GetObjectItemCaseSensitive(mercure, "publish"), &publish);
    put_details(d, cJSON_GetObjectItemCaseSensitive(claims, "authorization_details"));
}
