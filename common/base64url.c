/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base64url.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* 64 and more: no digit. */
static uint32_t value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '-' ? 62 : c == '_' ? 63 : 64;
}

/* @bits must end as @out does: what is left over of the last digit says nothing. */
static enum err decode(struct slice text, char *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t value = value_of(text.ptr[i]);
        if (value > 63)
            return ERR_INVALID;
        bits = (bits << 6 | value) & 0xFFFF;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        *out++ = (char)(bits >> held);
    }
    return (bits & ((1U << held) - 1)) == 0 ? OK : ERR_INVALID;
}

enum err base64url_decode(struct slice text, struct buf *out)
{
    if (text.len % 4 == 1)
        return ERR_INVALID;
    size_t len = text.len / 4 * 3 + text.len % 4 * 3 / 4;
    buf_reserve(out, len + 1);
    enum err e = decode(text, out->ptr + out->len);
    if (e == OK)
        out->len += len;
    return e;
}

void base64url_put(struct buf *b, const void *bytes, size_t len)
{
    const unsigned char *from = bytes;
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < len; i++) {
        bits = (bits << 8 | from[i]) & 0xFFFF;
        for (held += 8; held >= 6; held -= 6)
            buf_putc(b, digits[bits >> (held - 6) & 63]);
    }
    if (held > 0)
        buf_putc(b, digits[bits << (6 - held) & 63]);
}
