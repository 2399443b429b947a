/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of a stream: bytes in, as an EventSource reads them. Knows nothing of client.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES_LINE_MAX = 512 };

struct lanes_block {
    uint64_t id;   /* of its `id:` line */
    bool has_id;   /* it has one */
    bool forgets;  /* the first of its connection, and it has none: the last id would be lost */
    char type[32]; /* "": none */
    char data[LANES_LINE_MAX]; /* its last line: ours have one */
};

struct lanes_reader {
    bool chunked;
    enum { READ_HEAD, READ_BODY, READ_TAIL, READ_LAST } state;
    size_t left; /* bytes of the chunk, or of its end */
    char line[LANES_LINE_MAX];
    size_t len;
    bool any_id, complete, broken;
    struct lanes_block block;
};

/* A connection begins. */
void lanes_reader_begin(struct lanes_reader *r, bool chunked);
/* True: with this byte a block is complete: r->block, until the next one. r->broken: what came is
 * no such stream. */
bool lanes_reader_take(struct lanes_reader *r, char byte);
