/* SPDX-License-Identifier: Apache-2.0 */
/* The option `lanes`: what lane an event has whose publisher did not say. No I/O. */
#pragma once
#include "common/event.h"
#include "relay/config/config.h"

/* The first rule that matches. False: none does, and *out stays. */
bool lane_rules_find(const struct config *config, struct slice topic, enum lane_kind *out);
/* Sets the lane of an event that has none by its publisher: the first rule that matches its topic;
 * not of one on several topics (those with an id always have one). What may not be merged is
 * batched. */
void lane_rules_apply(const struct config *config, struct event_fields *fields);
