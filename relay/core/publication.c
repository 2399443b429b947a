#include "relay/core/publication.h"

#include <stdlib.h>

void publication_request_reset(struct publication_request *r)
{
    for (size_t i = 0; i < r->count; i++)
        strings_reset(&r->items[i].args);
    free(r->items);
    free(r->ns);
    *r = (struct publication_request){0};
}
