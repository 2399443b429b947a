/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/cutter.h"

#include <string.h>

void cutter_init(struct cutter *c, enum cutter_kind kind, size_t max_bytes)
{
    *c = (struct cutter){.kind = kind, .max_bytes = max_bytes};
}

void cutter_reset(struct cutter *c)
{
    sse_parser_reset(&c->sse);
    buf_reset(&c->rest);
}

size_t cutter_bytes(const struct cutter *c)
{
    return sse_parser_bytes(&c->sse) + (c->delivered ? c->rest.len - c->keep : c->rest.len);
}

/* What was handed out of `rest` is gone; what follows it stays. */
static void rest_go_on(struct cutter *c)
{
    if (!c->delivered)
        return;
    size_t left = c->rest.len - c->keep;
    if (left)
        memmove(c->rest.ptr, c->rest.ptr + c->keep, left);
    c->rest.len = left;
    c->delivered = false;
    c->keep = 0;
}

static void advance(struct slice *input, size_t n)
{
    *input = (struct slice){input->ptr + n, input->len - n};
}

static void put_cut(struct cut *out, struct slice data)
{
    *out = (struct cut){{data.ptr ? data.ptr : "", data.len}, SLICE_NONE};
}

/* --- lines ------------------------------------------------------------------------------------ */

static struct slice without_cr(struct slice line)
{
    line.len -= line.len && line.ptr[line.len - 1] == '\r';
    return line;
}

/* Of the line that has begun: its bytes up to its end, or all that there are. */
static enum err line_take(struct cutter *c, struct slice *input, struct slice *line)
{
    const char *end = memchr(input->ptr, '\n', input->len);
    size_t n = end ? (size_t)(end - input->ptr) : input->len;
    size_t over = c->rest.len + n > c->max_bytes ? c->rest.len + n - c->max_bytes : 0;
    if (over > 1 || (over && n && input->ptr[n - 1] != '\r')) /* of CRLF, perhaps */
        return ERR_RANGE;
    *line = (struct slice){input->ptr, n};
    if (c->rest.len || !end) {
        buf_put(&c->rest, input->ptr, n);
        *line = buf_slice(&c->rest);
    }
    advance(input, end ? n + 1 : n);
    if (!end)
        return ERR_AGAIN;
    c->delivered = c->rest.len > 0;
    c->keep = c->rest.len;
    *line = without_cr(*line);
    return line->len > c->max_bytes ? ERR_RANGE : OK;
}

static enum err next_line(struct cutter *c, struct slice *input, struct cut *out)
{
    while (input->len) {
        struct slice line;
        enum err e = line_take(c, input, &line);
        if (e)
            return e;
        if (line.len) {
            put_cut(out, line);
            return OK;
        }
        rest_go_on(c);
    }
    return ERR_AGAIN;
}

/* --- chunks ----------------------------------------------------------------------------------- */

/* Whether it may be the beginning of a character that goes on in the next piece. @tail: what
 * slice_utf8_prefix() has found to be no character, at the very end. */
static bool is_beginning(struct slice tail)
{
    unsigned char lead = (unsigned char)tail.ptr[0];
    return lead >= 0xC2 && lead <= 0xF4;
}

/* The last place between two characters of the valid @s at or below @max. */
static size_t border(struct slice s, size_t max)
{
    size_t n = max;
    if (s.len <= max)
        return s.len;
    while (n && ((unsigned char)s.ptr[n] & 0xC0) == 0x80)
        n--;
    return n;
}

static enum err next_chunk(struct cutter *c, struct slice *input, struct cut *out)
{
    size_t held = c->rest.len, bad;
    struct slice all = *input;
    if (!input->len)
        return ERR_AGAIN;
    if (held) { /* three bytes at most, so that all of it is copied for them once */
        buf_put(&c->rest, input->ptr, input->len);
        all = buf_slice(&c->rest);
    }
    size_t valid = slice_utf8_prefix(all, &bad);
    struct slice tail = {all.ptr + valid, all.len - valid};
    if (tail.len && (tail.len != bad || !is_beginning(tail)))
        return ERR_INVALID;
    size_t cut = border((struct slice){all.ptr, valid}, c->max_bytes);
    if (cut < valid) { /* the rest is for the next call */
        c->rest.len = held ? cut : 0;
        advance(input, cut - held);
    } else {
        advance(input, input->len);
        if (!held)
            buf_put(&c->rest, tail.ptr, tail.len);
    }
    c->delivered = held > 0 && cut > 0;
    c->keep = c->delivered ? cut : 0;
    if (!cut)
        return ERR_AGAIN;
    put_cut(out, (struct slice){all.ptr, cut});
    return OK;
}

/* --- all -------------------------------------------------------------------------------------- */

enum err cutter_next(struct cutter *c, struct slice *input, struct cut *out)
{
    rest_go_on(c);
    switch (c->kind) {
    case CUTTER_SSE:
        return sse_parser_next(&c->sse, input, c->max_bytes, &out->data, &out->type);
    case CUTTER_LINES:
        return next_line(c, input, out);
    case CUTTER_CHUNKS:
        return next_chunk(c, input, out);
    }
    return ERR_INVALID;
}

enum err cutter_end(struct cutter *c, struct cut *out)
{
    rest_go_on(c);
    if (!c->rest.len)
        return ERR_NOT_FOUND;
    if (c->kind == CUTTER_CHUNKS)
        return ERR_INVALID;
    struct slice line = without_cr(buf_slice(&c->rest));
    if (!line.len)
        return ERR_NOT_FOUND;
    if (line.len > c->max_bytes)
        return ERR_RANGE;
    put_cut(out, line);
    c->delivered = true;
    c->keep = c->rest.len;
    return OK;
}
