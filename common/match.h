/* SPDX-License-Identifier: Apache-2.0 */
/* What an event asks of its receivers: names and values, of which a stream's grant must have each.
 * docs/protocol.md, 8.1.
 *
 * Kept flat, so that an event is one block: name NUL value NUL …, and one NUL more at the end. No
 * name is empty. The end alone is a match that nobody has: what a match that cannot be read comes
 * to, as it must reach nobody rather than everybody. */
#pragma once
#include "common/buf.h"
#include "common/json.h"

enum {
    MATCH_NAME_MAX = 256, /* bytes of a name */
    MATCH_MAX = 4096,     /* bytes of it all, as JSON without white space */
};

/* Whether it is an object of strings with at least one member and none twice, its names of 1 to
 * MATCH_NAME_MAX bytes, all without control characters. Of its size only that there are not more
 * than fit into MATCH_MAX. */
bool match_is_valid(const cJSON *match);

/* Appends the flat form of a text that came through Redis. ERR_INVALID: it is none of ours, and
 * nothing is appended. */
NODISCARD enum err match_put(struct buf *b, struct slice json);

/* The next pair of a flat form: moves *at behind it. False: there is none. */
bool match_next(const char **at, const char **name, const char **value);
