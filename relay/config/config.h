/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: one table (config_table.c) makes flags, environment, file, --help,
 * --print-config and the docs. Flag beats environment (SSE_RELAY_…) beats JSON file beats default.
 * Immutable once loaded; shared by reference count. */
#pragma once
#include "common/buf.h"
#include "relay/config/config_settings.h"

/* Loads from the arguments, the environment and the file that --config or SSE_RELAY_CONFIG names.
 * On an error *err_msg (caller frees) is a sentence that names the option, where it was set, the
 * value and what is allowed.
 * @out: one reference; config_unref(). */
NODISCARD enum err config_load(int argc, char **argv, char **environ_list, struct config **out,
                               enum config_action *action, char **err_msg);
struct config *config_ref(struct config *c);
void config_unref(struct config *c); /* any thread */

/* Whether anybody is asked who he is: auth.file or auth.key_file is set. It takes a restart. */
bool config_has_auth(const struct config *c);

/* For SIGHUP: a new configuration with the reloadable options of @fresh and the rest of @running.
 * Appends to @needs_restart a comma-separated list of the changed options that need one.
 * ERR_INVALID: the two do not fit together, though each is valid; *why is the sentence then.
 * Whether TLS can be had is not asked here: redis_target_check().
 * @out: one reference; config_unref(). */
NODISCARD enum err config_merge_reload(const struct config *running, const struct config *fresh,
                                       struct config **out, struct buf *needs_restart,
                                       struct buf *why);
