/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/publication.h"

#include <stdlib.h>

static void text_free(struct slice text)
{
    free((void *)(uintptr_t)text.ptr);
}

void publication_reset(struct publication *p)
{
    strings_reset(&p->topics);
    text_free(p->data);
    text_free(p->event);
    text_free(p->once);
    text_free(p->key);
    text_free(p->match);
    *p = (struct publication){0};
}

void publication_request_reset(struct publication_request *r)
{
    for (size_t i = 0; i < r->count; i++)
        publication_reset(&r->items[i]);
    free(r->items);
    free(r->ns);
    *r = (struct publication_request){0};
}
