/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "common/json_parts.h"

/* cJSON checks the grammar but is lax about the words: it takes any byte in strings, `\uZZZZ` for
 * NUL, control bytes for white space, and 01 for a number. What clients read must be JSON, so the
 * words are checked here, before cJSON. In one thing it is too strict: half of a surrogate pair is
 * JSON (RFC 8259, 8.2), and what cuts texts anywhere, such as a language model, gives such. */
static_assert(JSON_DEPTH_MAX <= CJSON_NESTING_LIMIT, "cJSON refuses what we take");

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Whether a `\uXXXX` with XXXX of @low to @high (four hexadecimal digits each) stands at @at. */
static bool is_escape_of(const char *at, const char *end, unsigned low, unsigned high)
{
    unsigned unit = 0;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return false;
    for (int i = 2; i < 6; i++) {
        if (!is_hex(at[i]))
            return false;
        unit = unit * 16 + (unsigned)(is_digit(at[i]) ? at[i] - '0' : (at[i] | 0x20) - 'a' + 10);
    }
    return unit >= low && unit <= high;
}

/* At a backslash: how many bytes the escape takes, a pair of surrogates as one. *odd becomes what
 * cJSON cannot be given: NUL, or a surrogate without its other half. */
enum odd_escape { ODD_NONE, ODD_NUL, ODD_HALF };
static size_t escape_length(const char *at, const char *end, enum odd_escape *odd)
{
    *odd = ODD_NONE;
    if (is_escape_of(at, end, 0xD800, 0xDBFF) && is_escape_of(at + 6, end, 0xDC00, 0xDFFF))
        return 12;
    if (is_escape_of(at, end, 0xD800, 0xDFFF))
        *odd = ODD_HALF;
    else if (is_escape_of(at, end, 0, 0))
        *odd = ODD_NUL;
    return end - at >= 2 && at[1] == 'u' ? 6 : 2;
}

/* At the backslash, and still there when it is wrong. The next character is known to be there: a
 * closing quote must follow. */
static bool scan_escape(struct json_scan *s)
{
    if (s->end - s->at < 2)
        return false;
    if (s->at[1] != 'u') {
        if (s->at[1] == '\0' || !strchr("\"\\/bfnrt", s->at[1]))
            return false;
        s->at += 2;
        return true;
    }
    if (s->end - s->at < 6)
        return false;
    for (int i = 2; i < 6; i++)
        if (!is_hex(s->at[i]))
            return false;
    enum odd_escape odd;
    s->at += escape_length(s->at, s->end, &odd);
    s->odd_escapes += odd != ODD_NONE;
    return true;
}

bool json_scan_string(struct json_scan *s)
{
    s->at++;
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            s->at++;
            return true;
        }
        if ((unsigned char)c < 0x20)
            return false;
        if (c != '\\')
            s->at++;
        else if (!scan_escape(s))
            return false;
    }
    return false;
}

static size_t scan_digits(struct json_scan *s)
{
    const char *from = s->at;
    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return (size_t)(s->at - from);
}

bool json_scan_number(struct json_scan *s)
{
    if (*s->at == '-')
        s->at++;
    const char *first = s->at;
    size_t digits = scan_digits(s);
    if (digits == 0 || (digits > 1 && *first == '0'))
        return false;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (scan_digits(s) == 0)
            return false;
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        return scan_digits(s) > 0;
    }
    return true;
}

/* Which bracket closes which, and where commas may stand, is left to cJSON. */
static void scan_mark(struct json_scan *s, char c)
{
    bool opens = c == '[' || c == '{';
    s->values += opens || c == ',';
    if (opens && ++s->depth > s->deepest)
        s->deepest = s->depth;
    if ((c == ']' || c == '}') && s->depth > 0)
        s->depth--;
}

static bool scan_words(struct json_scan *s)
{
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            if (!json_scan_string(s))
                return false;
        } else if (c == '-' || is_digit(c)) {
            if (!json_scan_number(s))
                return false;
        } else if (json_is_space(c) || (c > ' ' && c < 0x7F)) {
            scan_mark(s, c);
            s->at++;
        } else {
            return false;
        }
    }
    return true;
}

/* Some programs put a byte order mark in front of JSON; cJSON skips it, too. */
static struct slice without_bom(struct slice text)
{
    if (slice_has_prefix(text, SLICE_LIT("\xEF\xBB\xBF")))
        return (struct slice){text.ptr + 3, text.len - 3};
    return text;
}

