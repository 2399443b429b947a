/* SPDX-License-Identifier: Apache-2.0 */
/* The target of a request (RFC 9112, 3.2): a path, a whole URL, or "*". */
#include <string.h>

#include "common/origin.h"
#include "relay/http/discipline_parts.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "%XX" at @s stands for; -1 where it is none. */
static int escaped(struct slice s)
{
    if (s.len < 3 || hex_digit(s.ptr[1]) < 0 || hex_digit(s.ptr[2]) < 0)
        return -1;
    return hex_digit(s.ptr[1]) * 16 + hex_digit(s.ptr[2]);
}

static bool is_unreserved(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void discipline_put_path(struct buf *b, struct slice path)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < path.len; i++) {
        int c = path.ptr[i] == '%' ? escaped((struct slice){path.ptr + i, path.len - i}) : -1;
        if (c < 0) {
            buf_putc(b, path.ptr[i]);
            continue;
        }
        if (is_unreserved(c)) {
            buf_putc(b, (char)c);
        } else {
            const char text[3] = {'%', digits[c / 16], digits[c % 16]};
            buf_put(b, text, sizeof text);
        }
        i += 2;
    }
}

/* Bytes beyond ASCII are taken in a query: people type topics as they are. */
static enum discipline_fault judge_bytes(struct slice target)
{
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];
        if (c <= ' ' || c == 0x7f)
            return DISCIPLINE_TARGET_BYTES;
        if (c == '#')
            return DISCIPLINE_TARGET_FRAGMENT;
    }
    return DISCIPLINE_FINE;
}

static enum discipline_fault judge_path(struct slice path)
{
    for (size_t i = 0; i < path.len; i++) {
        if ((unsigned char)path.ptr[i] >= 0x80)
            return DISCIPLINE_PATH_BYTES;
        if (path.ptr[i] != '%')
            continue;
        int c = escaped((struct slice){path.ptr + i, path.len - i});
        if (c < 0)
            return DISCIPLINE_PATH_ESCAPE;
        if (c < ' ' || c == 0x7f)
            return DISCIPLINE_PATH_CONTROL;
    }
    return DISCIPLINE_FINE;
}

/* Takes "http://host:port" off @path, which is then what follows, perhaps nothing. */
static enum discipline_fault take_authority(struct slice *path, struct slice *host)
{
    const char *mark = memmem(path->ptr, path->len, "://", 3);
    if (!mark)
        return DISCIPLINE_TARGET_FORM;
    struct slice scheme = {path->ptr, (size_t)(mark - path->ptr)};
    if (!slice_eq_nocase(scheme, "http") && !slice_eq_nocase(scheme, "https"))
        return DISCIPLINE_TARGET_FORM;
    struct slice rest = {mark + 3, path->len - scheme.len - 3};
    const char *slash = memchr(rest.ptr, '/', rest.len);
    *host = (struct slice){rest.ptr, slash ? (size_t)(slash - rest.ptr) : rest.len};
    *path = (struct slice){rest.ptr + host->len, rest.len - host->len};
    return host->len && origin_host_valid(*host) ? DISCIPLINE_FINE : DISCIPLINE_TARGET_HOST;
}

enum discipline_fault discipline_judge_target(const struct discipline_message *m,
                                              struct discipline_facts *out)
{
    struct slice rest = m->target, path = slice_cut(&rest, '?');
    bool asks_options = slice_is(m->method, "OPTIONS");
    enum discipline_fault fault = judge_bytes(m->target);
    if (fault)
        return fault;
    if (!path.len)
        return DISCIPLINE_TARGET_FORM;
    if (path.ptr[0] != '/' && !(asks_options && slice_is(m->target, "*"))) {
        if ((fault = take_authority(&path, &out->host)))
            return fault;
        if (!path.len) /* RFC 9112, 3.2.4 */
            path = asks_options && !rest.ptr ? SLICE_LIT("*") : SLICE_LIT("/");
    }
    out->path = path;
    out->query = rest;
    return judge_path(path);
}
