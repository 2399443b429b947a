/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the answer to a stream's request: HTTP head, chunked coding and gzip where there are, then
 * the blocks of text/event-stream. Made for many streams: a reader keeps only what a read has cut
 * off, and a read's bytes are parsed where they are. Line ends are LF or CRLF. No I/O. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tag.h"
#include "unzip.h"

enum {
    SSE_READER_HEAD_MAX = 16 << 10,
    SSE_READER_LINE_MAX = 32 << 20, /* a longer line is an error */
};

enum sse_kind { SSE_EVENT, SSE_CONNECTED, SSE_GAP, SSE_DROPPED, SSE_SHUTDOWN };

/* One block with an id or data. */
struct sse_event {
    enum sse_kind kind; /* by the end of its type: ".gap" and so on */
    bool has_id, has_data, has_tag;
    uint64_t id;     /* 0 if it is not a decimal number */
    size_t data_len; /* of its last data line */
    struct tag tag;  /* if has_tag */
    uint64_t count;  /* of SSE_DROPPED */
    uint64_t from;   /* of SSE_GAP */
    /* Of data without a tag, as \"17,18,\": how many ascending numbers, the first, the last. */
    uint64_t numbers, first_number, last_number;
};

enum sse_phase { SSE_HEAD, SSE_BODY, SSE_REFUSED, SSE_BROKEN };

struct sse_reader {
    char *kept; /* cut off by the last read; inflated */
    size_t kept_len;
    struct unzip *unzip; /* NULL: not compressed */
    const char *error;   /* what is wrong, when it is SSE_BROKEN */
    size_t chunk_left;   /* bytes of the current chunk */
    uint8_t phase;       /* enum sse_phase */
    uint8_t chunk;       /* where in the chunked coding the next byte is */
    uint16_t status;     /* of HTTP, once the head is there */
    struct sse_event event;
};

/* Called for each block, in order. @ev lives until it returns. */
typedef void sse_on_event(void *arg, const struct sse_event *ev);

void sse_reader_reset(struct sse_reader *r); /* releases what is kept; ready for a new answer */
/* Copies what the last read cut off to the front of @scratch, and returns its length: the next read
 * goes behind it. @scratch must have room for sse_reader_kept() bytes. */
size_t sse_reader_resume(struct sse_reader *r, char *scratch);
size_t sse_reader_kept(const struct sse_reader *r);
/* Takes @len bytes at @scratch, of which the first @resumed came from sse_reader_resume. Overwrites
 * @scratch. Returns how many bytes of the event stream were new, without HTTP and inflated.
 * Afterwards look at r->phase: SSE_REFUSED is a status other than 200, SSE_BROKEN what is no HTTP,
 * no SSE, or no gzip where it was announced. */
size_t sse_reader_take(struct sse_reader *r, char *scratch, size_t resumed, size_t len,
                       sse_on_event *on_event, void *arg);