/* What cJSON is given in place of them. */
struct stand_ins {
    const char *nul, *half;
};

/* A copy with each odd escape replaced. Only for text that scan_words() accepted. */
static struct slice replace_odd_escapes(struct slice text, const struct stand_ins *by)
{
    struct buf b = {0};
    buf_reserve(&b, text.len + 1);
    const char *at = text.ptr, *end = text.ptr + text.len, *from = at;
    while (at < end) {
        enum odd_escape odd;
        if (*at != '\\') {
            at++;
            continue;
        }
        size_t len = escape_length(at, end, &odd);
        if (odd != ODD_NONE) {
            buf_put(&b, from, (size_t)(at - from));
            buf_puts(&b, odd == ODD_NUL ? by->nul : by->half);
            from = at + len;
        }
        at += len;
    }
    buf_put(&b, from, (size_t)(end - from));
    return (struct slice){b.ptr, b.len};
}

/* The grammar, of text whose words are right. *rest is where it ends, or is wrong. */
static enum err parse_words(struct slice text, cJSON **out, const char **rest)
{
    cJSON *tree = cJSON_ParseWithLengthOpts(text.ptr, text.len, rest, 0);
    enum err e = tree != NULL ? OK : ERR_INVALID;
    for (const char *end = text.ptr + text.len; e == OK && *rest < end; ++*rest)
        if (!json_is_space(**rest))
            e = ERR_INVALID;
    if (e == OK)
        *out = tree;
    else
        cJSON_Delete(tree);
    return e;
}

/* Each as long as what it stands for, so that offsets stay. */
static const struct stand_ins noticed = {.nul = "\\u000a", .half = "\\u000a"};
static const struct stand_ins lenient = {.nul = "", .half = "\\ufffd"};

static enum err parse(struct slice text, const struct stand_ins *by, cJSON **out, size_t *wrong_at)
{
    size_t bom = text.len;
    text = without_bom(text);
    bom -= text.len;
    *wrong_at = bom;
    if (text.len == 0)
        return ERR_INVALID;
    struct json_scan s = {.at = text.ptr, .end = text.ptr + text.len};
    if (!scan_words(&s)) {
        *wrong_at += (size_t)(s.at - text.ptr);
        return ERR_INVALID;
    }
    if (s.values > JSON_VALUES_MAX)
        return ERR_RANGE;
    if (s.deepest > JSON_DEPTH_MAX)
        return ERR_FULL;

    struct slice copy = SLICE_NONE;
    if (s.odd_escapes > 0)
        text = copy = replace_odd_escapes(text, by);
    const char *rest = text.ptr;
    enum err e = parse_words(text, out, &rest);
    *wrong_at += (size_t)(rest - text.ptr);
    free((void *)copy.ptr);
    return e;
}

enum err json_parse_where(struct slice text, cJSON **out, size_t *wrong_at)
{
    size_t bad, valid = slice_utf8_prefix(text, &bad);
    if (valid < text.len) {
        *wrong_at = valid;
        return ERR_INVALID;
    }
    return parse(text, &noticed, out, wrong_at);
}

enum err json_parse(struct slice text, cJSON **out)
{
    size_t wrong_at;
    if (!slice_utf8_valid(text))
        return ERR_INVALID;
    return parse(text, &noticed, out, &wrong_at);
}

enum err json_parse_lenient(struct slice text, cJSON **out)
{
    size_t wrong_at;
    return parse(text, &lenient, out, &wrong_at);
}

void json_scan_space(struct json_scan *s)
{
    while (s->at < s->end && json_is_space(*s->at))
        s->at++;
}

bool json_scan_char(struct json_scan *s, char c)
{
    json_scan_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* Over one value, whatever its depth. The text is known to be JSON: brackets only need to be
 * counted. */
static bool skip_value(struct json_scan *s, struct slice *out)
{
    size_t depth = 0;
    json_scan_space(s);
    const char *from = s->at;
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            if (!json_scan_string(s))
                return false;
            if (depth == 0)
                break;
            continue;
        }
        if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (json_is_space(c) || c == ',' || c == '}' || c == ']')) {
            break;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            s->at++;
            break;
        }
        s->at++;
    }
    *out = (struct slice){from, (size_t)(s->at - from)};
    return s->at > from && depth == 0;
}

