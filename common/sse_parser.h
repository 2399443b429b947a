/* SPDX-License-Identifier: Apache-2.0 */
/* Reads text/event-stream as it arrives, cut anywhere (WHATWG HTML, 9.2.6, "Interpreting an event
 * stream"), but for what only a client needs: `id`, `retry` and comments are passed over. What is
 * not UTF-8 is left as it is. No I/O; zero-initialised is at the beginning of a stream. */
#pragma once
#include "common/buf.h"

enum sse_parser_at { SSE_PARSER_NAME, SSE_PARSER_SPACE, SSE_PARSER_VALUE };
enum sse_parser_field { SSE_PARSER_OTHER, SSE_PARSER_DATA, SSE_PARSER_EVENT };
enum { SSE_PARSER_NAME_MAX = 6, SSE_PARSER_TYPE_MAX = 1024 };

struct sse_parser {
    struct buf data, type; /* of the block that is being read */
    char name[SSE_PARSER_NAME_MAX];
    size_t name_len; /* one more than there is room for: no name that is known */
    enum sse_parser_at at;
    enum sse_parser_field field;
    unsigned bom;   /* bytes of a byte order mark that have come; 3: past it, or there was none */
    bool has_data;  /* a line of it: it may be empty */
    bool after_cr;  /* an LF now belongs to it */
    bool delivered; /* data and type are of a block that was handed out */
};

/* Takes bytes off *input until a block is whole. OK: *data and *type are its own, SLICE_NONE where
 * it has no type, borrowed until the next call. ERR_AGAIN: all of *input was taken. ERR_RANGE: the
 * block has more than @max_bytes of data; nothing more may be read then. A type is cut at
 * SSE_PARSER_TYPE_MAX bytes. */
NODISCARD enum err sse_parser_next(struct sse_parser *p, struct slice *input, size_t max_bytes,
                                   struct slice *data, struct slice *type);
size_t sse_parser_bytes(const struct sse_parser *p); /* held of a block that is not whole */
void sse_parser_reset(struct sse_parser *p);
