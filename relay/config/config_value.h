/* SPDX-License-Identifier: Apache-2.0 */
/* One option's value: from text, to JSON, copied, compared. */
#pragma once
#include "common/buf.h"
#include "relay/config/config_table.h"

/* Sets the option from text; lists grow instead of being replaced when @append. On ERR_INVALID the
 * reason is in *why, as words that follow "name=value: ". */
NODISCARD enum err config_value_set(struct config *c, const struct config_option *opt,
                                    struct slice text, bool append, struct buf *why);
void config_value_copy(struct config *to, const struct config *from,
                       const struct config_option *opt);
bool config_value_equal(const struct config *a, const struct config *b,
                        const struct config_option *opt);
void config_value_free(struct config *c, const struct config_option *opt);
void config_value_put_json(struct buf *b, const struct config *c, const struct config_option *opt);
/* Appends what the option may be, in words. */
void config_value_put_allowed(struct buf *b, const struct config_option *opt);
