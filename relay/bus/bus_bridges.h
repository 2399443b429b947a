/* SPDX-License-Identifier: Apache-2.0 */
/* The bridges of the configuration that hear channels of others: what is published there becomes a
 * live event for this node's streams. (Those that read streams are the store's.) Bus thread. */
#pragma once
#include "relay/bus/bus_live.h"

struct bus_bridges;

struct bus_bridges *bus_bridges_new(const struct bus_base *base, struct bus_spaces *spaces,
                                    struct bus_live *live);
void bus_bridges_free(struct bus_bridges *bridges); /* after the store has gone */
/* Takes the bridges of the present configuration in place of those before. What is in both is heard
 * without a break. */
void bus_bridges_configure(struct bus_bridges *bridges);
/* A message on the channel, or one that the glob stands for, @name; all are borrowed. */
void bus_bridges_hear(struct bus_bridges *bridges, const struct store_name *name,
                      struct slice channel, struct slice payload);
