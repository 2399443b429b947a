/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"
#include "common/mem.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_reset(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

/* The first reservation is exact, so that a caller who knows the size wastes nothing; later ones
 * double. */
void buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len >= more)
        return;
    size_t need = b->len + more;
    assert(need >= more);
    size_t cap = need > 2 * b->cap ? need : 2 * b->cap;
    b->ptr = mem_resize(b->ptr, cap);
    b->cap = cap;
}

void buf_put(struct buf *b, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    buf_reserve(b, len);
    memcpy(b->ptr + b->len, bytes, len);
    b->len += len;
}

void buf_putc(struct buf *b, char c)
{
    if (b->len == b->cap)
        buf_reserve(b, b->cap == 0 ? 64 : 1);
    b->ptr[b->len++] = c;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.ptr, s.len);
}

void buf_put_utf8(struct buf *b, struct slice s)
{
    for (;;) {
        size_t bad, good = slice_utf8_prefix(s, &bad);
        buf_put(b, s.ptr, good);
        if (bad == 0)
            return;
        buf_put(b, "\xEF\xBF\xBD", 3);
        s = (struct slice){s.ptr + good + bad, s.len - good - bad};
    }
}

void buf_put_u64(struct buf *b, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    buf_put(b, digits + at, sizeof digits - at);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    assert(len >= 0);
    buf_reserve(b, (size_t)len + 1);
    vsnprintf(b->ptr + b->len, (size_t)len + 1, fmt, again);
    va_end(again);
    b->len += (size_t)len;
}

struct slice buf_slice(const struct buf *b)
{
    /* An empty buffer is an empty string, not an absent one. */
    return (struct slice){b->ptr != NULL ? b->ptr : "", b->len};
}

char *buf_take(struct buf *b, size_t *len)
{
    char *bytes;
    buf_reserve(b, 1);
    b->ptr[b->len] = '\0';
    bytes = b->ptr;
    if (len != NULL)
        *len = b->len;
    *b = (struct buf){0};
    return bytes;
}
