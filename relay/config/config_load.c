/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_load.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "common/nearest.h"
#include "relay/config/config_print.h"
#include "relay/config/config_value.h"

static const char *const action_flags[] = {
    [CONFIG_CHECK] = "check-config", [CONFIG_PRINT] = "print-config", [CONFIG_HELP] = "help",
    [CONFIG_VERSION] = "version",    [CONFIG_DOCS] = "print-docs",    [CONFIG_EXPLAIN] = "explain",
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
    if (e != OK && opt->type == CONFIG_JSON) { /* the reason says where in the text */
        buf_put_slice(&l->err, buf_slice(&why));
        buf_printf(&l->err, " (from %s)", origin);
    } else if (e != OK) {
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

const char *config_load_nearest(struct slice word, bool with_actions)
{
    struct nearest near = nearest_to(word);
    for (size_t i = 0; i < config_table_count; i++)
        nearest_consider(&near, config_table[i].name);
    for (size_t i = 0; with_actions && i < sizeof(action_flags) / sizeof(action_flags[0]); i++)
        if (action_flags[i] && i != CONFIG_DOCS)
            nearest_consider(&near, action_flags[i]);
    if (with_actions)
        nearest_consider(&near, "config");
    return near.best;
}
