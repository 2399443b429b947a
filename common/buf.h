/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer. Zero-initialised is empty; buf_reset() releases. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "common/slice.h"

struct buf {
    char *ptr;
    size_t len, cap;
};

void buf_reset(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_reserve(struct buf *b, size_t more);
void buf_put(struct buf *b, const void *bytes, size_t len);
void buf_putc(struct buf *b, char c);
void buf_puts(struct buf *b, const char *text);
void buf_put_slice(struct buf *b, struct slice s);
void buf_put_utf8(struct buf *b,
                  struct slice s); /* what is not UTF-8 becomes U+FFFD, one per maximal subpart */
void buf_put_u64(struct buf *b, uint64_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct slice buf_slice(const struct buf *b);
/* Hands the bytes to the caller (NUL added, not counted) and leaves @b empty. Release with free().
 */
char *buf_take(struct buf *b, size_t *len);
