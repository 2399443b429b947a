/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/members.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, as a stranger chooses how many there are. */
static bool names_are_unique(const cJSON *object)
{
    size_t count = 0;
    const cJSON *member;
    cJSON_ArrayForEach(member, object) count++;
    if (count < 2)
        return true;
    const char **names = mem_alloc(count * sizeof(*names));
    size_t n = 0;
    cJSON_ArrayForEach(member, object) names[n++] = member->string;
    qsort(names, count, sizeof(*names), by_name);
    bool unique = true;
    for (size_t i = 1; i < count && unique; i++)
        unique = strcmp(names[i - 1], names[i]) != 0;
    free(names);
    return unique;
}

/* Calls itself at most JSON_DEPTH_MAX times over. */
bool members_are_unique(const cJSON *tree)
{
    if (cJSON_IsObject(tree) && !names_are_unique(tree))
        return false;
    const cJSON *child;
    cJSON_ArrayForEach(child, tree)
    {
        if (!members_are_unique(child))
            return false;
    }
    return true;
}

/* The code unit of a `\uXXXX`; 0x10000: there is none. What is wrong JSON is not for here. */
static unsigned unit_at(struct slice text, size_t at)
{
    char hex[5] = {0}, *end;
    if (at + 6 > text.len || text.ptr[at] != '\\' || text.ptr[at + 1] != 'u')
        return 0x10000;
    memcpy(hex, text.ptr + at + 2, 4);
    unsigned unit = (unsigned)strtoul(hex, &end, 16);
    return end == hex + 4 ? unit : 0x10000;
}

/* A backslash in JSON stands in strings only. */
static bool has_odd_escape(struct slice text)
{
    for (size_t at = 0; at < text.len; at++) {
        if (text.ptr[at] != '\\')
            continue;
        unsigned unit = unit_at(text, at);
        if (unit == 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
            return true;
        if (unit >= 0xD800 && unit <= 0xDBFF) {
            unsigned low = unit_at(text, at + 6);
            if (low < 0xDC00 || low > 0xDFFF)
                return true;
            at += 6;
        }
        at += unit == 0x10000 ? 1 : 5;
    }
    return false;
}

enum err members_parse(struct slice text, cJSON **out, const char **why)
{
    cJSON *tree = NULL;
    if (has_odd_escape(text)) {
        *why = "has an escaped NUL or half of a surrogate pair";
        return ERR_INVALID;
    }
    if (json_parse(text, &tree) != OK) {
        *why = "is not JSON";
        return ERR_INVALID;
    }
    if (cJSON_IsObject(tree) && members_are_unique(tree)) {
        *out = tree;
        return OK;
    }
    *why = cJSON_IsObject(tree) ? "has two members of one name" : "is no JSON object";
    cJSON_Delete(tree);
    return ERR_INVALID;
}

const char *member_text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}
