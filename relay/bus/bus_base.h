/* SPDX-License-Identifier: Apache-2.0 */
/* What all parts of the bus stand on, of lower rooms: made by bus.c, borrowed by the parts for as
 * long as they live. Bus thread. */
#pragma once
#include "relay/bus/store.h"
#include "relay/core/tail.h"

struct bus_base {
    uint32_t tag; /* of this node: connection_id.h */
    char tag_text[9];
    struct ev_loop *loop;
    struct metrics *metrics;
    struct config *config; /* the present one; another after a NOTE_CONFIG */
    struct store store;    /* `impl` is NULL before it is made, and once it has gone at the end */
    struct tails *tails;   /* of the topics that are heard */
};
