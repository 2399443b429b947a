#include "common/json.h"
#include <stdlib.h>
#include <string.h>

/* cJSON checks the grammar but is lax about the words: it takes any byte in strings, `\uZZZZ` for
 * NUL, control bytes for white space, and 01 for a number. What clients read must be JSON, so the
 * words are checked here, before cJSON. */
struct scan {
    const char *at, *end;
    size_t nul_escapes; /* escaped NULs seen */
    size_t values;      /* at most, by their commas and brackets */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_nul_escape(const char *at, const char *end)
{
    return end - at >= 6 && memcmp(at, "\\u0000", 6) == 0;
}

/* At the backslash, and still there when it is wrong. The next character is known to be there: a
 * closing quote must follow. */
static bool scan_escape(struct scan *s)
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
    s->nul_escapes += is_nul_escape(s->at, s->end);
    s->at += 6;
    return true;
}

static bool scan_string(struct scan *s)
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

static size_t scan_digits(struct scan *s)
{
    const char *from = s->at;
    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return (size_t)(s->at - from);
}

static bool scan_number(struct scan *s)
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

static bool scan_words(struct scan *s)
{
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            if (!scan_string(s))
                return false;
        } else if (c == '-' || is_digit(c)) {
            if (!scan_number(s))
                return false;
        } else if (is_space(c) || (c > ' ' && c < 0x7F)) {
            s->values += c == ',' || c == '[' || c == '{';
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

/* A copy with each escaped NUL replaced. Only for text that scan_words() accepted. */
static struct slice replace_nul_escapes(struct slice text, const char *by)
{
    struct buf b = {0};
    buf_reserve(&b, text.len + 1);
    const char *at = text.ptr, *end = text.ptr + text.len, *from = at;
    while (at < end) {
        if (*at != '\\') {
            at++;
        } else if (!is_nul_escape(at, end)) {
            at += 2; /* also over an escaped backslash: what follows it is no escape */
        } else {
            buf_put(&b, from, (size_t)(at - from));
            buf_puts(&b, by);
            at += 6;
            from = at;
        }
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
        if (!is_space(**rest))
            e = ERR_INVALID;
    if (e == OK)
        *out = tree;
    else
        cJSON_Delete(tree);
    return e;
}

#define NUL_BECOMES "\\u000a" /* as long as what it stands for, so that offsets stay */

static enum err parse(struct slice text, const char *nul_becomes, cJSON **out, size_t *wrong_at)
{
    size_t bom = text.len;
    text = without_bom(text);
    bom -= text.len;
    *wrong_at = bom;
    if (text.len == 0)
        return ERR_INVALID;
    struct scan s = {.at = text.ptr, .end = text.ptr + text.len};
    if (!scan_words(&s)) {
        *wrong_at += (size_t)(s.at - text.ptr);
        return ERR_INVALID;
    }
    if (s.values > JSON_VALUES_MAX)
        return ERR_RANGE;

    struct slice copy = SLICE_NONE;
    if (s.nul_escapes > 0)
        text = copy = replace_nul_escapes(text, nul_becomes);
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
    return parse(text, NUL_BECOMES, out, wrong_at);
}

enum err json_parse(struct slice text, cJSON **out)
{
    size_t wrong_at;
    if (!slice_utf8_valid(text))
        return ERR_INVALID;
    return parse(text, NUL_BECOMES, out, &wrong_at);
}

enum err json_parse_lenient(struct slice text, cJSON **out)
{
    size_t wrong_at;
    return parse(text, "", out, &wrong_at);
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && is_space(*s->at))
        s->at++;
}

static bool skip_char(struct scan *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* Over one value, whatever its depth. The text is known to be JSON: brackets only need to be
 * counted. */
static bool skip_value(struct scan *s, struct slice *out)
{
    size_t depth = 0;
    skip_space(s);
    const char *from = s->at;
    while (s->at < s->end) {
        char c = *s->at;
        if (c == '"') {
            if (!scan_string(s))
                return false;
            if (depth == 0)
                break;
            continue;
        }
        if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (is_space(c) || c == ',' || c == '}' || c == ']')) {
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
    struct scan s = {.at = text.ptr, .end = text.ptr + text.len};
    struct slice key, value;
    if (!skip_char(&s, '{'))
        return ERR_NOT_FOUND;
    do {
        skip_space(&s);
        if (s.at == s.end || *s.at != '"' || !skip_value(&s, &key) || !skip_char(&s, ':') ||
            !skip_value(&s, &value))
            return ERR_NOT_FOUND;
        if (key_is(key, name)) {
            *out = value;
            return OK;
        }
    } while (skip_char(&s, ','));
    return ERR_NOT_FOUND;
}

bool json_raw_next(struct slice *rest, struct slice *out)
{
    struct slice text = without_bom(*rest), element;
    struct scan s = {.at = text.ptr, .end = text.ptr + text.len};
    /* Behind an element stands a comma, or the end. */
    if ((!skip_char(&s, '[') && !skip_char(&s, ',')) || !skip_value(&s, &element))
        return false;
    *rest = (struct slice){s.at, (size_t)(s.end - s.at)};
    *out = element;
    return true;
}

enum err json_put_data(struct buf *b, struct slice raw)
{
    struct scan s = {.at = raw.ptr, .end = raw.ptr + raw.len};
    skip_space(&s);
    if (s.at == s.end)
        return ERR_INVALID;
    if (*s.at == '"') {
        struct slice text = {s.at, 0};
        if (!scan_string(&s))
            return ERR_INVALID;
        text.len = (size_t)(s.at - text.ptr);
        return put_string_text(b, text);
    }
    while (s.at < s.end) {
        const char *from = s.at;
        if (is_space(*s.at)) {
            s.at++;
            continue;
        }
        if (*s.at != '"')
            s.at++;
        else if (!scan_string(&s))
            return ERR_INVALID;
        buf_put(b, from, (size_t)(s.at - from));
    }
    return OK;
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
