/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base64url.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Of each digit its value and one more; 0: no digit. By a table, as the digits are random to a
 * processor that guesses which way a branch goes. */
#define D(c, value) [c] = (value) + 1
static const uint8_t values[256] = {
    D('A', 0),  D('B', 1),  D('C', 2),  D('D', 3),  D('E', 4),  D('F', 5),  D('G', 6),  D('H', 7),
    D('I', 8),  D('J', 9),  D('K', 10), D('L', 11), D('M', 12), D('N', 13), D('O', 14), D('P', 15),
    D('Q', 16), D('R', 17), D('S', 18), D('T', 19), D('U', 20), D('V', 21), D('W', 22), D('X', 23),
    D('Y', 24), D('Z', 25), D('a', 26), D('b', 27), D('c', 28), D('d', 29), D('e', 30), D('f', 31),
    D('g', 32), D('h', 33), D('i', 34), D('j', 35), D('k', 36), D('l', 37), D('m', 38), D('n', 39),
    D('o', 40), D('p', 41), D('q', 42), D('r', 43), D('s', 44), D('t', 45), D('u', 46), D('v', 47),
    D('w', 48), D('x', 49), D('y', 50), D('z', 51), D('0', 52), D('1', 53), D('2', 54), D('3', 55),
    D('4', 56), D('5', 57), D('6', 58), D('7', 59), D('8', 60), D('9', 61), D('-', 62), D('_', 63)};

/* The bits of up to four digits, the first one highest. False: one of them is none. */
static bool take_digits(const char *text, size_t count, uint32_t *bits)
{
    bool all = true;
    *bits = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t value = values[(unsigned char)text[i]];
        all &= value > 0;
        *bits = *bits << 6 | ((value - 1) & 63);
    }
    return all;
}

/* The bytes of a last, shorter group. What is left over of its last digit must be zeros. */
static enum err decode_rest(struct slice text, char *out)
{
    uint32_t bits;
    size_t bytes = text.len * 6 / 8;
    unsigned left = (unsigned)(text.len * 6 - bytes * 8);
    if (!take_digits(text.ptr, text.len, &bits) || bits & ((1U << left) - 1))
        return ERR_INVALID;
    bits >>= left;
    for (size_t i = bytes; i-- > 0; bits >>= 8)
        out[i] = (char)bits;
    return OK;
}

static enum err decode(struct slice text, char *out)
{
    uint32_t bits;
    for (; text.len >= 4; text.ptr += 4, text.len -= 4, out += 3) {
        if (!take_digits(text.ptr, 4, &bits))
            return ERR_INVALID;
        out[0] = (char)(bits >> 16);
        out[1] = (char)(bits >> 8);
        out[2] = (char)bits;
    }
    return decode_rest(text, out);
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
