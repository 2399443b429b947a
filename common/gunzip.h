/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that came compressed, decoded in whole and within a bound: what is small on the wire may
 * be a thousand times as large. */
#pragma once
#include "common/buf.h"

enum gunzip_coding {
    GUNZIP_GZIP,    /* RFC 1952: one member or more, as gzip itself takes them */
    GUNZIP_DEFLATE, /* the zlib format (RFC 1950); also what some send instead, bare (RFC 1951) */
};

/* Appends the plain bytes of @packed to *out, which takes memory for twice @max at most, and 64 KB.
 * ERR_FULL: there are more than @max. ERR_INVALID: not of that coding, not whole, or something
 * stands behind its end. On both *out is as long as it was. Any thread; holds it up for up to
 * 8 ms for each MB of plain JSON (zlib 1.2.13, on a busy machine). */
NODISCARD enum err gunzip_decode(struct slice packed, enum gunzip_coding coding, size_t max,
                                 struct buf *out);
