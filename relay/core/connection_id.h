/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream is called, so that any node finds it: the tag of its node, its worker, its place
 * there, and 64 random bits that nobody guesses. As text 32 hexadecimal digits in small letters. */
#pragma once
#include "common/buf.h"

enum { CONNECTION_ID_CHARS = 32, CONNECTION_ID_WORKERS = 256, CONNECTION_ID_SLOTS = 1 << 24 };

struct connection_id {
    uint32_t tag;    /* 8 digits */
    uint32_t worker; /* 2 digits */
    uint32_t slot;   /* 6 digits: the worker's own business */
    uint64_t secret; /* 16 digits */
};

void connection_id_put(struct buf *b, const struct connection_id *id);
NODISCARD enum err connection_id_parse(struct slice text, struct connection_id *out);
