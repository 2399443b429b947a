/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of an HTTP/1.1 body (RFC 9112, 7.1): the size in hexadecimal digits, CRLF, as many bytes,
 * CRLF. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define CHUNK_END "\r\n"       /* of each chunk */
#define CHUNK_LAST "0\r\n\r\n" /* ends the body: by it a reader knows that it is whole */

enum {
    CHUNK_HEAD_MAX = 10, /* what stands before the bytes, of a chunk below 4 GB */
    CHUNK_END_BYTES = sizeof(CHUNK_END) - 1,
    CHUNK_LAST_BYTES = sizeof(CHUNK_LAST) - 1,
};

/* Writes what stands before @size bytes so that it ends at @end. Returns how many bytes that is.
 * @size: not 0, which would be the last chunk. */
size_t chunk_put_head(char *end, uint32_t size);
