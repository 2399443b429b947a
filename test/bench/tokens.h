/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens that clients show: one on each line of a file, so that none is in a process list. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/buf.h"

struct tokens { /* zero-initialised is none */
    char *text;
    const char **items;
    uint32_t count;
};

/* False: a message is on stderr. */
bool tokens_read(struct tokens *tokens, const char *path);
/* Appends the request line for client @client: they take turns. Nothing where there are none. */
void tokens_put(const struct tokens *tokens, uint32_t client, struct buf *out);
void tokens_reset(struct tokens *tokens);
