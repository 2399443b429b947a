/* SPDX-License-Identifier: Apache-2.0 */
/* The option `lanes`: what lane an event has whose publisher did not say. No I/O. */
#pragma once
#include "common/event.h"
#include "relay/config/config.h"

/* Sets the lane of an event that has none by its publisher: the first rule that matches its topic.
 * What may not be joined is batched. */
void lane_rules_apply(const struct config *config, struct event_fields *fields);
