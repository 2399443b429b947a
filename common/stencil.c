/* SPDX-License-Identifier: Apache-2.0 */
#include "common/stencil.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_pointer.h"
#include "common/mem.h"
#include "common/names.h"

struct part {
    struct slice text; /* literal text, dots included; NULL where a place stands */
    size_t place;
};

struct stencil {
    char *text;
    struct part *parts;
    size_t part_count;
    struct slice places[STENCIL_PLACES_MAX];
    size_t place_count;
};

/* --- parsing ---------------------------------------------------------------------------------- */

static const char whole_token[] = "expected {…} to be a whole token, such as user.{sub}";

static bool place_valid(struct slice name)
{
    if (name.len == 0 || name.len > JSON_POINTER_MAX || memchr(name.ptr, '{', name.len))
        return false;
    return name.ptr[0] == '/' ? json_pointer_is_setting(name) : !slice_has_control(name);
}

/* STENCIL_PLACES_MAX: there are too many. */
static size_t find_place(struct stencil *t, struct slice name)
{
    size_t i = 0;
    while (i < t->place_count && !slice_eq(t->places[i], name))
        i++;
    if (i == t->place_count && i < STENCIL_PLACES_MAX)
        t->places[t->place_count++] = name;
    return i;
}

static void add_part(struct stencil *t, struct part part)
{
    if (part.text.ptr && part.text.len == 0)
        return;
    t->parts = mem_grow(t->parts, t->part_count, sizeof(*t->parts));
    t->parts[t->part_count++] = part;
}

/* A place's name may hold dots (claims are often named by URLs), so it goes to its brace. */
static const char *parse(struct stencil *t)
{
    const char *at = t->text, *from = at;
    for (const char *end; *at; at = end) {
        end = at + 1;
        if (*at == '}')
            return whole_token;
        if (*at != '{')
            continue;
        end = strchr(at, '}');
        if (!end || (at > t->text && at[-1] != '.') || (end[1] && end[1] != '.'))
            return whole_token;
        struct slice name = {at + 1, (size_t)(end - at) - 1};
        if (!place_valid(name))
            return "expected {name} or {/json/pointer}";
        size_t place = find_place(t, name);
        if (place == STENCIL_PLACES_MAX)
            return "expected at most 8 different {…}";
        add_part(t, (struct part){{from, (size_t)(at - from)}, 0});
        add_part(t, (struct part){SLICE_NONE, place});
        from = ++end;
    }
    add_part(t, (struct part){{from, (size_t)(at - from)}, 0});
    return NULL;
}

static void put_filled(struct buf *b, const struct stencil *t, enum stencil_values kind,
                       const struct slice *values)
{
    for (size_t i = 0; i < t->part_count; i++) {
        const struct part *part = &t->parts[i];
        if (part->text.ptr || kind == STENCIL_TOKENS)
            buf_put_slice(b, part->text.ptr ? part->text : values[part->place]);
        else
            stencil_put_token(b, values[part->place]);
    }
}

/* With the shortest value everywhere. */
static bool is_pattern(const struct stencil *t)
{
    struct slice values[STENCIL_PLACES_MAX];
    struct buf b = {0};
    for (size_t i = 0; i < STENCIL_PLACES_MAX; i++)
        values[i] = SLICE_LIT("x");
    put_filled(&b, t, STENCIL_TOKENS, values);
    bool valid = b.ptr && name_pattern_valid(buf_slice(&b));
    buf_reset(&b);
    return valid;
}

const char *stencil_new(struct slice text, struct stencil **out)
{
    static const char pattern[] = "expected a topic of 1 to 512 bytes, in which * stands for one "
                                  "token, a final > for one or more, and {…} for a value";
    if (text.len == 0 || memchr(text.ptr, '\0', text.len))
        return pattern;
    struct stencil *t = mem_zero(1, sizeof(*t));
    t->text = slice_dup(text);
    const char *why = parse(t);
    if (!why && !is_pattern(t))
        why = pattern;
    if (why)
        stencil_free(t);
    else
        *out = t;
    return why;
}

