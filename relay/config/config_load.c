/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_load.h"
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/config/config_print.h"
#include "relay/config/config_value.h"

static const char *const action_flags[] = {
    [CONFIG_CHECK] = "check-config", [CONFIG_PRINT] = "print-config", [CONFIG_HELP] = "help",
    [CONFIG_VERSION] = "version",    [CONFIG_DOCS] = "print-docs",
};

void config_load_put_shown(struct buf *b, struct slice text)
{
    size_t len = text.len < 100 ? text.len : 100;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        buf_putc(b, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
    if (len < text.len)
        buf_puts(b, "...");
}

static bool is_redis(const struct config_option *opt)
{
    return opt->offset == offsetof(struct config, redis);
}

static void put_value(struct buf *b, const struct config_option *opt, struct slice value)
{
    if (opt->secret) {
        buf_puts(b, "***");
    } else if (is_redis(opt)) {
        char *url = mem_dup(value.ptr, value.len); /* may hold a password */
        struct buf masked = {0};
        config_print_url(&masked, url);
        config_load_put_shown(b, buf_slice(&masked));
        buf_reset(&masked);
        free(url);
    } else {
        config_load_put_shown(b, value);
    }
}

enum err config_load_set(struct config_loader *l, const struct config_option *opt,
                         struct slice value, const char *origin)
{
    struct buf why = {0};
    size_t index = (size_t)(opt - config_table);
    bool append = opt->type == CONFIG_STRINGS && l->seen[index];
    enum err e = config_value_set(l->config, opt, value, append, &why);
    l->seen[index] = true;
    if (e != OK) {
        buf_printf(&l->err, "%s=", opt->name);
        put_value(&l->err, opt, value);
        buf_printf(&l->err, " (from %s): ", origin);
        buf_put_slice(&l->err, buf_slice(&why));
    } else if (is_redis(opt)) {
        free(l->config->redis_origin);
        l->config->redis_origin = slice_dup(slice_of(origin));
    }
    buf_reset(&why);
    return e;
}

bool config_load_action(struct config_loader *l, struct slice name)
{
    for (size_t i = 0; i < sizeof(action_flags) / sizeof(action_flags[0]); i++) {
        if (action_flags[i] && slice_is(name, action_flags[i])) {
            /* --help beats everything, whatever stands beside it. */
            if (l->action != CONFIG_HELP)
                l->action = (enum config_action)i;
            return true;
        }
    }
    return false;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance without regard to case, nor to which separator stands between words. */
static unsigned edit_distance(struct slice a, struct slice b)
{
    unsigned row[CONFIG_LOAD_NAME_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            int x = tolower((unsigned char)a.ptr[i - 1]), y = tolower((unsigned char)b.ptr[j - 1]);
            bool same = x == y || (strchr("-_.", x) && strchr("-_.", y));
            unsigned next = min3(row[j] + 1, row[j - 1] + 1, diagonal + !same);
            diagonal = row[j];
            row[j] = next;
        }
    }
    return row[b.len];
}

static void consider(struct slice word, const char *name, const char **best, unsigned *least)
{
    unsigned d = edit_distance(word, slice_of(name));
    if (d < *least) {
        *least = d;
        *best = name;
    }
}

const char *config_load_nearest(struct slice word, bool with_actions)
{
    const char *best = NULL;
    unsigned least = (unsigned)(word.len / 3) + 1;
    if (word.len == 0 || word.len > CONFIG_LOAD_NAME_MAX)
        return NULL;
    if (least < 3)
        least = word.len > 3 ? 3 : 2;
    for (size_t i = 0; i < config_table_count; i++)
        consider(word, config_table[i].name, &best, &least);
    for (size_t i = 0; with_actions && i < sizeof(action_flags) / sizeof(action_flags[0]); i++)
        if (action_flags[i] && i != CONFIG_DOCS)
            consider(word, action_flags[i], &best, &least);
    if (with_actions)
        consider(word, "config", &best, &least);
    return best;
}
