/* SPDX-License-Identifier: Apache-2.0 */
/* The option `bridges`: JSON text, an array of objects, which is taken apart once. What it means is
 * in docs/protocol.md, 9.1. No I/O. */
#pragma once
#include "common/buf.h"
#include "common/err.h"
#include "relay/config/config_settings.h"

enum { CONFIG_BRIDGES_MAX = 64 };

/* For the table: appends @text without white space, "[]" for none. ERR_INVALID: *why (appended)
 * names the bridge and its member. */
NODISCARD enum err config_bridges_normalize(struct slice text, struct buf *out, struct buf *why);
/* What only shows together with other options: the prefix, the kind of store, control events. */
NODISCARD enum err config_bridges_fit(const struct config *config, struct buf *why);
/* Makes config->bridge_list, which is freed with the configuration; `bridges` is valid. */
void config_bridges_read(struct config *config);
void config_bridges_free(struct config *config);
