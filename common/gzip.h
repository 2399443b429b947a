/* SPDX-License-Identifier: Apache-2.0 */
/* Gzip streams whose parts are compressed once and shared by all who read them: a header, then one
 * block sequence per frame, then an end. A block sequence refers to nothing outside of itself and
 * ends on a byte, so any of them may follow any other (RFC 1951, RFC 1952). */
#pragma once
#include "common/buf.h"
#include "common/chunk.h"

#define GZIP_END_BYTES 10

/* A compressor; keeps 270 KB while it lives. Any one thread at a time. */
struct gzip;

struct gzip *gzip_new(void);
void gzip_free(struct gzip *g); /* NULL is fine */

/* A frame as gzip streams carry it: immutable. Release with free(). */
struct gzip_block {
    uint32_t len;       /* of its bytes */
    uint32_t plain_len; /* of the frame, as the CRC below: what gzip_sum_add() needs */
    uint32_t crc, shift;
    uint32_t chunk_head; /* of memory[], before its bytes */
    char memory[];       /* the bytes as an HTTP chunk: common/chunk.h */
};

static inline struct slice gzip_block_bytes(const struct gzip_block *block)
{
    return (struct slice){block->memory + block->chunk_head, block->len};
}

static inline struct slice gzip_block_chunk(const struct gzip_block *block)
{
    return (struct slice){block->memory, block->chunk_head + block->len + CHUNK_END_BYTES};
}

/* Deflated from a blank state, or stored where that is shorter, or where @plain is larger than 1 MB
 * (it would hold up the thread for too long). Not empty, and below 4 GB. */
struct gzip_block *gzip_pack(struct gzip *g, struct slice plain);
/* Stored: for what only one client gets. */
struct gzip_block *gzip_store(struct slice plain);

/* What has been packed since the last call. */
struct gzip_counts {
    uint64_t frames, plain_bytes, packed_bytes;
};
struct gzip_counts gzip_take_counts(struct gzip *g);

/* What one stream has been sent so far: check sum and length of the plain bytes. */
struct gzip_sum {
    uint32_t crc, size;
};

/* Appends the header of a stream and @plain, stored; starts *sum. */
void gzip_put_start(struct buf *b, struct gzip_sum *sum, struct slice plain);
void gzip_sum_add(struct gzip_sum *sum, const struct gzip_block *block);
/* The last bytes of a stream, by which a reader knows that it is whole. */
void gzip_end(char out[static GZIP_END_BYTES], const struct gzip_sum *sum);
