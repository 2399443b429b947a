/* SPDX-License-Identifier: Apache-2.0 */
#include "common/match.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

enum { PAIRS_MAX = MATCH_MAX / 7 }; /* the least pair is `"a":"",` */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Which of two values would count, nobody could say. */
static bool has_repeated_name(const cJSON *object)
{
    size_t count = (size_t)cJSON_GetArraySize(object), i = 0;
    char **names = mem_alloc(count * sizeof(*names));
    for (const cJSON *item = object->child; item; item = item->next)
        names[i++] = item->string;
    qsort(names, count, sizeof(*names), compare_names);
    for (i = 1; i < count && strcmp(names[i - 1], names[i]) != 0; i++)
        ;
    free(names);
    return i < count;
}

static bool name_valid(struct slice name)
{
    return name.len >= 1 && name.len <= MATCH_NAME_MAX && !slice_has_control(name) &&
           slice_utf8_valid(name);
}

bool match_is_valid(const cJSON *match)
{
    if (!cJSON_IsObject(match) || !match->child)
        return false;
    size_t count = 0;
    for (const cJSON *item = match->child; item; item = item->next)
        if (++count > PAIRS_MAX || !cJSON_IsString(item) ||
            slice_has_control(slice_of(item->valuestring)) || !name_valid(slice_of(item->string)))
            return false;
    return !has_repeated_name(match);
}

/* Parsed as strictly as what is published over HTTP: a NUL that was only left out, or a byte that
 * was only replaced, could make a value of it that others have. */
enum err match_put(struct buf *b, struct slice json)
{
    cJSON *tree = NULL;
    size_t start = b->len;
    if (json_parse(json, &tree) != OK)
        return ERR_INVALID;
    enum err e = match_is_valid(tree) ? OK : ERR_INVALID;
    for (const cJSON *item = tree->child; item && e == OK; item = item->next) {
        buf_put(b, item->string, strlen(item->string) + 1);
        buf_put(b, item->valuestring, strlen(item->valuestring) + 1);
        if (b->len - start >= MATCH_MAX) /* JSON takes more bytes for a pair than this does */
            e = ERR_INVALID;
    }
    if (e == OK)
        buf_putc(b, '\0');
    else
        b->len = start;
    cJSON_Delete(tree);
    return e;
}

bool match_next(const char **at, const char **name, const char **value)
{
    if (**at == '\0')
        return false;
    *name = *at;
    *value = *name + strlen(*name) + 1;
    *at = *value + strlen(*value) + 1;
    return true;
}
