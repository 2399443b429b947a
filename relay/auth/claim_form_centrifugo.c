/* SPDX-License-Identifier: Apache-2.0 */
/* Connection tokens of Centrifugo: `channels` and `subs` are subscribed to at once, so they are
 * what a request without topics asks for, too; `caps` say more. Names are exact. */
#include "relay/auth/claim_form_parts.h"

#include <string.h>

#include "common/names.h"

static bool check_channel(struct draft *d, const char *name, const struct place *from)
{
    struct slice channel = slice_of(name);
    if (channel.len && name_topic_valid(channel))
        return true;
    draft_refuse(d, channel, from, "the channel's name is no topic");
    return false;
}

static void add_channel(struct draft *d, const char *name, const struct place *from)
{
    if (!check_channel(d, name, from))
        return;
    draft_add_pattern(d, DRAFT_SUBSCRIBE, slice_of(name), from);
    draft_add_pattern(d, DRAFT_TOPICS, slice_of(name), from);
}

static void put_channels(struct draft *d, const cJSON *channels)
{
    struct place at = place_member(&PLACE_FILE, "/channels");
    size_t i = 0;
    for (const cJSON *item = cJSON_IsArray(channels) ? channels->child : NULL; item;
         item = item->next) {
        struct place from = place_element(&at, i++);
        if (cJSON_IsString(item))
            add_channel(d, item->valuestring, &from);
        else
            draft_refuse(d, SLICE_NONE, &from, "it is no text");
    }
}

static void put_subs(struct draft *d, const cJSON *subs)
{
    struct place at = place_member(&PLACE_FILE, "/subs");
    for (const cJSON *item = cJSON_IsObject(subs) ? subs->child : NULL; item; item = item->next)
        add_channel(d, item->string, &at);
}

static bool allows(const cJSON *cap, const char *what)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(cap, "allow");
    for (const cJSON *item = cJSON_IsArray(list) ? list->child : NULL; item; item = item->next)
        if (cJSON_IsString(item) && strcmp(item->valuestring, what) == 0)
            return true;
    return false;
}

static void put_capability(struct draft *d, const cJSON *cap, struct strings *decided,
                           const struct place *at)
{
    const cJSON *channels = cJSON_GetObjectItemCaseSensitive(cap, "channels");
    for (const cJSON *item = cJSON_IsArray(channels) ? channels->child : NULL; item;
         item = item->next) {
        if (!cJSON_IsString(item) || strings_have(decided, slice_of(item->valuestring)) ||
            !check_channel(d, item->valuestring, at))
            continue;
        struct slice channel = slice_of(item->valuestring);
        strings_add(decided, channel);
        if (allows(cap, "sub"))
            draft_add_pattern(d, DRAFT_SUBSCRIBE, channel, at);
        if (allows(cap, "pub"))
            draft_add_pattern(d, DRAFT_PUBLISH, channel, at);
    }
}

/* Of a channel the first capability that names it counts. One that we cannot read may name any, so
 * those behind it count no longer. */
static void put_capabilities(struct draft *d, const cJSON *caps)
{
    struct place list = place_member(&PLACE_FILE, "/caps");
    struct strings decided = {0};
    size_t i = 0;
    for (const cJSON *cap = cJSON_IsArray(caps) ? caps->child : NULL; cap; cap = cap->next) {
        struct place at = place_element(&list, i++);
        const cJSON *match = cJSON_GetObjectItemCaseSensitive(cap, "match");
        if (!cJSON_IsObject(cap) ||
            (match && !(cJSON_IsString(match) && match->valuestring[0] == '\0'))) {
            draft_refuse(d, SLICE_NONE, &at, "only exact names count, and none behind others");
            break;
        }
        put_capability(d, cap, &decided, &at);
    }
    strings_reset(&decided);
}

void claim_form_centrifugo_put(const cJSON *claims, struct draft *d)
{
    put_channels(d, cJSON_GetObjectItemCaseSensitive(claims, "channels"));
    put_subs(d, cJSON_GetObjectItemCaseSensitive(claims, "subs"));
    put_capabilities(d, cJSON_GetObjectItemCaseSensitive(claims, "caps"));
}
