/* SPDX-License-Identifier: Apache-2.0 */
#include "tag.h"
#include <string.h>

static const char MAGIC[] = "sb1 ";
enum { MAGIC_LEN = sizeof MAGIC - 1 };

static char *put_number(char *to, uint64_t n)
{
    char digits[20];
    size_t len = 0;
    do {
        digits[len++] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    while (len)
        *to++ = digits[--len];
    *to++ = ' ';
    return to;
}

size_t tag_write(const struct tag *tag, char *to, size_t size)
{
    char *p = to;
    memcpy(p, MAGIC, MAGIC_LEN);
    p = put_number(p + MAGIC_LEN, tag->run);
    p = put_number(p, tag->g);
    p = put_number(p, tag->topic);
    p = put_number(p, tag->s);
    p = put_number(p, tag->at_ns);
    while ((size_t)(p - to) < size) {
        *p = (char)('a' + (p - to) % 26);
        p++;
    }
    return (size_t)(p - to);
}

static const char *get_number(const char *p, const char *end, uint64_t *out)
{
    uint64_t n = 0;
    const char *start = p;
    while (p < end && *p >= '0' && *p <= '9')
        n = n * 10 + (uint64_t)(*p++ - '0');
    if (p == start || p == end || *p != ' ')
        return NULL;
    *out = n;
    return p + 1;
}

bool tag_read(const char *data, size_t len, struct tag *out)
{
    const char *p = data, *end = data + len;
    if (len < MAGIC_LEN || memcmp(p, MAGIC, MAGIC_LEN) != 0) {
        p = memmem(data, len, MAGIC, MAGIC_LEN);
        if (!p)
            return false;
    }
    uint64_t run, topic;
    struct tag tag = {0};
    p = get_number(p + MAGIC_LEN, end, &run);
    p = p ? get_number(p, end, &tag.g) : NULL;
    p = p ? get_number(p, end, &topic) : NULL;
    p = p ? get_number(p, end, &tag.s) : NULL;
    p = p ? get_number(p, end, &tag.at_ns) : NULL;
    if (!p)
        return false;
    tag.run = (uint32_t)run;
    tag.topic = (uint32_t)topic;
    *out = tag;
    return true;
}

uint64_t tag_hash(uint64_t g)
{
    uint64_t z = g * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
