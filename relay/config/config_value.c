/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_value.h"
#include <stdlib.h>
#include <string.h>
#include "common/json.h"
#include "common/mem.h"

static void put_duration(struct buf *b, uint64_t ms)
{
    static const struct {
        uint64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;
    if (ms == 0) {
        buf_putc(b, '0');
        return;
    }
    while (ms % units[i].ms != 0)
        i++;
    buf_put_u64(b, ms / units[i].ms);
    buf_puts(b, units[i].unit);
}

static void put_size(struct buf *b, uint64_t bytes)
{
    static const char *const units[] = {"", "KB", "MB", "GB"};
    size_t i = 0;
    for (; i < 3 && bytes > 0 && bytes % 1024 == 0; i++)
        bytes /= 1024;
    buf_put_u64(b, bytes);
    buf_puts(b, units[i]);
}

static void put_number(struct buf *b, enum config_type type, uint64_t n)
{
    if (type == CONFIG_DURATION)
        put_duration(b, n);
    else if (type == CONFIG_SIZE)
        put_size(b, n);
    else
        buf_put_u64(b, n);
}

void config_value_put_allowed(struct buf *b, const struct config_option *opt)
{
    switch (opt->type) {
    case CONFIG_STRING:
    case CONFIG_STRINGS:
    case CONFIG_JSON:
        buf_puts(b, opt->allowed);
        break;
    case CONFIG_COUNT:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        if (opt->zero_ok)
            buf_puts(b, "0 or ");
        put_number(b, opt->type, opt->min);
        buf_puts(b, " to ");
        put_number(b, opt->type, opt->max);
        break;
    case CONFIG_BOOL:
        buf_puts(b, "on or off");
        break;
    case CONFIG_ENUM:
        for (size_t i = 0; opt->choices[i]; i++) {
            if (i > 0)
                buf_puts(b, opt->choices[i + 1] ? ", " : " or ");
            buf_puts(b, opt->choices[i]);
        }
        break;
    }
}

static void put_expected(struct buf *why, const struct config_option *opt)
{
    static const char *const kinds[] = {
        [CONFIG_STRING] = "",
        [CONFIG_STRINGS] = "",
        [CONFIG_COUNT] = "a whole number, ",
        [CONFIG_SIZE] = "a size such as 4096, 64KB or 1MB, ",
        [CONFIG_DURATION] = "a duration such as 15s, 250ms or 10m, ",
        [CONFIG_BOOL] = "",
        [CONFIG_ENUM] = "",
        [CONFIG_JSON] = "",
    };
    buf_puts(why, "expected ");
    buf_puts(why, kinds[opt->type]);
    config_value_put_allowed(why, opt);
}

static enum err set_number(uint64_t *field, const struct config_option *opt, struct slice text)
{
    uint64_t n = 0;
    enum err e = opt->type == CONFIG_DURATION ? slice_duration_ms(text, &n)
                 : opt->type == CONFIG_SIZE   ? slice_size(text, &n)
                                              : slice_u64(text, UINT64_MAX, &n);
    if (e != OK)
        return ERR_INVALID;
    if ((n < opt->min || n > opt->max) && !(n == 0 && opt->zero_ok))
        return ERR_INVALID;
    *field = n;
    return OK;
}

/* The words of a switch as "on" or "off"; other text as it is. */
static struct slice switch_word(struct slice text)
{
    static const char *const yes[] = {"on", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "no", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (slice_eq_nocase(text, yes[i]))
            return SLICE_LIT("on");
        if (slice_eq_nocase(text, no[i]))
            return SLICE_LIT("off");
    }
    return text;
}

static enum err set_bool(bool *field, struct slice text)
{
    struct slice word = switch_word(text);
    if (!slice_is(word, "on") && !slice_is(word, "off"))
        return ERR_INVALID;
    *field = slice_is(word, "on");
    return OK;
}

/* Where "on" and "off" are among the choices the other words of a switch stand for them: the option
 * may have been one before there were more choices. */
static enum err set_enum(unsigned *field, const struct config_option *opt, struct slice text)
{
    text = switch_word(text);
    for (unsigned i = 0; opt->choices[i]; i++) {
        if (slice_eq_nocase(text, opt->choices[i])) {
            *field = i;
            return OK;
        }
    }
    return ERR_INVALID;
}

static enum err check_item(const struct config_option *opt, const char *item, struct buf *why)
{
    const char *wrong = opt->check(item);
    if (!wrong)
        return OK;
    buf_puts(why, wrong);
    return ERR_INVALID;
}

static enum err set_string(char **field, const struct config_option *opt, struct slice text,
                           struct buf *why)
{
    char *copy = mem_dup(text.ptr, text.len);
    enum err e = ERR_INVALID;
    if (text.len >= opt->min && text.len <= opt->max && strlen(copy) == text.len)
        e = check_item(opt, copy, why);
    if (e != OK) {
        free(copy);
        return e;
    }
    free(*field);
    *field = copy;
    return OK;
}

static enum err set_json(char **field, const struct config_option *opt, struct slice text,
                         struct buf *why)
{
    struct buf kept = {0};
    if (text.len > opt->max || opt->normalize(text, &kept, why)) {
        buf_reset(&kept);
        return ERR_INVALID;
    }
    free(*field);
    *field = buf_take(&kept, NULL);
    return OK;
}

static enum err set_strings(struct strings *field, const struct config_option *opt,
                            struct slice text, bool append, struct buf *why)
{
    struct strings list = {0};
    enum err e = OK;
    for (size_t i = 0; append && i < field->count; i++)
        strings_add(&list, slice_of(field->items[i]));
    for (struct slice rest = text; rest.ptr && e == OK;) {
        struct slice item = slice_trim(slice_cut(&rest, ','));
        if (item.len == 0)
            continue;
        strings_add(&list, item);
        e = check_item(opt, list.items[list.count - 1], why);
    }
    if (e == OK && (list.count < opt->min || list.count > opt->max)) {
        buf_printf(why, "expected %llu to %llu items", (unsigned long long)opt->min,
                   (unsigned long long)opt->max);
        e = ERR_INVALID;
    }
    if (e != OK) {
        strings_reset(&list);
        return e;
    }
    strings_reset(field);
    *field = list;
    return OK;
}

enum err config_value_set(struct config *c, const struct config_option *opt, struct slice text,
                          bool append, struct buf *why)
{
    void *field = config_table_field(c, opt);
    enum err e = ERR_INVALID;
    switch (opt->type) {
    case CONFIG_STRING:
        e = set_string(field, opt, text, why);
        break;
    case CONFIG_STRINGS:
        e = set_strings(field, opt, text, append, why);
        break;
    case CONFIG_COUNT:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        e = set_number(field, opt, text);
        break;
    case CONFIG_BOOL:
        e = set_bool(field, text);
        break;
    case CONFIG_ENUM:
        e = set_enum(field, opt, text);
        break;
    case CONFIG_JSON:
        e = set_json(field, opt, text, why);
        break;
    }
    if (e != OK && why->len == 0)
        put_expected(why, opt);
    return e;
}

void config_value_free(struct config *c, const struct config_option *opt)
{
    void *field = config_table_field(c, opt);
    if (opt->type == CONFIG_STRING || opt->type == CONFIG_JSON) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else if (opt->type == CONFIG_STRINGS) {
        strings_reset(field);
    }
}

void config_value_copy(struct config *to, const struct config *from,
                       const struct config_option *opt)
{
    void *target = config_table_field(to, opt);
    const void *source = config_table_field(from, opt);
    config_value_free(to, opt);
    switch (opt->type) {
    case CONFIG_STRING:
    case CONFIG_JSON:
        *(char **)target = slice_dup(slice_of(*(char *const *)source));
        break;
    case CONFIG_STRINGS: {
        const struct strings *list = source;
        for (size_t i = 0; i < list->count; i++)
            strings_add(target, slice_of(list->items[i]));
        break;
    }
    case CONFIG_COUNT:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        *(uint64_t *)target = *(const uint64_t *)source;
        break;
    case CONFIG_BOOL:
        *(bool *)target = *(const bool *)source;
        break;
    case CONFIG_ENUM:
        *(unsigned *)target = *(const unsigned *)source;
        break;
    }
}

static bool strings_equal(const struct strings *a, const struct strings *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

bool config_value_equal(const struct config *a, const struct config *b,
                        const struct config_option *opt)
{
    const void *x = config_table_field(a, opt), *y = config_table_field(b, opt);
    switch (opt->type) {
    case CONFIG_STRING:
    case CONFIG_JSON:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case CONFIG_STRINGS:
        return strings_equal(x, y);
    case CONFIG_COUNT:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        return *(const uint64_t *)x == *(const uint64_t *)y;
    case CONFIG_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case CONFIG_ENUM:
        return *(const unsigned *)x == *(const unsigned *)y;
    }
    return false;
}

static void put_json_strings(struct buf *b, const struct strings *list)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buf_puts(b, ", ");
        json_put_string(b, slice_of(list->items[i]));
    }
    buf_putc(b, ']');
}

void config_value_put_json(struct buf *b, const struct config *c, const struct config_option *opt)
{
    const void *field = config_table_field(c, opt);
    switch (opt->type) {
    case CONFIG_STRING:
        json_put_string(b, slice_of(*(char *const *)field));
        break;
    case CONFIG_STRINGS:
        put_json_strings(b, field);
        break;
    case CONFIG_COUNT:
        buf_put_u64(b, *(const uint64_t *)field);
        break;
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        buf_putc(b, '"');
        put_number(b, opt->type, *(const uint64_t *)field);
        buf_putc(b, '"');
        break;
    case CONFIG_BOOL:
        buf_puts(b, *(const bool *)field ? "true" : "false");
        break;
    case CONFIG_ENUM:
        json_put_string(b, slice_of(opt->choices[*(const unsigned *)field]));
        break;
    case CONFIG_JSON:
        buf_puts(b, *(char *const *)field);
        break;
    }
}
