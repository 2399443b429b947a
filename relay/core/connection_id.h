/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream is called, so that any node finds it: the tag of its node, its worker, and 64
 * random bits that nobody guesses. As text 32 hexadecimal digits in small letters. */
#pragma once
#include "common/buf.h"

enum { CONNECTION_ID_CHARS = 32, CONNECTION_ID_WORKERS = 256 };

struct connection_id {
    uint32_t tag;    /* 8 digits */
    uint32_t worker; /* 2 digits */
    uint32_t slot;   /* 6 digits: connection_id_slot() */
    uint64_t secret; /* 16 digits */
};

/* What follows from the secret, so that nobody need keep it. */
static inline uint32_t connection_id_slot(uint64_t secret)
{
    return (uint32_t)(secret * UINT64_C(0x9e3779b97f4a7c15) >> 40);
}

void connection_id_put(struct buf *b, const struct connection_id *id);
NODISCARD enum err connection_id_parse(struct slice text, struct connection_id *out);
