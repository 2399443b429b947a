/* SPDX-License-Identifier: Apache-2.0 */
#include "unzip.h"
#include "common/mem.h"
#include <stdlib.h>
#define ZLIB_CONST
#include <zlib.h>

enum { GZIP_ONLY = 16 }; /* added to the window's bits */

struct unzip {
    z_stream z;
    const char *error;
};

struct unzip *unzip_new(void)
{
    struct unzip *z = mem_zero(1, sizeof *z);
    if (inflateInit2(&z->z, MAX_WBITS + GZIP_ONLY) != Z_OK)
        abort();
    return z;
}

void unzip_free(struct unzip *z)
{
    if (!z)
        return;
    inflateEnd(&z->z);
    free(z);
}

void unzip_feed(struct unzip *z, const char *bytes, size_t len)
{
    z->z.next_in = (const Bytef *)bytes;
    z->z.avail_in = (uInt)len;
}

size_t unzip_take(struct unzip *z, char *out, size_t room)
{
    z->z.next_out = (Bytef *)out;
    z->z.avail_out = (uInt)room;
    while (!z->error && z->z.avail_out) {
        int result = inflate(&z->z, Z_SYNC_FLUSH);
        if (result == Z_STREAM_END && z->z.avail_in)
            inflateReset(&z->z); /* another member */
        else if (result == Z_STREAM_END || result == Z_BUF_ERROR)
            break;
        else if (result != Z_OK)
            z->error = z->z.msg ? z->z.msg : zError(result);
    }
    return room - z->z.avail_out;
}

const char *unzip_error(const struct unzip *z)
{
    return z->error;
}
