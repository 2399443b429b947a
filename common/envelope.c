/* SPDX-License-Identifier: Apache-2.0 */
#include "common/envelope.h"
#include "common/match.h"
#include <string.h>

#define TTL_MS_MAX EVENT_ID_MAX

/* A JSON object that cannot have a member "sse" is raw data: the parse is saved. (The key could be
 * spelt with escapes.) */
static bool may_be_envelope(struct slice bytes)
{
    return bytes.len > 0 && bytes.ptr[0] == '{' &&
           (memmem(bytes.ptr, bytes.len, "\"sse\"", 5) != NULL ||
            memmem(bytes.ptr, bytes.len, "\\u", 2) != NULL);
}

/* NULL where the member is absent or null. */
static const cJSON *member(const cJSON *tree, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, name);
    return cJSON_IsNull(item) ? NULL : item;
}

static bool is_envelope(const cJSON *tree)
{
    const cJSON *mark = member(tree, "sse");
    return cJSON_IsObject(tree) && cJSON_IsNumber(mark) && mark->valuedouble >= 1 &&
           mark->valuedouble <= 1;
}

/* A whole number, as such or as text. *found is false, and *out untouched, where it is absent. */
static enum err member_u64(const cJSON *tree, const char *name, uint64_t max, bool *found,
                           uint64_t *out)
{
    const cJSON *item = member(tree, name);
    *found = item != NULL;
    if (item == NULL)
        return OK;
    if (cJSON_IsString(item))
        return slice_u64(slice_of(item->valuestring), max, out) == OK ? OK : ERR_INVALID;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= (double)max))
        return ERR_INVALID;
    uint64_t n = (uint64_t)item->valuedouble;
    if ((double)n < item->valuedouble)
        return ERR_INVALID; /* a fraction */
    *out = n;
    return OK;
}

static enum err member_text(const cJSON *tree, const char *name, struct slice *out)
{
    const cJSON *item = member(tree, name);
    if (item == NULL)
        return OK;
    if (!cJSON_IsString(item))
        return ERR_INVALID;
    *out = slice_of(item->valuestring);
    return OK;
}

static struct event_fields blank_fields(struct slice ns, struct slice topic)
{
    return (struct event_fields){.retry_ms = -1, .ns = ns, .topic = topic};
}

/* An event's predecessor on its topic is older than it. */
static bool chain_plausible(const struct event_fields *f)
{
    return f->id == 0 || f->prev < f->id;
}

/* A match that cannot be read is one that nobody has. */
static void set_match(struct envelope *env, struct slice json, struct event_fields *f)
{
    buf_clear(&env->match);
    f->has_match = true;
    f->match = match_put(&env->match, json) == OK ? buf_slice(&env->match) : SLICE_NONE;
}

/* Which of two would count, nobody could say. */
static void read_match(struct envelope *env, struct slice bytes, struct event_fields *f)
{
    const cJSON *match = NULL;
    struct slice raw;
    size_t count = 0;
    for (const cJSON *item = env->tree->child; item; item = item->next)
        if (strcmp(item->string, "match") == 0) {
            match = item;
            count++;
        }
    if (count == 0 || (count == 1 && cJSON_IsNull(match)))
        return;
    if (count > 1 || json_raw_member(bytes, "match", &raw) != OK)
        raw = SLICE_LIT("");
    set_match(env, raw, f);
}

/* A word that is none of ours was written by an older publisher, for whom it had no effect. */
static void set_lane(struct slice word, struct event_fields *f)
{
    f->has_lane = lane_parse(word, &f->lane) == OK;
}

