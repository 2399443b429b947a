/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/json.h"
#include "common/json_comments.h"
#include "relay/config/config_value.h"
#include "relay/kit/file.h"

#define FILE_MAX ((size_t)1024 * 1024)

static enum err file_load(struct config_loader *l, const char *path, struct buf *out)
{
    enum err e = file_read(path, FILE_MAX, out);
    if (e == ERR_IO)
        buf_printf(&l->err, "cannot read the configuration file %s: %s", path, strerror(errno));
    else if (e)
        buf_printf(&l->err, "the configuration file %s is larger than 1 MB", path);
    return e;
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
        [CONFIG_JSON] = "an array of objects",
    };
    buf_printf(&l->err, "%s (from %s): expected %s: ", opt->name, path, kinds[opt->type]);
    config_value_put_allowed(&l->err, opt);
    return ERR_INVALID;
}

/* {"topic": …, "priority": …} is another way to write an entry of `lanes`. */
static enum err set_rule(struct config_loader *l, const struct config_option *opt,
                         const cJSON *rule, const char *path)
{
    const cJSON *topic = cJSON_GetObjectItemCaseSensitive(rule, "topic");
    const cJSON *priority = cJSON_GetObjectItemCaseSensitive(rule, "priority");
    if (!cJSON_IsString(topic) || !cJSON_IsString(priority) || cJSON_GetArraySize(rule) != 2) {
        buf_printf(&l->err, "%s in %s: expected objects with topic and priority, both text",
                   opt->name, path);
        return ERR_INVALID;
    }
    struct buf text = {0};
    buf_printf(&text, "%s=%s", topic->valuestring, priority->valuestring);
    enum err e = config_load_set(l, opt, buf_slice(&text), path);
    buf_reset(&text);
    return e;
}

static enum err set_item(struct config_loader *l, const struct config_option *opt,
                         const cJSON *item, const char *path)
{
    if (cJSON_IsString(item))
        return config_load_set(l, opt, slice_of(item->valuestring), path);
    if (cJSON_IsObject(item) && strcmp(opt->name, "lanes") == 0)
        return set_rule(l, opt, item, path);
    return wrong_type(l, opt, path);
}

/* The text that a flag would have. */
static enum err set_json(struct config_loader *l, const struct config_option *opt,
                         const cJSON *value, const char *path)
{
    char *text = cJSON_PrintUnformatted(value);
    if (!text)
        abort(); /* memory: mem.h */
    enum err e = config_load_set(l, opt, slice_of(text), path);
    cJSON_free(text);
    return e;
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
            e = set_item(l, opt, item, path);
        return e;
    }
    if (opt->type == CONFIG_JSON && cJSON_IsArray(value))
        return set_json(l, opt, value, path);
    if (opt->type == CONFIG_JSON || !scalar_text(value, opt->type, number, &text))
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
    size_t wrong_at = json_comments_blank(text);
    if (wrong_at < text->len) {
        buf_printf(&l->err,
                   "the configuration file %s has a comment without an end: look at line %u", path,
                   json_comments_line(text, wrong_at));
        return ERR_INVALID;
    }
    enum err e = json_parse_where(buf_slice(text), tree, &wrong_at);
    if (e == ERR_RANGE)
        buf_printf(&l->err, "the configuration file %s has more values than any needs", path);
    else if (e != OK)
        buf_printf(&l->err, "the configuration file %s is not valid JSON: look at line %u", path,
                   json_comments_line(text, wrong_at));
    return e;
}

enum err config_file_apply(struct config_loader *l)
{
    char *path = slice_dup(l->path);
    struct buf text = {0};
    cJSON *tree = NULL;
    enum err e = file_load(l, path, &text);
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
