/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: JSON with comments, nested objects or dotted keys. */
#pragma once
#include "relay/config/config_load.h"

/* Applies the file at l->path. */
NODISCARD enum err config_file_apply(struct config_loader *l);
