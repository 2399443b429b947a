/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a text is JSON, without making anything of it: it runs on threads that serve streams, for
 * texts that are mostly sent on as they are, and a tree takes eighty bytes and an allocation for
 * each value. */
#include <string.h>

#include "common/json_parts.h"

/* What may come next, but for white space. */
enum due { DUE_VALUE, DUE_VALUE_OR_END, DUE_KEY, DUE_KEY_OR_END, DUE_COMMA_OR_END };

struct check {
    struct json_scan scan;
    enum due due;
    size_t depth;
    unsigned char in_object[JSON_DEPTH_MAX / 8 + 1]; /* a bit for each level */
};

static bool is_in_object(const struct check *c)
{
    size_t level = c->depth - 1;
    return c->in_object[level / 8] >> level % 8 & 1;
}

static bool open_level(struct check *c, bool object)
{
    size_t level = c->depth;
    unsigned bit = 1U << level % 8;
    if (c->depth++ == JSON_DEPTH_MAX)
        return false;
    unsigned others = c->in_object[level / 8] & ~bit;
    c->in_object[level / 8] = (unsigned char)(object ? others | bit : others);
    c->due = object ? DUE_KEY_OR_END : DUE_VALUE_OR_END;
    c->scan.at++;
    return true;
}

static bool close_level(struct check *c)
{
    if (c->depth == 0 || *c->scan.at != (is_in_object(c) ? '}' : ']'))
        return false;
    c->depth--;
    c->due = DUE_COMMA_OR_END;
    c->scan.at++;
    return true;
}

static bool take_word(struct check *c, struct slice word)
{
    struct slice rest = {c->scan.at, (size_t)(c->scan.end - c->scan.at)};
    if (!slice_has_prefix(rest, word))
        return false;
    c->scan.at += word.len;
    return true;
}

static bool take_value(struct check *c)
{
    char first = *c->scan.at;
    if (first == '{' || first == '[')
        return open_level(c, first == '{');
    c->due = DUE_COMMA_OR_END;
    if (first == '"')
        return json_scan_string(&c->scan);
    if (first == '-' || (first >= '0' && first <= '9'))
        return json_scan_number(&c->scan);
    return take_word(c, SLICE_LIT("true")) || take_word(c, SLICE_LIT("false")) ||
           take_word(c, SLICE_LIT("null"));
}

static bool take_key(struct check *c)
{
    c->due = DUE_VALUE;
    return *c->scan.at == '"' && json_scan_string(&c->scan) && json_scan_char(&c->scan, ':');
}

static bool take_comma(struct check *c)
{
    if (c->depth == 0 || *c->scan.at != ',')
        return false;
    c->due = is_in_object(c) ? DUE_KEY : DUE_VALUE;
    c->scan.at++;
    return true;
}

static bool take_next(struct check *c)
{
    switch (c->due) {
    case DUE_VALUE:
        return take_value(c);
    case DUE_VALUE_OR_END:
        return *c->scan.at == ']' ? close_level(c) : take_value(c);
    case DUE_KEY:
        return take_key(c);
    case DUE_KEY_OR_END:
        return *c->scan.at == '}' ? close_level(c) : take_key(c);
    case DUE_COMMA_OR_END:
        return take_comma(c) || close_level(c);
    }
    return false;
}

/* What most texts that are not JSON begin with, no JSON does: then the room above need not be made.
 */
static bool may_begin(char c)
{
    return c != '\0' && strchr("{[\"-0123456789tfn", c) != NULL;
}

bool json_is_valid(struct slice text)
{
    struct json_scan start = {.at = text.ptr, .end = text.ptr + text.len};
    json_scan_space(&start);
    if (start.at == start.end || !may_begin(*start.at))
        return false;
    struct check c;
    c.scan = start;
    c.due = DUE_VALUE;
    c.depth = 0;
    while (c.scan.at < c.scan.end) {
        if (!take_next(&c))
            return false;
        json_scan_space(&c.scan);
    }
    return c.depth == 0 && c.due == DUE_COMMA_OR_END;
}