static enum err read_members(const cJSON *tree, struct event_fields *f)
{
    uint64_t retry = 0;
    bool has_retry, ignored;
    struct slice priority = SLICE_NONE, end = SLICE_NONE;
    if (member_u64(tree, "id", EVENT_ID_MAX, &ignored, &f->id) != OK ||
        member_u64(tree, "prev", EVENT_ID_MAX, &f->has_prev, &f->prev) != OK ||
        member_u64(tree, "retry", EVENT_RETRY_MS_MAX, &has_retry, &retry) != OK ||
        member_u64(tree, "ttl", TTL_MS_MAX, &ignored, &f->ttl_ms) != OK ||
        member_u64(tree, "twin", EVENT_ID_MAX, &ignored, &f->twin) != OK ||
        member_u64(tree, "end_after", EVENT_END_AFTER_MS_MAX, &ignored, &f->end_after_ms) != OK ||
        member_text(tree, "event", &f->type) != OK || member_text(tree, "data", &f->data) != OK ||
        member_text(tree, "key", &f->key) != OK || member_text(tree, "end", &end) != OK)
        return ERR_INVALID;
    if (member_text(tree, "priority", &priority) == OK)
        set_lane(priority, f);
    if (end.ptr && topic_end_parse(end, &f->end) != OK)
        return ERR_INVALID;
    if (has_retry)
        f->retry_ms = (int64_t)retry;
    return f->data.ptr != NULL && chain_plausible(f) ? OK : ERR_INVALID;
}

void envelope_reset(struct envelope *env)
{
    cJSON_Delete(env->tree);
    buf_reset(&env->match);
    env->tree = NULL;
}

/* What our own library writes starts so. If it then cannot be read, it must not pass for data: it
 * may be meant for few. */
static bool claims_envelope(struct slice bytes)
{
    return slice_has_prefix(bytes, SLICE_LIT("{\"sse\":1,"));
}

enum err envelope_parse(struct envelope *env, struct slice bytes, struct slice ns,
                        struct slice topic, struct event_fields *out)
{
    struct event_fields f = blank_fields(ns, topic);
    envelope_reset(env);
    if (!may_be_envelope(bytes) || json_parse_lenient(bytes, &env->tree) != OK ||
        !is_envelope(env->tree)) {
        bool broken = env->tree == NULL && claims_envelope(bytes);
        envelope_reset(env);
        if (broken)
            return ERR_INVALID;
        f.data = bytes;
        *out = f;
        return ERR_NOT_FOUND;
    }
    enum err e = read_members(env->tree, &f);
    if (e != OK) {
        envelope_reset(env);
        return e;
    }
    read_match(env, bytes, &f);
    *out = f;
    return OK;
}

static enum err parse_entry_id(struct slice entry_id, uint64_t *id)
{
    if (entry_id.len < 3 || memcmp(entry_id.ptr + entry_id.len - 2, "-0", 2) != 0)
        return ERR_INVALID;
    enum err e = slice_u64((struct slice){entry_id.ptr, entry_id.len - 2}, EVENT_ID_MAX, id);
    return e == OK && *id > 0 ? OK : ERR_INVALID;
}

static enum err read_entry_field(struct envelope *env, struct slice name, struct slice value,
                                 struct event_fields *f)
{
    uint64_t retry;
    if (slice_is(name, "data")) {
        f->data = value;
    } else if (slice_is(name, "event")) {
        f->type = value;
    } else if (slice_is(name, "priority")) {
        set_lane(value, f);
    } else if (slice_is(name, "key")) {
        f->key = value;
    } else if (slice_is(name, "end")) {
        return topic_end_parse(value, &f->end);
    } else if (slice_is(name, "match")) {
        set_match(env, f->has_match ? SLICE_LIT("") : value, f);
    } else if (slice_is(name, "prev")) {
        f->has_prev = true;
        return slice_u64(value, EVENT_ID_MAX, &f->prev);
    } else if (slice_is(name, "ttl")) {
        return slice_u64(value, TTL_MS_MAX, &f->ttl_ms);
    } else if (slice_is(name, "retry")) {
        enum err e = slice_u64(value, EVENT_ID_MAX, &retry);
        if (e == OK &&
            retry <= EVENT_RETRY_MS_MAX) /* more was taken once: no browser would come back */
            f->retry_ms = (int64_t)retry;
        return e;
    }
    return OK;
}

enum err envelope_from_entry(struct envelope *env, struct slice entry_id,
                             const struct slice *fields, size_t count, struct slice ns,
                             struct slice topic, struct event_fields *out)
{
    struct event_fields f = blank_fields(ns, topic);
    if (count % 2 != 0 || parse_entry_id(entry_id, &f.id) != OK)
        return ERR_INVALID;
    for (size_t i = 0; i < count; i += 2)
        if (read_entry_field(env, fields[i], fields[i + 1], &f) != OK)
            return ERR_INVALID;
    if (f.data.ptr == NULL || !chain_plausible(&f))
        return ERR_INVALID;
    *out = f;
    return OK;
}
