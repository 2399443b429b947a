/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a message and the lines they stand on. */
#include <string.h>

#include "relay/http/discipline_parts.h"

enum { VERSION_BYTES = 8, LINE_END_BYTES = 2 };

bool discipline_is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.len > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* --- what stands between the pieces ----------------------------------------------------------- */

struct place {
    const char *at, *end; /* where the next piece may begin, and where the block ends */
};

/* Whether @piece lies in the block, not before p->at. Its pointer may be anybody's: 0.9.75 moves
 * the name of a folded line elsewhere. */
static bool is_ahead(const struct place *p, struct slice piece)
{
    uintptr_t at = (uintptr_t)p->at, end = (uintptr_t)p->end, begin = (uintptr_t)piece.ptr;
    return begin >= at && begin <= end && piece.len <= end - begin;
}

/* The end of a line, from the last byte of what stands on it: CR and LF are two NULs in 0.9.75.
 * From 1.0 on a NUL ends the value, blanks behind it are left, and so is the LF. */
static bool is_line_end(const char *from, const char *to)
{
    size_t len = (size_t)(to - from);
    if (len < LINE_END_BYTES || from[0] != '\0')
        return false;
    if (to[-1] == '\0')
        return len == LINE_END_BYTES;
    if (to[-1] != '\n')
        return false;
    to -= to[-2] == '\r' ? 2 : 1;
    for (from++; from < to; from++)
        if (!is_blank(*from))
            return false;
    return true;
}

/* "Name", a NUL in place of the colon, blanks, "value". */
static bool is_field(struct place *p, const struct discipline_field *field)
{
    if (!is_ahead(p, field->name) || !is_line_end(p->at, field->name.ptr))
        return false;
    p->at = field->name.ptr + field->name.len;
    if (!is_ahead(p, field->value) || field->value.ptr == p->at || *p->at++ != '\0')
        return false;
    for (; p->at < field->value.ptr; p->at++)
        if (!is_blank(*p->at))
            return false;
    p->at = field->value.ptr + field->value.len;
    return true;
}

/* The target has been unescaped in place, so only its bounds can be compared: cut at a NUL, or with
 * spaces around it, it is shorter than they are apart. */
static bool is_request_line(struct place *p, const struct discipline_message *m)
{
    size_t before = m->method.len + 1 + m->target.len + 1;
    if (!is_ahead(p, m->version) || (size_t)(m->version.ptr - p->at) != before)
        return false;
    p->at = m->version.ptr + m->version.len;
    return true;
}

static bool is_whole(const struct discipline_message *m)
{
    struct place p = {m->block.ptr, m->block.ptr + m->block.len};
    if (!is_request_line(&p, m))
        return false;
    for (size_t i = 0; i < m->field_count; i++)
        if (!is_field(&p, &m->fields[i]))
            return false;
    return p.end - p.at >= 2 * LINE_END_BYTES && is_line_end(p.at, p.end - LINE_END_BYTES);
}

/* --- names and values ------------------------------------------------------------------------- */

/* What 0.9.75 makes of a folded line, which it hangs on the name: "Last-Event-ID123". A hyphen and
 * a letter begin another word, as in Content-Type-Options. */
static bool is_name_with_tail(struct slice name)
{
    static const char *const heads[] = {"Content-Length", "Transfer-Encoding", "Content-Encoding",
                                        "Content-Type",   "Authorization",     "Last-Event-ID"};
    if (name.len <= sizeof("Content-Type") - 1) /* the shortest of them */
        return false;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        size_t len = strlen(heads[i]);
        if (name.len <= len || !slice_eq_nocase((struct slice){name.ptr, len}, heads[i]))
            continue;
        struct slice tail = {name.ptr + len, name.len - len};
        if (tail.ptr[0] != '-' || tail.len == 1 || is_digit(tail.ptr[1]))
            return true;
    }
    return false;
}

/* Other than a tab. */
static bool has_control(struct slice value)
{
    if (!slice_has_control(value))
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != '\t' && slice_has_control((struct slice){value.ptr + i, 1}))
            return true;
    return false;
}

static enum discipline_fault judge_field(const struct discipline_field *field)
{
    struct slice name = field->name, value = field->value;
    if (name.len && is_blank(name.ptr[name.len - 1]))
        return DISCIPLINE_NAME_SPACE;
    if (!discipline_is_token(name))
        return DISCIPLINE_NAME;
    if (is_name_with_tail(name))
        return DISCIPLINE_NAME_FOLDED;
    return has_control(value) ? DISCIPLINE_VALUE : DISCIPLINE_FINE;
}

static enum discipline_fault judge_version(struct slice v)
{
    bool form = v.len == VERSION_BYTES && slice_has_prefix(v, SLICE_LIT("HTTP/")) &&
                is_digit(v.ptr[5]) && v.ptr[6] == '.' && is_digit(v.ptr[7]);
    if (!form)
        return DISCIPLINE_VERSION_FORM;
    return v.ptr[5] == '1' && v.ptr[7] <= '1' ? DISCIPLINE_FINE : DISCIPLINE_VERSION;
}

enum discipline_fault discipline_judge_lines(const struct discipline_message *m,
                                             const struct discipline_limits *limits)
{
    if (!discipline_is_token(m->method))
        return DISCIPLINE_METHOD;
    enum discipline_fault fault = judge_version(m->version);
    if (fault)
        return fault;
    if (m->field_count > limits->max_fields)
        return DISCIPLINE_FIELDS;
    /* Before the lines: these say more precisely what is wrong. */
    for (size_t i = 0; i < m->field_count; i++)
        if ((fault = judge_field(&m->fields[i])))
            return fault;
    return !m->block.ptr || is_whole(m) ? DISCIPLINE_FINE : DISCIPLINE_LINES;
}
