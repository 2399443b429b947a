/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a body that arrives piece by piece into events: docs/protocol.md, 8.5. No I/O. Owned by one
 * thread; what it holds is at most one event, and room for some bytes more. */
#pragma once
#include "common/sse_parser.h"

enum cutter_kind {
    CUTTER_SSE,    /* a block is an event */
    CUTTER_LINES,  /* a line is one, unless it is empty; it ends with LF or CRLF */
    CUTTER_CHUNKS, /* a piece is one, cut between characters */
};

struct cutter {
    enum cutter_kind kind;
    size_t max_bytes; /* of an event's data */
    struct sse_parser sse;
    struct buf rest; /* of the others: what is not an event yet */
    bool delivered;  /* `rest` was handed out */
    size_t keep;     /* … up to here */
};

struct cut {
    struct slice data;
    struct slice type; /* SLICE_NONE: it has none of its own */
};

/* @max_bytes: at least 4. */
void cutter_init(struct cutter *c, enum cutter_kind kind, size_t max_bytes);
void cutter_reset(struct cutter *c);
/* Takes bytes off *input until there is an event. OK: *out is borrowed until the next call.
 * ERR_AGAIN: all of *input was taken. ERR_RANGE: the event is larger than max_bytes; ERR_INVALID:
 * it is not UTF-8 (of chunks only: the others are told by whom they are for). After these two
 * nothing more may be cut. */
NODISCARD enum err cutter_next(struct cutter *c, struct slice *input, struct cut *out);
/* The body is whole. OK: it had one more event, a last line without an end. ERR_NOT_FOUND: it had
 * not. ERR_INVALID: it ends within a character. A block that is not whole is none. */
NODISCARD enum err cutter_end(struct cutter *c, struct cut *out);
size_t cutter_bytes(const struct cutter *c); /* held */
