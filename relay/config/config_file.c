/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/json.h"
#include "relay/config/config_value.h"

#define FILE_MAX ((size_t)1024 * 1024)

static enum err file_read(struct config_loader *l, const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    if (fd >= 0) {
        do {
            buf_reserve(out, 65536);
            n = read(fd, out->ptr + out->len, 65536);
            if (n > 0)
                out->len += (size_t)n;
        } while ((n > 0 && out->len <= FILE_MAX) || (n < 0 && errno == EINTR));
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        buf_printf(&l->err, "cannot read the configuration file %s: %s", path, strerror(error));
    else if (out->len > FILE_MAX)
        buf_printf(&l->err, "the configuration file %s is larger than 1 MB", path);
    return l->err.len == 0 ? OK : ERR_IO;
}

/* From @at on up to, not including, @end: all but the ends of lines. */
static void blank(char *text, size_t at, size_t end)
{
    for (; at < end; at++)
        if (text[at] != '\n')
            text[at] = ' ';
}

/* The end of the string that begins at @at. It ends with its line, too: JSON has no longer ones,
 * and what follows one that was not closed must not be taken for its text. */
static size_t string_end(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"' && text[at] != '\n'; at++)
        if (text[at] == '\\' && at + 1 < len && text[at + 1] != '\n')
            at++;
    return at < len ? at + 1 : len;
}

/* Blanks comments. Not cJSON_Minify(), so that positions stay and an error can name its line.
 * Returns where a comment begins that does not end, or @len. */
static size_t strip_comments(char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        const char *end = NULL;
        if (text[at] == '"') {
            at = string_end(text, len, at);
        } else if (at + 1 < len && text[at] == '/' && text[at + 1] == '/') {
            end = memchr(text + at, '\n', len - at);
            end = end ? end : text + len;
        } else if (at + 1 < len && text[at] == '/' && text[at + 1] == '*') {
            end = memmem(text + at + 2, len - at - 2, "*/", 2);
            if (!end)
                return at;
            end += 2;
        } else {
            at++;
        }
        if (end) {
            blank(text, at, (size_t)(end - text));
            at = (size_t)(end - text);
        }
    }
    return len;
}

static unsigned line_at(const struct buf *text, size_t at)
{
    unsigned line = 1;
    for (size_t i = 0; i < at && i < text->len; i++)
        line += text->ptr[i] == '\n';
    return line;
}

static enum err unknown_key(struct config_loader *l, struct slice key, const char *path)
{
    const char *guess = config_load_nearest(key, false);
    buf_puts(&l->err, "unknown key \"");
    config_load_put_shown(&l->err, key);
    buf_printf(&l->err, "\" in %s: ", path);
    if (guess)
        buf_printf(&l->err, "did you mean \"%s\"?", guess);
    else
        buf_puts(&l->err, "--help lists the keys");
    return ERR_INVALID;
}

/* Scalars go the way of text, so that one set of rules holds for all sources. */
static bool scalar_text(const cJSON *value, enum config_type type, char number[static 32],
                        struct slice *out)
{
    bool text_only = type == CONFIG_STRING || type == CONFIG_STRINGS;
    if (cJSON_IsString(value)) {
        *out = slice_of(value->valuestring);
        return true;
    }
    if (cJSON_IsBool(value)) {
        *out = cJSON_IsTrue(value) ? SLICE_LIT("true") : SLICE_LIT("false");
        return !text_only;
    }
    if (!cJSON_IsNumber(value))
        return false;
    snprintf(number, 32, "%.15g", value->valuedouble);
    *out = slice_of(number);
    return !text_only;
}

static enum err wrong_type(struct config_loader *l, const struct config_option *opt,
                           const char *path)
{
    static const char *const kinds[] = {
        [CONFIG_STRING] = "a string",
        [CONFIG_STRINGS] = "an array of strings",
        [CONFIG_COUNT] = "a number",
        [CONFIG_SIZE] = "a string such as \"64KB\" or a number of bytes",
        [CONFIG_DURATION] = "a string such as \"15s\"",
        [CONFIG_BOOL] = "true or false",
        [CONFIG_ENUM] = "a string",
    };
    buf_printf(&l->err, "%s (from %s): expected %s: ", opt->name, path, kinds[opt->type]);
    config_value_put_allowed(&l->err, opt);
    return ERR_INVALID;
}

