/* Where values come from: the command line and the environment here, the file in config_file.c.
 * Each is applied over the one before. */
#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/mem.h"
#include "relay/config/config_load.h"

#define ENV_PREFIX "SSE_RELAY_"
#define NAME_MAX_LEN 64 /* longer than any key, so a longer word resembles none */

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

enum err config_load_set(struct config_load *l, const struct config_option *opt, struct slice value,
                         const char *origin)
{
    struct buf why = {0};
    size_t index = (size_t)(opt - config_options);
    bool append = opt->type == CONFIG_STRINGS && l->seen[index];
    enum err e = config_value_set(l->config, opt, value, append, &why);
    l->seen[index] = true;
    if (e != OK) {
        buf_printf(&l->err, "%s=", opt->name);
        if (opt->offset == offsetof(struct config, redis)) {
            char *url = mem_dup(value.ptr, value.len); /* may hold a password */
            struct buf masked = {0};
            config_put_redacted_url(&masked, url);
            config_load_put_shown(&l->err, buf_slice(&masked));
            buf_reset(&masked);
            free(url);
        } else if (opt->secret) {
            buf_puts(&l->err, "***");
        } else {
            config_load_put_shown(&l->err, value);
        }
        buf_printf(&l->err, " (from %s): ", origin);
        buf_put_slice(&l->err, buf_slice(&why));
    }
    buf_reset(&why);
    return e;
}

/* --- suggestions --- */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance without regard to case, nor to which separator stands between words. */
static unsigned edit_distance(struct slice a, struct slice b)
{
    unsigned row[NAME_MAX_LEN + 1];
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
    if (word.len == 0 || word.len > NAME_MAX_LEN)
        return NULL;
    if (least < 3)
        least = word.len > 3 ? 3 : 2;
    for (size_t i = 0; i < config_option_count; i++)
        consider(word, config_options[i].name, &best, &least);
    for (size_t i = 0; with_actions && i < sizeof(action_flags) / sizeof(action_flags[0]); i++)
        if (action_flags[i] && i != CONFIG_DOCS)
            consider(word, action_flags[i], &best, &least);
    if (with_actions)
        consider(word, "config", &best, &least);
    return best;
}

/* --- the command line --- */

static enum err unknown_flag(struct config_load *l, struct slice name)
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

static bool take_action(struct config_load *l, struct slice name)
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

