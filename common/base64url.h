/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 as in URLs and tokens (RFC 4648, 5): A-Z a-z 0-9 - _, no padding. Only the one text that
 * stands for some bytes is taken: no padding, no white space, no bits that are left over. */
#pragma once
#include "common/buf.h"

/* Appends the bytes that @text stands for. ERR_INVALID: nothing is appended. */
NODISCARD enum err base64url_decode(struct slice text, struct buf *out);
/* Appends the text. */
void base64url_put(struct buf *b, const void *bytes, size_t len);
