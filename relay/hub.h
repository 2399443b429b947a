/* The process: makes the bus and the workers, starts their threads, and takes signals. Main thread.
 */
#pragma once
#include "relay/config/config.h"

struct hub;

/* @reload: loads a fresh configuration for SIGHUP; NULL on an error that it has told about itself.
 */
typedef struct config *(*hub_reload)(void *arg);

/* ERR_IO: could not start; the reason is in the log. @config: a reference is taken. */
NODISCARD enum err hub_new(struct config *config, const char *version, hub_reload reload, void *arg,
                           struct hub **out);
/* Runs until SIGTERM or SIGINT has drained the node; a second one ends it at once. */
void hub_run(struct hub *hub);
void hub_free(struct hub *hub);
