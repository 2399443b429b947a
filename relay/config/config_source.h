/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the environment as sources of the configuration. */
#pragma once
#include "relay/config/config_load.h"

/* Both are run twice: without @apply they only find what to do and the file (l->action, l->path),
 * whose values come before theirs. */
NODISCARD enum err config_source_flags(struct config_loader *l, int argc, char **argv, bool apply);
NODISCARD enum err config_source_environment(struct config_loader *l, char **list, bool apply);
