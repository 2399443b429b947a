/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of a token's values: what is compared and filled in. Numbers have one only where they
 * are whole and at most 2^53 - 1: of others two that differ could come to the same text. No I/O. */
#pragma once
#include "common/json.h"
#include "common/strings.h"

enum { CLAIM_TEXT_LIST_MAX = 64 }; /* elements of a list that count */

enum claim_text_kinds { CLAIM_WORDS /* texts and numbers */, CLAIM_SCALARS /* booleans, too */ };

/* Appends the text of one value; false: it has none. */
bool claim_text_put(struct buf *b, const cJSON *value, enum claim_text_kinds kinds);
/* Appends those of a value, or of the first CLAIM_TEXT_LIST_MAX elements of a list. Returns how
 * many values there were that have none, or do not count. */
size_t claim_text_all(const cJSON *value, enum claim_text_kinds kinds, struct strings *out);