void stencil_free(struct stencil *t)
{
    if (!t)
        return;
    free(t->parts);
    free(t->text);
    free(t);
}

struct slice stencil_text(const struct stencil *t)
{
    return slice_of(t->text);
}

size_t stencil_place_count(const struct stencil *t)
{
    return t->place_count;
}

struct slice stencil_place(const struct stencil *t, size_t i)
{
    return t->places[i];
}

/* --- filling ---------------------------------------------------------------------------------- */

static size_t utf8_run(struct slice text)
{
    size_t bad;
    return slice_utf8_prefix(text, &bad);
}

void stencil_put_token(struct buf *b, struct slice value)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t valid = 0; /* up to here it is UTF-8 */
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (i >= valid)
            valid = i + utf8_run((struct slice){value.ptr + i, value.len - i});
        if (i < valid && c > ' ' && c != 0x7F && !strchr(".*>%", c)) {
            buf_putc(b, (char)c);
            continue;
        }
        buf_putc(b, '%');
        buf_putc(b, hex[c >> 4]);
        buf_putc(b, hex[c & 15]);
    }
}

static void put_reason(struct buf *why, struct slice place, const char *reason)
{
    buf_puts(why, why->len ? "; {" : "{");
    buf_put_slice(why, place);
    buf_puts(why, "}: ");
    buf_puts(why, reason);
}

/* Removes what is empty: an empty token is no topic. */
static void drop_empty(struct strings *values)
{
    size_t kept = 0;
    for (size_t i = 0; i < values->count; i++) {
        if (values->items[i][0])
            values->items[kept++] = values->items[i];
        else
            free(values->items[i]);
    }
    values->count = kept;
}

/* The values of all places. Returns how many combinations of them there are, at most one more than
 * can be had. */
static size_t look_up(const struct stencil *t, stencil_look *look, const void *arg,
                      struct strings *values, struct buf *why)
{
    size_t combinations = 1;
    for (size_t i = 0; i < t->place_count; i++) {
        const char *reason = look(arg, t->places[i], &values[i]);
        size_t before = values[i].count;
        drop_empty(&values[i]);
        if (values[i].count < before)
            reason = before > 1 ? "some are empty" : "it is empty";
        if (!reason && !values[i].count)
            reason = "it is empty";
        if (reason)
            put_reason(why, t->places[i], reason);
        combinations *= values[i].count;
        if (combinations > STENCIL_FILLED_MAX)
            combinations = STENCIL_FILLED_MAX + 1;
    }
    return combinations;
}

static bool fill_one(const struct stencil *t, enum stencil_values kind,
                     const struct strings *values, size_t nth, struct strings *out)
{
    struct slice chosen[STENCIL_PLACES_MAX];
    struct buf b = {0};
    for (size_t i = 0; i < t->place_count; i++) {
        chosen[i] = slice_of(values[i].items[nth % values[i].count]);
        nth /= values[i].count;
    }
    put_filled(&b, t, kind, chosen);
    bool valid = name_pattern_valid(buf_slice(&b));
    if (valid)
        strings_add(out, buf_slice(&b));
    buf_reset(&b);
    return valid;
}

size_t stencil_fill(const struct stencil *t, enum stencil_values kind, stencil_look *look,
                    const void *arg, struct strings *out, struct buf *why)
{
    struct strings values[STENCIL_PLACES_MAX] = {{0}};
    size_t filled = 0, all = look_up(t, look, arg, values, why), count = all;
    if (count > STENCIL_FILLED_MAX) {
        count = STENCIL_FILLED_MAX;
        buf_puts(why, why->len ? "; " : "");
        buf_puts(why, "only the first 64 combinations count");
    }
    for (size_t i = 0; i < count; i++)
        filled += fill_one(t, kind, values, i, out);
    if (filled < count) {
        buf_puts(why, why->len ? "; " : "");
        buf_puts(why, "longer than a topic may be");
    }
    for (size_t i = 0; i < t->place_count; i++)
        strings_reset(&values[i]);
    return filled;
}
