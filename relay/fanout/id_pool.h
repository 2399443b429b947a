/* SPDX-License-Identifier: Apache-2.0 */
/* Connection ids that nobody guesses: random bytes are asked of the kernel for many at a time. One
 * thread. */
#pragma once
#include "relay/core/connection_id.h"

/* getrandom(2) gives as many at once, whatever happens. Zero-initialised: it has none yet. */
enum { ID_POOL_BYTES = 256 };

struct id_pool {
    uint8_t bytes[ID_POOL_BYTES];
    size_t left;
};

/* Fills in slot and secret. */
void id_pool_take(struct id_pool *pool, struct connection_id *out);
