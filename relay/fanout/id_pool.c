/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/id_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void take(struct id_pool *pool, void *out, size_t size)
{
    pool->left -= size;
    memcpy(out, pool->bytes + pool->left, size);
    memset(pool->bytes + pool->left, 0, size); /* it is the client's alone from now on */
}

void id_pool_take(struct id_pool *pool, struct connection_id *out)
{
    if (pool->left < sizeof(out->secret)) {
        if (getrandom(pool->bytes, sizeof(pool->bytes), 0) != sizeof(pool->bytes))
            abort(); /* whoever knows an id may take its stream over */
        pool->left = sizeof(pool->bytes);
    }
    take(pool, &out->secret, sizeof(out->secret));
    out->slot = connection_id_slot(out->secret);
}
