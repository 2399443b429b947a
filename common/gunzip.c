/* SPDX-License-Identifier: Apache-2.0 */
#include "common/gunzip.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

enum { STEP_BYTES = 65536 };

/* What inflateInit2() is told. */
enum format { FORMAT_GZIP = MAX_WBITS + 16, FORMAT_ZLIB = MAX_WBITS, FORMAT_BARE = -MAX_WBITS };

struct decoder {
    z_stream z;
    struct slice rest; /* of the input, beyond what zlib has been given */
    struct buf *out;
    size_t start, max; /* out->len at first; how much more it may become */
};

/* zlib counts what it is given in 32 bits. */
static void feed(struct decoder *d)
{
    if (d->z.avail_in || !d->rest.len)
        return;
    size_t n = d->rest.len < UINT_MAX ? d->rest.len : UINT_MAX;
    d->z.next_in = (z_const Bytef *)(uintptr_t)d->rest.ptr;
    d->z.avail_in = (uInt)n;
    d->rest = (struct slice){d->rest.ptr + n, d->rest.len - n};
}

/* One step of zlib. There is room for one byte more than is allowed, which tells that there is one.
 */
static int step(struct decoder *d)
{
    size_t left = d->max - (d->out->len - d->start);
    size_t room = left < STEP_BYTES ? left + 1 : STEP_BYTES;
    feed(d);
    buf_reserve(d->out, room);
    d->z.next_out = (Bytef *)d->out->ptr + d->out->len;
    d->z.avail_out = (uInt)room;
    int rc = inflate(&d->z, Z_NO_FLUSH);
    d->out->len += room - d->z.avail_out;
    return rc;
}

static bool has_more(const struct decoder *d)
{
    return d->z.avail_in || d->rest.len;
}

static enum err decode_all(struct decoder *d, enum format format)
{
    for (;;) {
        int rc = step(d);
        if (d->out->len - d->start > d->max)
            return ERR_FULL;
        if (rc == Z_MEM_ERROR)
            abort(); /* as in mem_alloc() */
        if (rc == Z_STREAM_END && !has_more(d))
            return OK;
        if (rc == Z_STREAM_END && format == FORMAT_GZIP)
            rc = inflateReset(&d->z); /* another member */
        /* Z_BUF_ERROR: it wants more, and there is none. */
        if (rc != Z_OK)
            return ERR_INVALID;
    }
}

static enum err decode_as(struct slice packed, enum format format, size_t max, struct buf *out)
{
    struct decoder d = {.rest = packed, .out = out, .start = out->len, .max = max};
    if (inflateInit2(&d.z, format) != Z_OK)
        abort(); /* out of memory */
    enum err e = decode_all(&d, format);
    inflateEnd(&d.z);
    if (e != OK)
        out->len = d.start;
    return e;
}

enum err gunzip_decode(struct slice packed, enum gunzip_coding coding, size_t max, struct buf *out)
{
    if (coding == GUNZIP_GZIP)
        return decode_as(packed, FORMAT_GZIP, max, out);
    /* Bare blocks may begin as the zlib format does, but not have its check sum at their end. */
    enum err e = decode_as(packed, FORMAT_ZLIB, max, out);
    return e == ERR_INVALID ? decode_as(packed, FORMAT_BARE, max, out) : e;
}
