/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sse_parser.h"

#include <string.h>

static const char BOM[] = {'\xEF', '\xBB', '\xBF'};

void sse_parser_reset(struct sse_parser *p)
{
    buf_reset(&p->data);
    buf_reset(&p->type);
    *p = (struct sse_parser){0};
}

size_t sse_parser_bytes(const struct sse_parser *p)
{
    return p->delivered ? 0 : p->data.len + p->type.len;
}

static void block_begin(struct sse_parser *p)
{
    buf_clear(&p->data);
    buf_clear(&p->type);
    p->has_data = p->delivered = false;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* The name is there: its value begins. */
static void field_begin(struct sse_parser *p)
{
    struct slice name = {p->name, p->name_len <= SSE_PARSER_NAME_MAX ? p->name_len : 0};
    p->field = slice_is(name, "data")    ? SSE_PARSER_DATA
               : slice_is(name, "event") ? SSE_PARSER_EVENT
                                         : SSE_PARSER_OTHER;
    if (p->field == SSE_PARSER_EVENT)
        buf_clear(&p->type); /* the last one counts */
    if (p->field != SSE_PARSER_DATA)
        return;
    if (p->has_data)
        buf_putc(&p->data, '\n');
    p->has_data = true;
}

static void value_add(struct sse_parser *p, const char *bytes, size_t len)
{
    if (p->field == SSE_PARSER_DATA) {
        buf_put(&p->data, bytes, len);
    } else if (p->field == SSE_PARSER_EVENT) {
        size_t room = SSE_PARSER_TYPE_MAX - p->type.len;
        buf_put(&p->type, bytes, len < room ? len : room);
    }
}

/* True: the line was blank, and ends a block that is an event. */
static bool line_end(struct sse_parser *p)
{
    bool blank = p->at == SSE_PARSER_NAME && p->name_len == 0;
    if (p->at == SSE_PARSER_NAME && !blank)
        field_begin(p); /* a name alone, with an empty value */
    p->at = SSE_PARSER_NAME;
    p->name_len = 0;
    if (!blank)
        return false;
    if (!p->has_data)
        block_begin(p);
    p->delivered = p->has_data;
    return p->delivered;
}

static void name_add(struct sse_parser *p, char c)
{
    if (p->name_len < SSE_PARSER_NAME_MAX)
        p->name[p->name_len] = c;
    p->name_len += p->name_len <= SSE_PARSER_NAME_MAX;
}

static size_t value_length(struct slice s)
{
    size_t n = 0;
    while (n < s.len && s.ptr[n] != '\n' && s.ptr[n] != '\r')
        n++;
    return n;
}

/* Of a line, up to its end; returns how many bytes were taken, at least 1. */
static size_t line_add(struct sse_parser *p, struct slice s)
{
    if (p->at == SSE_PARSER_NAME) {
        if (s.ptr[0] == ':') {
            field_begin(p); /* a comment is one without a name */
            p->at = SSE_PARSER_SPACE;
        } else {
            name_add(p, s.ptr[0]);
        }
        return 1;
    }
    if (p->at == SSE_PARSER_SPACE && s.ptr[0] == ' ') {
        p->at = SSE_PARSER_VALUE;
        return 1;
    }
    p->at = SSE_PARSER_VALUE;
    size_t n = value_length(s);
    value_add(p, s.ptr, n);
    return n;
}

/* --- the beginning ---------------------------------------------------------------------------- */

/* Whether the first byte of @input belongs to a byte order mark. Bytes that only looked like one
 * are a name that nobody knows. */
static bool bom_takes(struct sse_parser *p, char c)
{
    if (p->bom < sizeof BOM && c == BOM[p->bom]) {
        p->bom++;
        return true;
    }
    for (unsigned i = 0; p->bom < sizeof BOM && i < p->bom; i++)
        name_add(p, BOM[i]);
    p->bom = sizeof BOM;
    return false;
}

enum err sse_parser_next(struct sse_parser *p, struct slice *input, size_t max_bytes,
                         struct slice *data, struct slice *type)
{
    if (p->delivered)
        block_begin(p);
    while (input->len) {
        char c = input->ptr[0];
        size_t n = 1;
        bool ends = c == '\r' || c == '\n', whole = false;
        if (p->bom < sizeof BOM && bom_takes(p, c))
            ends = false;
        else if (ends)
            whole = !(c == '\n' && p->after_cr) && line_end(p);
        else
            n = line_add(p, *input);
        p->after_cr = c == '\r';
        *input = (struct slice){input->ptr + n, input->len - n};
        if (p->data.len > max_bytes)
            return ERR_RANGE;
        if (!whole)
            continue;
        *data = (struct slice){p->data.ptr ? p->data.ptr : "", p->data.len};
        *type = p->type.len ? buf_slice(&p->type) : SLICE_NONE;
        return OK;
    }
    return ERR_AGAIN;
}
