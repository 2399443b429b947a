/* SPDX-License-Identifier: Apache-2.0 */
/* Who may what, as long as the process runs: reads the files at the start, and again when one of
 * them changes or the configuration is read again. What has an error changes nothing. The main
 * thread's. docs/protocol.md, 14.8. */
#pragma once
#include <ev.h>

#include "relay/auth/auth.h"

struct auth_watch;

/* @changed: gets a reference of its own, at the start, too, and before this returns; NULL: there is
 * no authentication. ERR_INVALID: the files have an error, which has been logged. */
NODISCARD enum err auth_watch_new(struct ev_loop *loop, struct config *config,
                                  void (*changed)(void *arg, struct auth *auth), void *arg,
                                  struct auth_watch **out);
void auth_watch_free(struct auth_watch *watch);
/* Takes a reference, and reads the files again. */
void auth_watch_configure(struct auth_watch *watch, struct config *config);
