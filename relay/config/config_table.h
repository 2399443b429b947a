/* The table behind config.h, for the files that fill it (config_source.c), check it
 * (config_value.c) and print it (config_print.c). Nobody else includes this. */
#pragma once
#include <stdatomic.h>
#include "relay/config/config.h"

enum config_type {
    CONFIG_STRING,   /* min, max: length in bytes */
    CONFIG_STRINGS,  /* min, max: number of items; commas separate them in text */
    CONFIG_COUNT,    /* uint64_t */
    CONFIG_SIZE,     /* uint64_t, bytes */
    CONFIG_DURATION, /* uint64_t, milliseconds */
    CONFIG_BOOL,
    CONFIG_ENUM, /* an index into choices */
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
};

/* What config_load() hands out; the reference count and what must not show in struct config live
 * around it. */
struct config_box {
    struct config config; /* first, so that the pointers convert */
    atomic_uint refs;
    bool node_is_default, workers_is_default; /* printed as "" and 0 */
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

struct config *config_new_defaults(void); /* one reference; node and workers not resolved yet */
const struct config_option *config_option_find(struct slice name); /* NULL: no such option */
void *config_field(const struct config *c, const struct config_option *opt);

/* config_value.c. Sets the option from text; lists grow instead of being replaced when @append. On
 * ERR_INVALID the reason is in *why, as words that follow "name=value: ". */
NODISCARD enum err config_value_set(struct config *c, const struct config_option *opt,
                                    struct slice text, bool append, struct buf *why);
void config_value_copy(struct config *to, const struct config *from,
                       const struct config_option *opt);
bool config_value_equal(const struct config *a, const struct config *b,
                        const struct config_option *opt);
void config_value_free(struct config *c, const struct config_option *opt);
void config_value_put_json(struct buf *b, const struct config *c, const struct config_option *opt);
void config_value_put_allowed(struct buf *b, const struct config_option *opt);

/* config_secret.c. Reads the files that hold passwords into their options, and checks that what
 * concerns Redis fits together; the sentence goes to *why. */
NODISCARD enum err config_secret_load(struct config *c, struct buf *why);
bool config_secret_in_url(const char *url); /* it holds a password */

/* config_check.c: for the `check` column. */
const char *config_check_listen(const char *item);
const char *config_check_redis(const char *item);
const char *config_check_secret(const char *item); /* what a line may hold */
const char *config_check_prefix(const char *item);
const char *config_check_origin(const char *item);
const char *config_check_namespace(const char *item);
const char *config_check_pattern(const char *item);
const char *config_check_printable(const char *item); /* may hold spaces */
const char *config_check_word(const char *item);      /* printable ASCII without spaces */
