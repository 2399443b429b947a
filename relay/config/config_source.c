/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_source.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "relay/config/config_links.h"
#include "relay/config/config_secret.h"

#define ENV_PREFIX "SSE_RELAY_"

/* --- the command line --- */

static enum err unknown_flag(struct config_loader *l, struct slice name)
{
    const char *guess = config_load_nearest(name, true);
    buf_puts(&l->err, "unknown option --");
    config_load_put_shown(&l->err, name);
    if (guess)
        buf_printf(&l->err, ": did you mean --%s?", guess);
    else
        buf_puts(&l->err, ": --help lists all options");
    return ERR_INVALID;
}

static bool takes_value(struct slice name)
{
    return slice_is(name, "config") || slice_is(name, "explain") || config_table_find(name);
}

/* Splits argv[*at] and moves *at behind what it took. */
static enum err next_flag(struct config_loader *l, int argc, char **argv, int *at,
                          struct slice *name, struct slice *value)
{
    struct slice arg = slice_of(argv[(*at)++]);
    if (slice_is(arg, "-h"))
        arg = SLICE_LIT("--help");
    if (!slice_has_prefix(arg, SLICE_LIT("--")) || arg.len == 2) {
        buf_puts(&l->err, "unexpected argument \"");
        config_load_put_shown(&l->err, arg);
        buf_puts(&l->err, "\": options are written --KEY VALUE, and --help lists them");
        return ERR_INVALID;
    }
    *value = (struct slice){arg.ptr + 2, arg.len - 2};
    *name = slice_cut(value, '=');
    if (value->ptr)
        return OK;
    if (!slice_is(*name, "explain") && config_load_action(l, *name)) {
        name->len = 0; /* done with */
        return OK;
    }
    if (!takes_value(*name))
        return unknown_flag(l, *name);
    if (*at >= argc || strncmp(argv[*at], "--", 2) == 0) {
        buf_puts(&l->err, "--");
        config_load_put_shown(&l->err, *name);
        buf_puts(&l->err, " needs a value: write --KEY VALUE or --KEY=VALUE");
        return ERR_INVALID;
    }
    *value = slice_of(argv[(*at)++]);
    return OK;
}

static void set_explained(struct config_loader *l, struct slice token)
{
    config_load_action(l, SLICE_LIT("explain"));
    free(l->config->explain);
    l->config->explain = slice_dup(token);
}

enum err config_source_flags(struct config_loader *l, int argc, char **argv, bool apply)
{
    for (int at = 1; at < argc;) {
        struct slice name, value;
        char origin[CONFIG_LOAD_NAME_MAX + 8];
        enum err e = next_flag(l, argc, argv, &at, &name, &value);
        if (e != OK)
            return e;
        if (name.len == 0 && !value.ptr)
            continue;
        if (slice_is(name, "config")) {
            l->path = value;
            continue;
        }
        if (slice_is(name, "explain")) {
            set_explained(l, value);
            continue;
        }
        const struct config_option *opt = config_table_find(name);
        if (!opt)
            return unknown_flag(l, name);
        snprintf(origin, sizeof(origin), "--%s", opt->name);
        if (apply && (e = config_load_set(l, opt, value, origin)) != OK)
            return e;
        bool is_url = opt->offset == offsetof(struct config, redis);
        if (apply && (is_url ? config_secret_in_url(l->config->redis) : opt->secret && value.len))
            l->config->password_on_command_line = true;
    }
    return OK;
}

/* --- the environment --- */

static void env_name(const char *option, char out[static CONFIG_LOAD_NAME_MAX + 16])
{
    size_t n = sizeof(ENV_PREFIX) - 1, i = 0;
    memcpy(out, ENV_PREFIX, n);
    for (; option[i] && i < CONFIG_LOAD_NAME_MAX; i++)
        out[n + i] = option[i] == '.' ? '_' : (char)toupper((unsigned char)option[i]);
    out[n + i] = '\0';
}

static enum err unknown_variable(struct config_loader *l, struct slice name)
{
    size_t skip = sizeof(ENV_PREFIX) - 1;
    const char *guess =
        config_load_nearest((struct slice){name.ptr + skip, name.len - skip}, false);
    char known[CONFIG_LOAD_NAME_MAX + 16];
    buf_puts(&l->err, "unknown environment variable ");
    config_load_put_shown(&l->err, name);
    if (guess) {
        env_name(guess, known);
        buf_printf(&l->err, ": did you mean %s?", known);
    } else {
        buf_puts(&l->err, ": names that start with " ENV_PREFIX
                          " must be those of an option, and --help lists them");
    }
    return ERR_INVALID;
}

static enum err read_variable(struct config_loader *l, struct slice name, struct slice value,
                              char *const *list)
{
    char known[CONFIG_LOAD_NAME_MAX + 16];
    for (size_t i = 0; i < config_table_count; i++) {
        env_name(config_table[i].name, known);
        if (slice_is(name, known))
            return config_load_set(l, &config_table[i], value, known);
    }
    if (config_links_has(name, sizeof(ENV_PREFIX) - 1, value, list))
        return OK;
    return unknown_variable(l, name);
}

enum err config_source_environment(struct config_loader *l, char **list, bool apply)
{
    for (size_t i = 0; list && list[i]; i++) {
        struct slice value = slice_of(list[i]), name = slice_cut(&value, '=');
        if (!value.ptr || !slice_has_prefix(name, SLICE_LIT(ENV_PREFIX)))
            continue;
        if (slice_is(name, ENV_PREFIX "CONFIG")) {
            if (!apply && value.len > 0)
                l->path = value;
            continue;
        }
        enum err e = apply ? read_variable(l, name, value, list) : OK;
        if (e != OK)
            return e;
    }
    return OK;
}
