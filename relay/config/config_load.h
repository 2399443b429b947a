/* What the readers of configuration sources share while config_load() runs. Private to
 * config_source.c and config_file.c. */
#pragma once
#include "relay/config/config_table.h"

#define CONFIG_OPTION_MAX 64 /* not fewer than the table has */

struct config_load {
    struct config *config;
    struct buf err; /* the sentence, once something is wrong */
    enum config_action action;
    struct slice path;            /* of the file; none: SLICE_NONE */
    bool seen[CONFIG_OPTION_MAX]; /* by this source; so that lists start anew and file keys stand
                                     once */
};

/* Sets the option from text that @origin (a flag, a variable, a path) holds; on ERR_INVALID the
 * sentence is complete. */
NODISCARD enum err config_load_set(struct config_load *l, const struct config_option *opt,
                                   struct slice value, const char *origin);
/* Appends a stranger's text for a message: one line, not too long. */
void config_load_put_shown(struct buf *b, struct slice text);
/* The known key (or, @with_actions, flag) that @word was perhaps meant to be; NULL: it resembles
 * none. */
const char *config_load_nearest(struct slice word, bool with_actions);

/* config_file.c: applies the file at l->path. */
NODISCARD enum err config_load_file(struct config_load *l);
