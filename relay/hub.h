/* SPDX-License-Identifier: Apache-2.0 */
/* The process: makes the bus and the workers, starts their threads, and takes signals. Main thread.
 */
#pragma once
#include "relay/config/config.h"

struct hub;

/* For SIGHUP: what is to run from now on instead of @running, which is left as it is. One reference
 * for the caller; appends to @needs_restart the changed options that need one. NULL on an error
 * that it has told about itself. */
typedef struct config *(*hub_reload)(void *arg, const struct config *running,
                                     struct buf *needs_restart);

/* ERR_IO: could not start; the reason is in the log. @config: a reference is taken. */
NODISCARD enum err hub_new(struct config *config, const char *version, hub_reload reload, void *arg,
                           struct hub **out);
/* Runs until SIGTERM or SIGINT has drained the node; a second one ends it at once. */
void hub_run(struct hub *hub);
void hub_free(struct hub *hub);
