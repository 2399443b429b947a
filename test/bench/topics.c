/* SPDX-License-Identifier: Apache-2.0 */
#include "topics.h"
#include <stdlib.h>
#include <string.h>

void topics_put_name(const struct topics *t, uint32_t n, bool pattern, struct buf *out)
{
    for (const char *p = t->name; *p; p++) {
        if (*p != '%' || (p[1] != 'd' && p[1] != 'g' && p[1] != '%')) {
            buf_putc(out, *p);
            continue;
        }
        p++;
        if (*p == '%')
            buf_putc(out, '%');
        else if (*p == 'g')
            buf_put_u64(out, n / t->group);
        else if (pattern)
            buf_putc(out, '*');
        else
            buf_put_u64(out, n);
    }
}

static void put_encoded(struct buf *out, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || strchr("-._~", c))
            buf_putc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

static void put_name_encoded(const struct topics *t, uint32_t n, bool pattern, struct buf *out)
{
    struct buf name = {0};
    topics_put_name(t, n, pattern, &name);
    put_encoded(out, name.ptr, name.len);
    buf_reset(&name);
}

/* The @j-th subscription of a client: the number of a topic, or of the first one of a group. */
static uint32_t subscription(const struct topics *t, uint32_t client, uint32_t j, bool *pattern)
{
    uint32_t groups = (t->count + t->group - 1) / t->group;
    uint32_t plain = t->per_client - t->patterns;
    *pattern = j < t->patterns;
    if (*pattern)
        return (uint32_t)(((uint64_t)client * t->patterns + j) % groups) * t->group;
    return (uint32_t)(((uint64_t)client * plain + j - t->patterns) % t->count);
}

/* Appends one piece of a template, its %t being topic or pattern @n. */
static void put_piece(const struct topics *t, const char *piece, size_t len, uint32_t client,
                      uint32_t n, bool pattern, struct buf *out)
{
    for (size_t i = 0; i < len; i++) {
        char next = piece[i] == '%' && i + 1 < len ? piece[i + 1] : '\0';
        if (next == 't')
            put_name_encoded(t, n, pattern, out);
        else if (next == 'i')
            buf_put_u64(out, client);
        else if (next == '%')
            buf_putc(out, '%');
        else
            buf_putc(out, piece[i]);
        if (next == 't' || next == 'i' || next == '%')
            i++;
    }
}

void topics_put_target_of(const struct topics *t, const char *template, uint32_t topic,
                          struct buf *out)
{
    put_piece(t, template, strlen(template), 0, topic, false, out);
}

void topics_put_target(const struct topics *t, const char *template, uint32_t client,
                       struct buf *out)
{
    const char *end = template + strlen(template), *at = strstr(template, "%t");
    if (!at) {
        put_piece(t, template, (size_t)(end - template), client, 0, false, out);
        return;
    }
    const char *from = at, *to = at;
    while (from > template && from[-1] != '&' && from[-1] != '?')
        from--;
    while (to < end && *to != '&')
        to++;
    put_piece(t, template, (size_t)(from - template), client, 0, false, out);
    for (uint32_t j = 0; j < t->per_client; j++) {
        bool pattern;
        uint32_t n = subscription(t, client, j, &pattern);
        if (j)
            buf_putc(out, '&');
        put_piece(t, from, (size_t)(to - from), client, n, pattern, out);
    }
    put_piece(t, to, (size_t)(end - to), client, 0, false, out);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

size_t topics_set_max(const struct topics *t)
{
    return (size_t)t->patterns * t->group + t->per_client - t->patterns;
}

size_t topics_set(const struct topics *t, uint32_t client, uint32_t *out)
{
    size_t count = 0, unique = 0;
    for (uint32_t j = 0; j < t->per_client; j++) {
        bool pattern;
        uint32_t n = subscription(t, client, j, &pattern);
        uint32_t end = pattern ? n + t->group : n + 1;
        for (; n < end && n < t->count; n++)
            out[count++] = n;
    }
    qsort(out, count, sizeof *out, compare);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || out[i] != out[i - 1])
            out[unique++] = out[i];
    return unique;
}
