/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/bus/replay_parts.h"

struct replay_item *replay_item_add(struct replay *r)
{
    r->items = mem_grow(r->items, r->count, sizeof(*r->items));
    struct replay_item *item = &r->items[r->count++];
    *item = (struct replay_item){0};
    return item;
}

void replay_item_release(struct replay_item *item)
{
    event_unref(item->event);
    free(item->topic);
}
