/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format of Server-Sent Events (WHATWG HTML, 9.2), as docs/protocol.md narrows it. */
#pragma once
#include "common/buf.h"
#include "common/event_fields.h"

/* Appends the frame: id, event, retry, data lines, blank line. CR, LF and CRLF each end a data
 * line; NUL is dropped from data; CR, LF and NUL are dropped from the type; bytes that are not
 * UTF-8 become U+FFFD, one per maximal subpart, as every browser would decode them. */
void sse_put_frame(struct buf *b, const struct event_fields *fields);

/* Appends a control event named @prefix@name, e.g. "relay." "gap". @id 0: no id line. @json: one
 * line. */
void sse_put_control(struct buf *b, uint64_t id, const char *prefix, const char *name,
                     struct slice json);

/* Appends a block that only moves the client's cursor, to 0 as to any other id; no EventSource
 * dispatches it. */
void sse_put_position(struct buf *b, uint64_t id);

/* Appends one frame for several that sse_put_frame() made, without retry: the id of the last, the
 * type of the first, and their data in a row. The last line of one goes on with the first of the
 * next. */
void sse_put_joined(struct buf *b, const struct slice *frames, size_t count);

/* How sse_put_form() tells a frame. */
struct sse_form {
    struct slice topic;
    bool swaps_type;  /* it has no type where the frame has one, and else its topic */
    bool as_json;     /* its data is in an envelope: docs/protocol.md, 4.9 … */
    bool is_piece;    /* … as text, whatever it looks like */
    uint64_t time_ms; /* Unix time */
};
/* Appends a frame that sse_put_frame() or sse_put_joined() made (or a copy of it with an id) as
 * @form has it. */
void sse_put_form(struct buf *b, struct slice frame, const struct sse_form *form);

/* Whether a frame made by one of these (or a copy of one with an id) tells an id, and which. */
bool sse_frame_id(struct slice frame, uint64_t *id);