/* Splits argv[*at] and moves *at behind what it took. */
static enum err next_flag(struct config_load *l, int argc, char **argv, int *at, struct slice *name,
                          struct slice *value)
{
    struct slice arg = slice_of(argv[*at]);
    const char *equals = memchr(arg.ptr, '=', arg.len);
    (*at)++;
    if (slice_is(arg, "-h"))
        arg = SLICE_LIT("--help");
    if (!slice_has_prefix(arg, SLICE_LIT("--")) || arg.len == 2) {
        buf_puts(&l->err, "unexpected argument \"");
        config_load_put_shown(&l->err, arg);
        buf_puts(&l->err, "\": options are written --KEY VALUE, and --help lists them");
        return ERR_INVALID;
    }
    *name = (struct slice){arg.ptr + 2, arg.len - 2};
    *value = SLICE_NONE;
    if (equals) {
        name->len = (size_t)(equals - name->ptr);
        *value = slice_of(equals + 1);
        return OK;
    }
    if (take_action(l, *name)) {
        name->len = 0; /* done with */
        return OK;
    }
    if (!slice_is(*name, "config") && !config_option_find(*name))
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

/* Run twice: the first pass (@apply false) finds what to do and the file, whose values come before
 * the flags'. */
static enum err read_flags(struct config_load *l, int argc, char **argv, bool apply)
{
    for (int at = 1; at < argc;) {
        struct slice name, value;
        char origin[NAME_MAX_LEN + 8];
        enum err e = next_flag(l, argc, argv, &at, &name, &value);
        if (e != OK)
            return e;
        if (name.len == 0 && !value.ptr)
            continue;
        if (slice_is(name, "config")) {
            l->path = value;
            continue;
        }
        const struct config_option *opt = config_option_find(name);
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

static void env_name(const char *option, char out[static NAME_MAX_LEN + 16])
{
    size_t n = sizeof(ENV_PREFIX) - 1, i = 0;
    memcpy(out, ENV_PREFIX, n);
    for (; option[i] && i < NAME_MAX_LEN; i++)
        out[n + i] = option[i] == '.' ? '_' : (char)toupper((unsigned char)option[i]);
    out[n + i] = '\0';
}

static enum err unknown_variable(struct config_load *l, struct slice name)
{
    size_t skip = sizeof(ENV_PREFIX) - 1;
    const char *guess =
        config_load_nearest((struct slice){name.ptr + skip, name.len - skip}, false);
    char known[NAME_MAX_LEN + 16];
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

static enum err read_variable(struct config_load *l, struct slice name, struct slice value)
{
    char known[NAME_MAX_LEN + 16];
    for (size_t i = 0; i < config_option_count; i++) {
        env_name(config_options[i].name, known);
        if (slice_is(name, known))
            return config_load_set(l, &config_options[i], value, known);
    }
    return unknown_variable(l, name);
}

/* As with the flags: the first pass only finds the file. */
static enum err read_environment(struct config_load *l, char **list, bool apply)
{
    for (size_t i = 0; list && list[i]; i++) {
        struct slice entry = slice_of(list[i]);
        const char *equals = memchr(entry.ptr, '=', entry.len);
        if (!equals || !slice_has_prefix(entry, SLICE_LIT(ENV_PREFIX)))
            continue;
        struct slice name = {entry.ptr, (size_t)(equals - entry.ptr)};
        struct slice value = slice_of(equals + 1);
        if (slice_is(name, ENV_PREFIX "CONFIG")) {
            if (!apply && value.len > 0)
                l->path = value;
            continue;
        }
        enum err e = apply ? read_variable(l, name, value) : OK;
        if (e != OK)
            return e;
    }
    return OK;
}

/* --- all together --- */

static uint64_t cores_online(void)
{
    cpu_set_t
        set; /* what this process may use: containers are often given less than the machine has */
    long n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
                                                          : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 64 ? 64 : (uint64_t)n;
}

static void resolve(struct config *c)
{
    struct config_box *box = (struct config_box *)c;
    char host[65] = "";
    struct buf node = {0};
    box->workers_is_default = c->workers == 0;
    if (c->workers == 0)
        c->workers = cores_online();
    box->node_is_default = c->node[0] == '\0';
    if (!box->node_is_default)
        return;
    if (gethostname(host, sizeof(host) - 1) != 0 || config_check_word(host) || host[0] == '\0')
        strcpy(host, "node");
    buf_printf(&node, "%s-%ld", host, (long)getpid());
    free(c->node);
    c->node = buf_take(&node, NULL);
}

static enum err cross_check(struct config_load *l)
{
    const struct config *c = l->config;
    if (c->publish_wait_replicas && !c->publish_timeout_ms) {
        buf_puts(&l->err, "publish.wait_replicas needs a publish.timeout above 0: that is how long "
                          "the replicas are waited for");
        return ERR_INVALID;
    }
    if (c->index_ttl_ms >= c->log_ttl_ms)
        return OK;
    buf_puts(&l->err, "index.ttl=");
    config_value_put_json(&l->err, c, config_option_find(SLICE_LIT("index.ttl")));
    buf_puts(&l->err, " is less than log.ttl=");
    config_value_put_json(&l->err, c, config_option_find(SLICE_LIT("log.ttl")));
    buf_puts(&l->err,
             ": a topic's last id must be remembered at least as long as its events; raise "
             "index.ttl or lower log.ttl");
    return ERR_INVALID;
}

static enum err load_all(struct config_load *l, int argc, char **argv, char **environ_list)
{
    enum err e = read_environment(l, environ_list, false);
    if (e == OK)
        e = read_flags(l, argc, argv, false);
    /* These answer whatever the configuration is. */
    if (e != OK || l->action == CONFIG_HELP || l->action == CONFIG_VERSION ||
        l->action == CONFIG_DOCS)
        return e;
    if (l->path.ptr)
        e = config_load_file(l);
    memset(l->seen, 0, sizeof(l->seen));
    if (e == OK)
        e = read_environment(l, environ_list, true);
    memset(l->seen, 0, sizeof(l->seen));
    if (e == OK)
        e = read_flags(l, argc, argv, true);
    if (e == OK)
        e = cross_check(l);
    return e == OK ? config_secret_load(l->config, &l->err) : e;
}

enum err config_load(int argc, char **argv, char **environ_list, struct config **out,
                     enum config_action *action, char **err_msg)
{
    struct config_load l = {.config = config_new_defaults(), .action = CONFIG_RUN};
    enum err e = load_all(&l, argc, argv, environ_list);
    if (e != OK) {
        config_unref(l.config);
        *err_msg = buf_take(&l.err, NULL);
        return e;
    }
    resolve(l.config);
    buf_reset(&l.err);
    *out = l.config;
    *action = l.action;
    return OK;
}
