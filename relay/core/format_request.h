/* SPDX-License-Identifier: Apache-2.0 */
/* How a stream asks for its events: `format`, `type_from_topic` of docs/protocol.md, 4.9. No I/O.
 */
#pragma once
#include "common/buf.h"
#include "common/err.h"
#include "common/event.h"

struct format_request {
    bool has_format : 1, is_json : 1;         /* json, or plain */
    bool has_naming : 1, type_from_topic : 1; /* on, or off; neither: events.type_from_topic */
};

/* The names of what may be asked for; NULL-terminated. */
extern const char *const format_request_names[];
/* @name: one of those. ERR_INVALID: "expected …" is appended to *why, without the name and what was
 * given. */
NODISCARD enum err format_request_set(struct format_request *f, const char *name, struct slice text,
                                      struct buf *why);
/* For --explain: "; format json" and so on for what it says. */
void format_request_put(const struct format_request *f, struct buf *out);
/* What @f does not say, @other does. */
void format_request_merge(struct format_request *f, const struct format_request *other);
/* What that comes to, a set of enum event_format. @configured: events.type_from_topic. */
uint8_t format_request_settle(const struct format_request *f, bool configured);