static enum err file_option(struct config_loader *l, const struct config_option *opt,
                            const cJSON *value, const char *path)
{
    char number[32];
    struct slice text;
    if (l->seen[opt - config_table]) {
        buf_printf(&l->err, "%s stands twice in %s", opt->name, path);
        return ERR_INVALID;
    }
    if (opt->type == CONFIG_STRINGS && cJSON_IsArray(value)) {
        enum err e = OK;
        if (!value->child)
            e = config_load_set(l, opt, SLICE_LIT(""), path);
        for (const cJSON *item = value->child; item && e == OK; item = item->next)
            e = cJSON_IsString(item) ? config_load_set(l, opt, slice_of(item->valuestring), path)
                                     : wrong_type(l, opt, path);
        return e;
    }
    if (!scalar_text(value, opt->type, number, &text))
        return wrong_type(l, opt, path);
    return config_load_set(l, opt, text, path);
}

static bool group_exists(struct slice dotted)
{
    for (size_t i = 0; i < config_table_count; i++)
        if (slice_has_prefix(slice_of(config_table[i].name), dotted))
            return true;
    return false;
}

/* Nested objects and dotted keys mean the same. The depth is bounded: every level is a group of the
 * table. */
static enum err file_object(struct config_loader *l, const cJSON *object, struct slice above,
                            const char *path)
{
    enum err e = OK;
    for (const cJSON *item = object->child; item && e == OK; item = item->next) {
        struct buf key = {0};
        buf_put_slice(&key, above);
        buf_puts(&key, item->string);
        const struct config_option *opt = config_table_find(buf_slice(&key));
        if (cJSON_IsObject(item)) {
            buf_putc(&key, '.');
            if (group_exists(buf_slice(&key))) {
                e = file_object(l, item, buf_slice(&key), path);
                opt = NULL;
            } else {
                key.len--;
                e = opt ? wrong_type(l, opt, path) : unknown_key(l, buf_slice(&key), path);
            }
        } else {
            e = opt ? file_option(l, opt, item, path) : unknown_key(l, buf_slice(&key), path);
        }
        buf_reset(&key);
    }
    return e;
}

/* Strips @text of its comments. */
static enum err file_parse(struct config_loader *l, const char *path, struct buf *text,
                           cJSON **tree)
{
    size_t wrong_at = strip_comments(text->ptr, text->len);
    if (wrong_at < text->len) {
        buf_printf(&l->err,
                   "the configuration file %s has a comment without an end: look at line %u", path,
                   line_at(text, wrong_at));
        return ERR_INVALID;
    }
    enum err e = json_parse_where(buf_slice(text), tree, &wrong_at);
    if (e == ERR_RANGE)
        buf_printf(&l->err, "the configuration file %s has more values than any needs", path);
    else if (e != OK)
        buf_printf(&l->err, "the configuration file %s is not valid JSON: look at line %u", path,
                   line_at(text, wrong_at));
    return e;
}

enum err config_file_apply(struct config_loader *l)
{
    char *path = slice_dup(l->path);
    struct buf text = {0};
    cJSON *tree = NULL;
    enum err e = file_read(l, path, &text);
    if (e != OK)
        goto out;
    e = file_parse(l, path, &text, &tree);
    if (e != OK)
        goto out;
    if (cJSON_IsObject(tree)) {
        e = file_object(l, tree, SLICE_LIT(""), path);
    } else {
        buf_printf(&l->err, "the configuration file %s must hold a JSON object", path);
        e = ERR_INVALID;
    }
out:
    cJSON_Delete(tree);
    buf_reset(&text);
    free(path);
    return e;
}
