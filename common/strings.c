/* SPDX-License-Identifier: Apache-2.0 */
#include "common/strings.h"

#include <stdlib.h>

#include "common/mem.h"

void strings_add(struct strings *list, struct slice item)
{
    list->items = mem_grow(list->items, list->count, sizeof(*list->items));
    list->items[list->count++] = mem_dup(item.ptr ? item.ptr : "", item.len);
}

void strings_add_new(struct strings *list, struct slice item)
{
    if (!strings_have(list, item))
        strings_add(list, item);
}

size_t strings_find(const struct strings *list, struct slice item)
{
    size_t i = 0;
    while (i < list->count && !slice_is(item, list->items[i]))
        i++;
    return i;
}

bool strings_have(const struct strings *list, struct slice item)
{
    return strings_find(list, item) < list->count;
}

void strings_reset(struct strings *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct strings){0};
}
