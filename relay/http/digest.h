/* SPDX-License-Identifier: Apache-2.0 */
/* What secrets are known by, and new ones. Any thread. */
#pragma once
#include "common/buf.h"

enum { DIGEST_BYTES = 32, DIGEST_HEX_CHARS = 64, DIGEST_RANDOM_MAX = 64 };

/* SHA-256. */
void digest_of(struct slice bytes, uint8_t out[DIGEST_BYTES]);
/* Appends it as 64 hexadecimal digits in small letters. */
void digest_put_hex(struct buf *b, struct slice bytes);
/* In a time that tells nothing of where they differ. */
bool digest_is_same(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES]);
/* Appends @count random bytes, up to DIGEST_RANDOM_MAX, as base64url. ERR_IO: there is no
 * randomness to be had. */
NODISCARD enum err digest_put_random(struct buf *b, size_t count);
