/* SPDX-License-Identifier: Apache-2.0 */
/* The option `lanes`: its rules are taken apart once, not for each event. No I/O. */
#pragma once
#include "common/err.h"
#include "relay/config/config_settings.h"

/* "pattern=priority"; what @out holds points into @text. */
NODISCARD enum err config_lanes_parse(struct slice text, struct config_lane *out);
/* Makes config->lane_rules, which are freed with the configuration; each of `lanes` is valid. */
void config_lanes_read(struct config *config);
