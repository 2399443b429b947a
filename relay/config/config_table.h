/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, for the files that fill the settings from it (config_load.c), set and
 * compare them (config_value.c) and print them (config_print.c). */
#pragma once
#include <stddef.h>
#include "common/buf.h"
#include "relay/config/config_settings.h"

#define CONFIG_OPTION_MAX 96 /* not fewer than the table has */

enum config_type {
    CONFIG_STRING,   /* min, max: length in bytes */
    CONFIG_STRINGS,  /* min, max: number of items; commas separate them in text */
    CONFIG_COUNT,    /* uint64_t */
    CONFIG_SIZE,     /* uint64_t, bytes */
    CONFIG_DURATION, /* uint64_t, milliseconds */
    CONFIG_BOOL,
    CONFIG_ENUM, /* an index into choices */
    CONFIG_JSON, /* a text that is JSON; in the file it stands as such. max: its length in bytes */
};

struct config_option {
    const char *name;
    enum config_type type;
    size_t offset; /* in struct config */
    uint64_t min, max;
    bool zero_ok;        /* 0 is allowed although it is below min */
    bool reloadable;     /* may change while the relay runs */
    bool secret;         /* never printed */
    const char *initial; /* the default, as text */
    const char
        *described; /* the default in words, where `initial` is only a placeholder; else NULL */
    const char *group, *help;
    const char *allowed;        /* strings: what an item may be */
    const char *const *choices; /* enums, NULL-terminated */
    /* Strings: NULL when @item is fine, else the reason in words ("expected …"). */
    const char *(*check)(const char *item);
    /* JSON: appends what is kept of @text. ERR_INVALID: *why says what is wrong with which part. */
    enum err (*normalize)(struct slice text, struct buf *out, struct buf *why);
};

extern const struct config_option config_table[];
extern const size_t config_table_count;

const struct config_option *config_table_find(struct slice name); /* NULL: no such option */
/* Where @c keeps the option's value. */
void *config_table_field(const struct config *c, const struct config_option *opt);
