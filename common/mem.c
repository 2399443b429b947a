/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_die(void *ptr, size_t size)
{
    if (ptr == NULL) {
        fprintf(stderr, "out of memory: %zu bytes refused\n", size);
        abort();
    }
    return ptr;
}

/* malloc(0) may return NULL, which is not an error: always ask for a byte. */
static size_t at_least_one(size_t size)
{
    return size > 0 ? size : 1;
}

void *mem_alloc(size_t size)
{
    return or_die(malloc(at_least_one(size)), size);
}

void *mem_zero(size_t count, size_t size)
{
    return or_die(calloc(at_least_one(count), at_least_one(size)), size);
}

void *mem_resize(void *ptr, size_t size)
{
    return or_die(realloc(ptr, at_least_one(size)), size);
}

void *mem_grow(void *items, size_t count, size_t size)
{
    if ((count & (count - 1)) != 0) /* 0 counts as a power here: the first slot */
        return items;
    return mem_resize(items, (count > 0 ? count * 2 : 1) * size);
}

char *mem_dup(const void *bytes, size_t len)
{
    char *copy = mem_alloc(len + 1);
    if (len > 0)
        memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}
