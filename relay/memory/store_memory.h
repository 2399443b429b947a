/* SPDX-License-Identifier: Apache-2.0 */
/* The store for redis = "memory:": one node without Redis, the same promises within the process,
 * bounded in memory. */
#pragma once
#include "relay/bus/bus.h"

struct store store_memory_new(struct ev_loop *loop, struct bus *bus,
                              const struct store_events *events, struct config *config,
                              struct metrics *metrics);
