/* SPDX-License-Identifier: Apache-2.0 */
#include "common/slice.h"
#include "common/mem.h"
#include <string.h>

struct slice slice_of(const char *text)
{
    if (text == NULL)
        return SLICE_NONE;
    return (struct slice){text, strlen(text)};
}

bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Not tolower(): that one asks the locale. */
static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool slice_eq_nocase(struct slice a, const char *text)
{
    if (strlen(text) != a.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.ptr[i]) != lower(text[i]))
            return false;
    return true;
}

bool slice_is(struct slice a, const char *text)
{
    return slice_eq(a, slice_of(text));
}

bool slice_has_prefix(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && slice_eq((struct slice){a.ptr, prefix.len}, prefix);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = (struct slice){s.ptr + 1, s.len - 1};
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

struct slice slice_cut(struct slice *rest, char mark)
{
    struct slice whole = *rest;
    const char *at = whole.len ? memchr(whole.ptr, mark, whole.len) : NULL;
    *rest = SLICE_NONE;
    if (!at)
        return whole;
    size_t len = (size_t)(at - whole.ptr);
    *rest = (struct slice){at + 1, whole.len - len - 1};
    return (struct slice){whole.ptr, len};
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7F;
}

/* Whether one of the eight bytes is one. */
static bool word_has_control(uint64_t word)
{
    const uint64_t ones = UINT64_MAX / 255, highs = ones << 7;
    uint64_t del = word ^ (ones * 0x7F);
    return (((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & highs;
}

/* Eight bytes at a time: a header with a token in it has many, and a request is looked through
 * before anything else. */
bool slice_has_control(struct slice s)
{
    size_t i = 0;
    for (uint64_t word; s.len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, s.ptr + i, sizeof(word));
        if (word_has_control(word))
            return true;
    }
    for (; i < s.len; i++)
        if (is_control(s.ptr[i]))
            return true;
    return false;
}

char *slice_dup(struct slice s)
{
    return s.ptr == NULL ? NULL : mem_dup(s.ptr, s.len);
}

/* Length of the character at @p. 0: invalid, and *bad tells how many bytes its maximal subpart has
 * (at least 1). The bounds of the second byte (RFC 3629, section 4) keep out overlong forms,
 * surrogates and what is above U+10FFFF. */
static size_t sequence_len(const unsigned char *p, size_t left, size_t *bad)
{
    unsigned char first = p[0];
    size_t len = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    *bad = 1;
    if ((first >= 0x80 && first < 0xC2) || first > 0xF4)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (i >= left || p[i] < low || p[i] > high) {
            *bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xBF;
    }
    return len;
}

size_t slice_utf8_prefix(struct slice s, size_t *bad)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t i = 0;
    while (i < s.len) {
        uint64_t word;
        if (p[i] < 0x80) {
            /* Almost everything is ASCII: eight bytes at a time. */
            while (s.len - i >= sizeof word) {
                memcpy(&word, p + i, sizeof word);
                if ((word & UINT64_C(0x8080808080808080)) != 0)
                    break;
                i += sizeof word;
            }
            while (i < s.len && p[i] < 0x80)
                i++;
            continue;
        }
        size_t len = sequence_len(p + i, s.len - i, bad);
        if (len == 0)
            return i;
        i += len;
    }
    *bad = 0;
    return s.len;
}

bool slice_utf8_valid(struct slice s)
{
    size_t bad;
    return slice_utf8_prefix(s, &bad) == s.len;
}

enum err slice_u64(struct slice s, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;
    bool over = false;
    if (s.len == 0 || (s.len > 1 && s.ptr[0] == '0'))
        return ERR_INVALID;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return ERR_INVALID;
        /* Go on after an overflow: a later byte decides between malformed and out of range. */
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(s.ptr[i] - '0'), &n))
            over = true;
    }
    if (over || n > max)
        return ERR_RANGE;
    *out = n;
    return OK;
}

struct unit {
    const char *suffix;
    uint64_t factor;
};

static enum err number_with_unit(struct slice s, const struct unit *units, size_t count,
                                 uint64_t *out)
{
    size_t digits = 0;
    while (digits < s.len && s.ptr[digits] >= '0' && s.ptr[digits] <= '9')
        digits++;
    struct slice suffix = {s.ptr + digits, s.len - digits};
    for (size_t i = 0; i < count; i++) {
        uint64_t n;
        if (!slice_is(suffix, units[i].suffix))
            continue;
        enum err e = slice_u64((struct slice){s.ptr, digits}, UINT64_MAX / units[i].factor, &n);
        if (e == OK)
            *out = n * units[i].factor;
        return e;
    }
    return ERR_INVALID;
}

enum err slice_duration_ms(struct slice s, uint64_t *out_ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    if (slice_is(s, "0")) {
        *out_ms = 0;
        return OK;
    }
    return number_with_unit(s, units, sizeof units / sizeof *units, out_ms);
}

enum err slice_size(struct slice s, uint64_t *out_bytes)
{
    static const struct unit units[] = {
        {"", 1}, {"KB", UINT64_C(1) << 10}, {"MB", UINT64_C(1) << 20}, {"GB", UINT64_C(1) << 30}};
    return number_with_unit(s, units, sizeof units / sizeof *units, out_bytes);
}