/* Appends the text of a raw string, escapes decoded and NUL dropped. */
static enum err put_string_text(struct buf *b, struct slice raw)
{
    if (raw.len >= 2 && memchr(raw.ptr, '\\', raw.len) == NULL) {
        buf_put(b, raw.ptr + 1, raw.len - 2);
        return OK;
    }
    cJSON *tree;
    enum err e = json_parse_lenient(raw, &tree);
    if (e != OK)
        return e;
    if (cJSON_IsString(tree))
        buf_puts(b, tree->valuestring);
    else
        e = ERR_INVALID;
    cJSON_Delete(tree);
    return e;
}

static bool key_is(struct slice raw, const char *name)
{
    cJSON *tree;
    if (memchr(raw.ptr, '\\', raw.len) == NULL)
        return slice_is((struct slice){raw.ptr + 1, raw.len - 2}, name);
    /* As json_parse() sees it, so that both find the same member. */
    if (json_parse(raw, &tree) != OK)
        return false;
    bool same = cJSON_IsString(tree) && strcmp(tree->valuestring, name) == 0;
    cJSON_Delete(tree);
    return same;
}

enum err json_raw_member(struct slice text, const char *name, struct slice *out)
{
    text = without_bom(text);
    struct json_scan s = {.at = text.ptr, .end = text.ptr + text.len};
    struct slice key, value;
    if (!json_scan_char(&s, '{'))
        return ERR_NOT_FOUND;
    do {
        json_scan_space(&s);
        if (s.at == s.end || *s.at != '"' || !skip_value(&s, &key) || !json_scan_char(&s, ':') ||
            !skip_value(&s, &value))
            return ERR_NOT_FOUND;
        if (key_is(key, name)) {
            *out = value;
            return OK;
        }
    } while (json_scan_char(&s, ','));
    return ERR_NOT_FOUND;
}

bool json_raw_next(struct slice *rest, struct slice *out)
{
    struct slice text = without_bom(*rest), element;
    struct json_scan s = {.at = text.ptr, .end = text.ptr + text.len};
    /* Behind an element stands a comma, or the end. */
    if ((!json_scan_char(&s, '[') && !json_scan_char(&s, ',')) || !skip_value(&s, &element))
        return false;
    *rest = (struct slice){s.at, (size_t)(s.end - s.at)};
    *out = element;
    return true;
}

enum err json_put_dense(struct buf *b, struct slice raw)
{
    struct json_scan s = {.at = raw.ptr, .end = raw.ptr + raw.len};
    while (s.at < s.end) {
        const char *from = s.at;
        if (json_is_space(*s.at)) {
            s.at++;
            continue;
        }
        if (*s.at != '"')
            s.at++;
        else if (!json_scan_string(&s))
            return ERR_INVALID;
        buf_put(b, from, (size_t)(s.at - from));
    }
    return OK;
}

enum err json_put_data(struct buf *b, struct slice raw)
{
    struct json_scan s = {.at = raw.ptr, .end = raw.ptr + raw.len};
    json_scan_space(&s);
    if (s.at == s.end)
        return ERR_INVALID;
    if (*s.at == '"') {
        struct slice text = {s.at, 0};
        if (!json_scan_string(&s))
            return ERR_INVALID;
        text.len = (size_t)(s.at - text.ptr);
        return put_string_text(b, text);
    }
    return json_put_dense(b, raw);
}

static void put_escaped(struct buf *b, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    const char *from = "\"\\\n\r\t\b\f", *to = "\"\\nrtbf";
    const char *known = c != '\0' ? strchr(from, c) : NULL;
    buf_putc(b, '\\');
    if (known != NULL) {
        buf_putc(b, to[known - from]);
        return;
    }
    buf_put(b, "u00", 3);
    buf_putc(b, hex[c >> 4]);
    buf_putc(b, hex[c & 15]);
}

void json_put_string(struct buf *b, struct slice s)
{
    const char *from = s.ptr;
    buf_putc(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_put_utf8(b, (struct slice){from, (size_t)(s.ptr + i - from)});
        put_escaped(b, c);
        from = s.ptr + i + 1;
    }
    if (s.len > 0)
        buf_put_utf8(b, (struct slice){from, (size_t)(s.ptr + s.len - from)});
    buf_putc(b, '"');
}
