/* SPDX-License-Identifier: Apache-2.0 */
/* How events travel through Redis: a JSON envelope on channels, fields in stream entries. No I/O.
 */
#pragma once
#include "common/event.h"
#include "common/json.h"

/* Storage behind the slices of parsed fields. Zero-initialise once, reuse, envelope_reset() at the
 * end. */
struct envelope {
    cJSON *tree;
    struct buf match;
};

/* Parses a channel message. @ns and @topic come from the channel's name, and win.
 * OK: *out is filled, valid until the next parse or reset. ERR_NOT_FOUND: not an envelope, so the
 * bytes are the data of a raw event (*out is filled so). ERR_INVALID: says it is an envelope but is
 * broken: drop and count. */
NODISCARD enum err envelope_parse(struct envelope *env, struct slice bytes, struct slice ns,
                                  struct slice topic, struct event_fields *out);
void envelope_reset(struct envelope *env);

/* Fills *out from a log entry: @entry_id as Redis prints it ("<id>-0"), @fields alternating name,
 * value. Unknown fields are ignored. The slices borrow from @fields, and that of `match` from @env,
 * until its next use. ERR_INVALID: not an entry of ours. */
NODISCARD enum err envelope_from_entry(struct envelope *env, struct slice entry_id,
                                       const struct slice *fields, size_t count, struct slice ns,
                                       struct slice topic, struct event_fields *out);
