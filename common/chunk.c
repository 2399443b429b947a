/* SPDX-License-Identifier: Apache-2.0 */
#include "common/chunk.h"
#include <assert.h>

size_t chunk_put_head(char *end, uint32_t size)
{
    char *at = end;
    assert(size > 0);
    *--at = '\n';
    *--at = '\r';
    for (; size > 0; size >>= 4)
        *--at = "0123456789abcdef"[size & 15];
    return (size_t)(end - at);
}
