/* SPDX-License-Identifier: Apache-2.0 */
#include "common/gzip.h"
#include "common/mem.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    PACK_MAX = 1 << 20,
    STORED_MAX = 65535, /* in one stored block */
    STORED_HEAD = 5,
};

struct gzip {
    z_stream z;
    struct buf out;
    struct gzip_counts counts;
};

struct gzip *gzip_new(void)
{
    struct gzip *g = mem_zero(1, sizeof(*g));
    int rc =
        deflateInit2(&g->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    if (rc != Z_OK)
        abort(); /* out of memory, as in mem_alloc() */
    return g;
}

void gzip_free(struct gzip *g)
{
    if (!g)
        return;
    deflateEnd(&g->z);
    buf_reset(&g->out);
    free(g);
}

static uint32_t crc_of(struct slice plain)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), (const unsigned char *)plain.ptr, plain.len);
}

static size_t stored_len(size_t len)
{
    return len + (len + STORED_MAX - 1) / STORED_MAX * STORED_HEAD;
}

/* Blocks of type 00, none of them the last one: 3 bits and the fill-up to a byte are all zero. */
static char *put_stored(char *out, struct slice plain)
{
    while (plain.len) {
        size_t n = plain.len < STORED_MAX ? plain.len : STORED_MAX;
        const unsigned char head[STORED_HEAD] = {0, (unsigned char)n, (unsigned char)(n >> 8),
                                                 (unsigned char)~n, (unsigned char)(~n >> 8)};
        memcpy(out, head, STORED_HEAD);
        memcpy(out + STORED_HEAD, plain.ptr, n);
        out += STORED_HEAD + n;
        plain = (struct slice){plain.ptr + n, plain.len - n};
    }
    return out;
}

/* All but the @len bytes themselves, which the caller puts where block_fill() says. */
static struct gzip_block *block_new(struct slice plain, size_t len)
{
    char head[CHUNK_HEAD_MAX];
    assert(plain.len <= UINT32_MAX && len <= UINT32_MAX);
    size_t head_len = chunk_put_head(head + sizeof(head), (uint32_t)len);
    struct gzip_block *block = mem_alloc(sizeof(*block) + head_len + len + CHUNK_END_BYTES);
    memcpy(block->memory, head + sizeof(head) - head_len, head_len);
    memcpy(block->memory + head_len + len, CHUNK_END, CHUNK_END_BYTES);
    block->chunk_head = (uint32_t)head_len;
    block->len = (uint32_t)len;
    block->plain_len = (uint32_t)plain.len;
    block->crc = crc_of(plain);
    /* Makes gzip_sum_add(), which runs for every client, one multiplication. */
    block->shift = (uint32_t)crc32_combine_gen((z_off_t)plain.len);
    return block;
}

static char *block_fill(struct gzip_block *block)
{
    return block->memory + block->chunk_head;
}

/* The result's length in g->out, or 0: storing is as short. A full flush leaves the compressor as
 * it was at first: it forgets what it has seen, and ends on a byte. */
static size_t deflate_frame(struct gzip *g, struct slice plain)
{
    size_t room = stored_len(plain.len);
    buf_clear(&g->out);
    buf_reserve(&g->out, room);
    g->z.next_in = (z_const Bytef *)(uintptr_t)plain.ptr;
    g->z.avail_in = (uInt)plain.len;
    g->z.next_out = (Bytef *)g->out.ptr;
    g->z.avail_out = (uInt)room;
    int rc = deflate(&g->z, Z_FULL_FLUSH);
    assert(rc == Z_OK);
    (void)rc;
    if (g->z.avail_out > 0)
        return room - g->z.avail_out;
    deflateReset(&g->z); /* there may be more to come */
    return 0;
}

struct gzip_block *gzip_pack(struct gzip *g, struct slice plain)
{
    size_t len = plain.len <= PACK_MAX ? deflate_frame(g, plain) : 0;
    struct gzip_block *block;
    if (len) {
        block = block_new(plain, len);
        memcpy(block_fill(block), g->out.ptr, len);
    } else {
        block = gzip_store(plain);
    }
    g->counts.frames++;
    g->counts.plain_bytes += plain.len;
    g->counts.packed_bytes += block->len;
    if (g->out.cap > 2 * STORED_MAX)
        buf_reset(&g->out); /* a large frame is rare */
    return block;
}

struct gzip_block *gzip_store(struct slice plain)
{
    struct gzip_block *block = block_new(plain, stored_len(plain.len));
    put_stored(block_fill(block), plain);
    return block;
}

struct gzip_counts gzip_take_counts(struct gzip *g)
{
    struct gzip_counts counts = g->counts;
    g->counts = (struct gzip_counts){0};
    return counts;
}

void gzip_put_start(struct buf *b, struct gzip_sum *sum, struct slice plain)
{
    /* Deflate; no name, no time, unknown system. */
    static const unsigned char head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};
    size_t len = stored_len(plain.len);
    buf_put(b, head, sizeof head);
    buf_reserve(b, len);
    put_stored(b->ptr + b->len, plain);
    b->len += len;
    *sum = (struct gzip_sum){crc_of(plain), (uint32_t)plain.len};
}

void gzip_sum_add(struct gzip_sum *sum, const struct gzip_block *block)
{
    sum->crc = (uint32_t)crc32_combine_op(sum->crc, block->crc, block->shift);
    sum->size += block->plain_len; /* modulo 2^32, as the format has it */
}

void gzip_end(char out[static GZIP_END_BYTES], const struct gzip_sum *sum)
{
    out[0] = 3; /* a last block with nothing in it */
    out[1] = 0;
    for (int i = 0; i < 4; i++) {
        out[2 + i] = (char)(sum->crc >> (8 * i));
        out[6 + i] = (char)(sum->size >> (8 * i));
    }
}
