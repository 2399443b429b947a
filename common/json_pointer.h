/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Pointers (RFC 6901): places in a JSON text. No I/O. */
#pragma once
#include "common/buf.h"

enum { JSON_POINTER_MAX = 256 }; /* bytes of one that somebody configures */

/* RFC 6901, 3: empty, or each token behind a slash, with ~ only as ~0 and ~1. */
bool json_pointer_is_valid(struct slice pointer);
/* Whether it may stand in a file: not empty, not too long, without control characters. */
bool json_pointer_is_setting(struct slice pointer);

/* The raw text of what stands at @pointer, which is valid, in @text, which json_parse() has taken:
 * as it was written, so that numbers keep their digits (a tree has doubles only). ERR_NOT_FOUND. */
NODISCARD enum err json_pointer_raw(struct slice text, struct slice pointer, struct slice *out);
