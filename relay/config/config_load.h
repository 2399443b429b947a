/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of configuration sources share: one option set by one of them, and the words of
 * what is wrong. */
#pragma once
#include "common/buf.h"
#include "relay/config/config_table.h"

enum { CONFIG_LOAD_NAME_MAX = 64 }; /* longer than any key, so a longer word resembles none */

struct config_loader {
    struct config *config;
    struct buf err; /* the sentence, once something is wrong */
    enum config_action action;
    struct slice path;            /* of the file; none: SLICE_NONE */
    bool seen[CONFIG_OPTION_MAX]; /* by this source; so that lists start anew and file keys stand
                                     once */
};

/* Sets the option from text that @origin (a flag, a variable, a path) holds; on ERR_INVALID the
 * sentence is complete. */
NODISCARD enum err config_load_set(struct config_loader *l, const struct config_option *opt,
                                   struct slice value, const char *origin);
/* Whether @name is a flag that asks for something other than to run; then l->action says so. */
bool config_load_action(struct config_loader *l, struct slice name);
/* The known key (or, @with_actions, flag) that @word was perhaps meant to be; NULL: it resembles
 * none. */
const char *config_load_nearest(struct slice word, bool with_actions);
/* Appends a stranger's text for a message: one line, not too long. */
void config_load_put_shown(struct buf *b, struct slice text);
