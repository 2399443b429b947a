/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/place.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/nearest.h"

struct place place_member(const struct place *above, const char *name)
{
    return (struct place){above, name, 0};
}

struct place place_element(const struct place *above, size_t index)
{
    return (struct place){above, NULL, index};
}

static void put_path(struct buf *b, const struct place *at)
{
    if (!at->above)
        return;
    put_path(b, at->above);
    if (at->name) {
        buf_puts(b, at->above->above ? "." : "");
        place_put_shown(b, slice_of(at->name));
    } else {
        buf_printf(b, "[%zu]", at->index);
    }
}

void place_put(struct buf *b, const struct place *at)
{
    if (at->above)
        put_path(b, at);
    else
        buf_puts(b, "the file");
}

/* U+0080 to U+009F are two bytes, C2 80 to C2 9F, and commands to some terminals. */
static bool is_shown(struct slice text, size_t i)
{
    unsigned char c = (unsigned char)text.ptr[i];
    unsigned char next = i + 1 < text.len ? (unsigned char)text.ptr[i + 1] : 0;
    return c >= ' ' && c != 0x7F && !(c == 0xC2 && next >= 0x80 && next <= 0x9F);
}

void place_put_shown(struct buf *b, struct slice text)
{
    size_t max = 100, bad;
    struct slice cut = {text.ptr, text.len < max ? text.len : max};
    if (cut.len < text.len)
        cut.len = slice_utf8_prefix(cut, &bad);
    for (size_t i = 0; i < cut.len; i++)
        buf_putc(b, is_shown(cut, i) ? cut.ptr[i] : '?');
    if (cut.len < text.len)
        buf_puts(b, "...");
}

enum err place_refuse(const struct place *at, struct buf *why, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    place_put(why, at);
    buf_puts(why, ": ");
    buf_puts(why, text);
    return ERR_INVALID;
}

/* --- objects ---------------------------------------------------------------------------------- */

static enum err refuse_unknown(const struct place *at, const char *name, const char *const *known,
                               struct buf *why)
{
    struct nearest near = nearest_to(slice_of(name));
    struct place here = place_member(at, name);
    for (size_t i = 0; known[i]; i++)
        nearest_consider(&near, known[i]);
    place_put(why, &here);
    buf_puts(why, ": unknown");
    if (near.best) {
        buf_printf(why, ": did you mean \"%s\"?", near.best);
        return ERR_INVALID;
    }
    for (size_t i = 0; known[i]; i++)
        buf_printf(why, "%s%s", i == 0 ? "; expected " : ", ", known[i]);
    return ERR_INVALID;
}

static bool is_known(const char *name, const char *const *known)
{
    for (size_t i = 0; known && known[i]; i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    return !known;
}

static bool stands_before(const cJSON *object, const cJSON *item)
{
    for (const cJSON *other = object->child; other != item; other = other->next)
        if (strcmp(other->string, item->string) == 0)
            return true;
    return false;
}

enum err place_check_object(const struct place *at, const cJSON *value, const char *const *known,
                            struct buf *why)
{
    if (!cJSON_IsObject(value))
        return place_refuse(at, why, "expected an object");
    size_t seen = 0;
    for (const cJSON *item = value->child; item; item = item->next) {
        struct place here = place_member(at, item->string);
        if (!is_known(item->string, known))
            return refuse_unknown(at, item->string, known, why);
        if (seen++ >= 1000)
            return place_refuse(at, why, "expected at most 1000 members");
        if (stands_before(value, item))
            return place_refuse(&here, why, "stands twice");
    }
    return OK;
}

const cJSON *place_find(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* --- members ---------------------------------------------------------------------------------- */

/* json_parse() puts a line feed where a NUL stood. */
static bool is_text(const cJSON *value)
{
    return cJSON_IsString(value) && value->valuestring[0] &&
           !slice_has_control(slice_of(value->valuestring));
}

enum err place_read_text(const struct place *at, const cJSON *object, const char *name, char **out,
                         struct buf *why)
{
    const cJSON *value = place_find(object, name);
    struct place here = place_member(at, name);
    if (!value)
        return OK;
    if (!is_text(value))
        return place_refuse(&here, why, "expected a text, not empty, without control characters");
    free(*out);
    *out = slice_dup(slice_of(value->valuestring));
    return OK;
}

enum err place_read_bool(const struct place *at, const cJSON *object, const char *name, bool *out,
                         struct buf *why)
{
    const cJSON *value = place_find(object, name);
    struct place here = place_member(at, name);
    if (!value)
        return OK;
    if (!cJSON_IsBool(value))
        return place_refuse(&here, why, "expected true or false");
    *out = cJSON_IsTrue(value);
    return OK;
}

struct texts {
    place_check *check;
    struct strings *out;
};

static enum err read_item(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    struct texts *texts = arg;
    if (!is_text(value))
        return place_refuse(at, why, "expected a text, not empty, without control characters");
    const char *wrong = texts->check ? texts->check(value->valuestring) : NULL;
    if (wrong)
        return place_refuse(at, why, "%s", wrong);
    strings_add(texts->out, slice_of(value->valuestring));
    return OK;
}

enum err place_read_texts(const struct place *at, const cJSON *object, const char *name,
                          place_check *check, struct strings *out, struct buf *why)
{
    const cJSON *value = place_find(object, name);
    struct place here = place_member(at, name);
    struct texts texts = {check, out};
    if (cJSON_IsString(value))
        return read_item(&texts, &here, value, why);
    if (cJSON_IsArray(value) && !value->child)
        return place_refuse(&here, why, "expected one at least");
    return place_read_list(at, object, name, 1000, read_item, &texts, why);
}

enum err place_read_array(const struct place *at, const cJSON *list, size_t max, place_read *read,
                          void *arg, struct buf *why)
{
    size_t i = 0;
    enum err e = OK;
    if (!cJSON_IsArray(list))
        return place_refuse(at, why, "expected a list");
    for (const cJSON *item = list->child; item && e == OK; item = item->next) {
        struct place element = place_element(at, i);
        if (i++ >= max)
            return place_refuse(at, why, "expected at most %zu elements", max);
        e = read(arg, &element, item, why);
    }
    return e;
}

enum err place_read_list(const struct place *at, const cJSON *object, const char *name, size_t max,
                         place_read *read, void *arg, struct buf *why)
{
    const cJSON *list = place_find(object, name);
    struct place here = place_member(at, name);
    return list ? place_read_array(&here, list, max, read, arg, why) : OK;
}
