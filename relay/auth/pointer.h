/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Pointers (RFC 6901): where in a token's claims a value is, and its texts. Case-sensitive,
 * which those of libcjson's utilities are not by default. No I/O. */
#pragma once
#include "common/json.h"
#include "common/strings.h"

enum { POINTER_MAX = 256, POINTER_LIST_MAX = 64 /* elements of a list that count */ };

/* Begins with a slash; after ~ comes 0 or 1; no control characters; at most POINTER_MAX bytes. */
bool pointer_valid(struct slice pointer);
/* NULL: there is nothing. @pointer: valid. */
const cJSON *pointer_find(const cJSON *tree, struct slice pointer);

/* Texts are what is compared and filled in. Numbers have one only where they are whole and at most
 * 2^53 - 1: of others two that differ could come to the same text. */
enum pointer_kinds { POINTER_WORDS /* texts and numbers */, POINTER_SCALARS /* booleans, too */ };
/* Appends the text of one value; false: it has none. */
bool pointer_put_text(struct buf *b, const cJSON *value, enum pointer_kinds kinds);
/* Appends those of a value, or of the first POINTER_LIST_MAX elements of a list. Returns how many
 * values there were that have none, or do not count. */
size_t pointer_texts(const cJSON *value, enum pointer_kinds kinds, struct strings *out);
