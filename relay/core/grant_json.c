/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/grant.h"

/* A grant as text, on its way through Redis to another node or another time. What is absent there
 * is absent in the grant. A member that this version does not know may be one that takes something
 * away, so it is refused as a whole. */

enum kind {
    KIND_NS,
    KIND_TEXT,
    KIND_SECONDS, /* decimal text, as ids are: any number of 64 bits keeps its digits */
    KIND_PATTERNS,
    KIND_CLAIMS, /* an object of lists of texts */
    KIND_FLAG,
};

struct row {
    const char *name;
    enum kind kind;
    size_t at, count_at; /* in struct grant_fields; count_at: of claims */
};

#define AT(field) offsetof(struct grant_fields, field)

static const struct row rows[] = {
    {"ns", KIND_NS, AT(ns), 0},
    {"iss", KIND_TEXT, AT(issuer), 0},
    {"sub", KIND_TEXT, AT(subject), 0},
    {"jti", KIND_TEXT, AT(jti), 0},
    {"kid", KIND_TEXT, AT(kid), 0},
    {"iat", KIND_SECONDS, AT(iat_s), 0},
    {"exp", KIND_SECONDS, AT(exp_s), 0},
    {"subscribe", KIND_PATTERNS, AT(subscribe), 0},
    {"publish", KIND_PATTERNS, AT(publish), 0},
    {"topics", KIND_PATTERNS, AT(topics), 0},
    {"match", KIND_CLAIMS, AT(match), AT(match_count)},
    {"roles", KIND_CLAIMS, AT(roles), AT(role_count)},
    {"admin", KIND_FLAG, AT(admin), 0},
    {"from_ticket", KIND_FLAG, AT(from_ticket), 0},
};

enum { ROW_COUNT = sizeof(rows) / sizeof(*rows) };

/* --- writing ---------------------------------------------------------------------------------- */

static void put_texts(struct buf *b, const struct strings *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        buf_putc(b, i ? ',' : '[');
        json_put_string(b, slice_of(texts->items[i]));
    }
    buf_puts(b, texts->count ? "]" : "[]");
}

static void put_claims(struct buf *b, const struct grant_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_putc(b, i ? ',' : '{');
        json_put_string(b, slice_of(claims[i].name));
        buf_putc(b, ':');
        put_texts(b, &claims[i].values);
    }
    buf_putc(b, '}');
}

static bool is_absent(const struct row *row, const char *at, const char *count_at)
{
    switch (row->kind) {
    case KIND_NS:
    case KIND_TEXT:
        return !*(char *const *)(const void *)at;
    case KIND_SECONDS:
        return !*(const uint64_t *)(const void *)at;
    case KIND_PATTERNS:
        return !((const struct strings *)(const void *)at)->count;
    case KIND_CLAIMS:
        return !*(const size_t *)(const void *)count_at;
    case KIND_FLAG:
        return !*(const bool *)(const void *)at;
    }
    return true;
}

static void put_value(struct buf *b, const struct row *row, const char *at, const char *count_at)
{
    switch (row->kind) {
    case KIND_NS:
    case KIND_TEXT:
        json_put_string(b, slice_of(*(char *const *)(const void *)at));
        return;
    case KIND_SECONDS:
        buf_putc(b, '"');
        buf_put_u64(b, *(const uint64_t *)(const void *)at);
        buf_putc(b, '"');
        return;
    case KIND_PATTERNS:
        put_texts(b, (const struct strings *)(const void *)at);
        return;
    case KIND_CLAIMS:
        put_claims(b, *(struct grant_claim *const *)(const void *)at,
                   *(const size_t *)(const void *)count_at);
        return;
    case KIND_FLAG:
        buf_puts(b, "true");
        return;
    }
}

void grant_put_json(struct buf *b, const struct grant *g)
{
    const char *fields = (const char *)grant_fields(g);
    bool first = true;
    buf_putc(b, '{');
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &rows[i];
        if (is_absent(row, fields + row->at, fields + row->count_at))
            continue;
        if (!first)
            buf_putc(b, ',');
        first = false;
        json_put_string(b, slice_of(row->name));
        buf_putc(b, ':');
        put_value(b, row, fields + row->at, fields + row->count_at);
    }
    buf_putc(b, '}');
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool take_text(const cJSON *item, char **out)
{
    if (!cJSON_IsString(item))
        return false;
    *out = slice_dup(slice_of(item->valuestring));
    return true;
}

static bool take_patterns(const cJSON *list, struct strings *out)
{
    if (!cJSON_IsArray(list))
        return false;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsString(item) || !name_pattern_valid(slice_of(item->valuestring)))
            return false;
        strings_add(out, slice_of(item->valuestring));
    }
    return true;
}

/* Not by grant_claims_add(): there what stands twice is one, and a list may be too long. */
static bool take_claim(const cJSON *list, struct grant_claim *out)
{
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > GRANT_VALUES_MAX)
        return false;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return false;
        strings_add(&out->values, slice_of(item->valuestring));
    }
    return true;
}

static bool has_claim(const struct grant_claim *claims, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(claims[i].name, name) == 0)
            return true;
    return false;
}

static bool take_claims(const cJSON *object, struct grant_claim **claims, size_t *count)
{
    if (!cJSON_IsObject(object))
        return false;
    for (const cJSON *item = object->child; item; item = item->next) {
        if (has_claim(*claims, *count, item->string))
            return false;
        *claims = mem_grow(*claims, *count, sizeof(**claims));
        struct grant_claim *claim = &(*claims)[(*count)++];
        *claim = (struct grant_claim){.name = slice_dup(slice_of(item->string))};
        if (!take_claim(item, claim))
            return false;
    }
    return true;
}

static bool take_value(const cJSON *item, const struct row *row, char *at, char *count_at)
{
    switch (row->kind) {
    case KIND_NS:
        return take_text(item, (char **)(void *)at) &&
               name_ns_valid(slice_of(*(char **)(void *)at));
    case KIND_TEXT:
        return take_text(item, (char **)(void *)at);
    case KIND_SECONDS:
        return cJSON_IsString(item) &&
               slice_u64(slice_of(item->valuestring), UINT64_MAX, (uint64_t *)(void *)at) == OK;
    case KIND_PATTERNS:
        return take_patterns(item, (struct strings *)(void *)at);
    case KIND_CLAIMS:
        return take_claims(item, (struct grant_claim **)(void *)at, (size_t *)(void *)count_at);
    case KIND_FLAG:
        *(bool *)(void *)at = cJSON_IsTrue(item);
        return cJSON_IsBool(item);
    }
    return false;
}

static const struct row *find_row(const char *name)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static bool take_members(const cJSON *tree, struct grant_fields *f)
{
    unsigned seen = 0;
    if (!cJSON_IsObject(tree))
        return false;
    for (const cJSON *item = tree->child; item; item = item->next) {
        const struct row *row = find_row(item->string);
        unsigned bit = row ? 1u << (row - rows) : 0;
        if (!row || (seen & bit) ||
            !take_value(item, row, (char *)f + row->at, (char *)f + row->count_at))
            return false;
        seen |= bit;
    }
    return true;
}

enum err grant_parse_json(struct slice text, struct grant **out)
{
    struct grant_fields fields = {0};
    cJSON *tree = NULL;
    if (json_parse(text, &tree) != OK)
        return ERR_INVALID;
    bool valid = take_members(tree, &fields);
    cJSON_Delete(tree);
    if (!valid) {
        grant_fields_reset(&fields);
        return ERR_INVALID;
    }
    *out = grant_new(&fields);
    return OK;
}
