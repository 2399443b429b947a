/* SPDX-License-Identifier: Apache-2.0 */
/* The live path: whether an event that the store has heard is the next of its topic, and so may be
 * sent to the workers; what is missing before it is asked of the log. Bus thread. */
#pragma once
#include "relay/bus/bus_repairs.h"

struct bus_live;

struct bus_live *bus_live_new(const struct bus_base *base, struct bus_outbox *outbox,
                              struct bus_spaces *spaces, struct bus_repairs *repairs);
void bus_live_free(struct bus_live *live);

/* The worker (as its bit) that has the connection whose topic this is; 0: it is no such topic, or
 * none of this node's. */
uint64_t bus_live_owner(const struct bus_live *live, struct slice topic);
/* An event for the workers in @workers, a bit each, and for bus_live_owner(); the reference is the
 * caller's. The same one may come again for the workers of another pattern. */
void bus_live_deliver(struct bus_live *live, struct event *ev, uint64_t workers);
