/* SPDX-License-Identifier: Apache-2.0 */
/* sse-relay: streams events from Redis to browsers and services as Server-Sent Events.
 * docs/architecture.md is the tour. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/hash.h"
#include "relay/auth/auth.h"
#include "relay/config/config_print.h"
#include "relay/hub.h"
#include "relay/kit/log.h"
#include "relay/redis/redis_target.h"

enum { EXIT_RUN_FAILED = 1, EXIT_USAGE = 2 };

extern char **environ;

struct command_line {
    int argc;
    char **argv;
};

/* The auth file and its keys. On an error *why (caller frees) is a sentence. *auth: one reference,
 * or NULL. */
static enum err load_auth(const struct config *config, struct auth **auth, struct buf *warnings,
                          char **why)
{
    struct buf wrong = {0};
    enum err e = auth_load(config, auth, &wrong, warnings);
    if (e)
        *why = buf_take(&wrong, NULL);
    buf_reset(&wrong);
    return e;
}

/* On an error *why (caller frees) is a sentence. */
static enum err check_target(const struct config *config, char **why)
{
    struct buf wrong = {0};
    enum err e = redis_target_check(config, &wrong);
    if (e)
        *why = buf_take(&wrong, NULL);
    buf_reset(&wrong);
    return e;
}

/* The same at the start and at each SIGHUP. On an error *why (caller frees) is a sentence. */
static enum err load(const struct command_line *line, struct config **out,
                     enum config_action *action, char **why)
{
    struct config *config;
    enum err e = config_load(line->argc, line->argv, environ, &config, action, why);
    if (e)
        return e;
    e = check_target(config, why);
    if (e)
        config_unref(config);
    else
        *out = config;
    return e;
}

/* @fresh is valid, so a start would take it; but not all of it can take effect without one, and
 * what does must be valid with what stays. */
static enum err merge(const struct config *running, const struct config *fresh, struct config **out,
                      struct buf *needs_restart, char **why)
{
    struct buf wrong = {0};
    struct config *merged;
    enum err e = config_merge_reload(running, fresh, &merged, needs_restart, &wrong);
    if (e) {
        *why = buf_take(&wrong, NULL);
        return e;
    }
    e = check_target(merged, why);
    if (e)
        config_unref(merged);
    else
        *out = merged;
    return e;
}

/* The same sources as at the start. */
static struct config *reload(void *arg, const struct config *running, struct buf *needs_restart)
{
    struct config *fresh = NULL, *merged = NULL;
    enum config_action action;
    char *why = NULL;
    if (load(arg, &fresh, &action, &why)) {
        log_put(LOG_ERROR, "the configuration was not read again: it has an error", "error", why,
                NULL);
    } else if (merge(running, fresh, &merged, needs_restart, &why)) {
        buf_putc(needs_restart, '\0');
        log_put(LOG_ERROR,
                "the configuration was not read again: it needs a restart to be valid as a whole",
                "error", why, "needs_restart", needs_restart->ptr, NULL);
    }
    config_unref(fresh);
    free(why);
    return merged;
}

static int print(struct buf *text)
{
    size_t done = fwrite(text->ptr, 1, text->len, stdout);
    int rc = done == text->len && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_RUN_FAILED;
    buf_reset(text);
    return rc;
}

static int run(struct config *config, struct command_line *line)
{
    struct hub *hub;
    log_setup(config->logging_level, config->logging_format);
    struct buf url = {0};
    config_print_url(&url, config->redis);
    buf_putc(&url, '\0');
    log_put(LOG_INFO, "starting", "version", SSE_RELAY_VERSION, "node", config->node, "redis",
            url.ptr, NULL);
    buf_reset(&url);
    if (config->password_on_command_line)
        log_put(LOG_WARN, "a password stands on the command line, where every user can read it",
                "hint",
                "use redis.password_file, or SSE_RELAY_REDIS_PASSWORD in the environment; "
                "sentinel.password_file for Sentinels",
                NULL);
    if (hub_new(config, SSE_RELAY_VERSION, reload, line, &hub))
        return EXIT_RUN_FAILED;
    hub_run(hub);
    hub_free(hub);
    return EXIT_SUCCESS;
}

static int refuse_usage(char *why)
{
    fprintf(stderr, "sse-relay: %s\n", why);
    free(why);
    return EXIT_USAGE;
}

static int check(const struct config *config)
{
    struct buf text = {0}, warnings = {0};
    struct auth *auth;
    char *why;
    enum err e = load_auth(config, &auth, &warnings, &why);
    struct slice rest = buf_slice(&warnings);
    while (rest.len > 0) {
        struct slice warning = slice_cut(&rest, '\n');
        fprintf(stderr, "sse-relay: warning: %.*s\n", (int)warning.len, warning.ptr);
    }
    buf_reset(&warnings);
    if (e)
        return refuse_usage(why);
    auth_unref(auth);
    buf_puts(&text, "the configuration is valid\n");
    return print(&text);
}

enum { TOKEN_MAX = 16384 }; /* more than any token that is taken */

/* Without what stands around it: white space. */
static char *read_token(void)
{
    char text[TOKEN_MAX + 1];
    size_t len = fread(text, 1, TOKEN_MAX, stdin), from = 0;
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    while (from < len && strchr(" \t\r\n", text[from]))
        from++;
    char *token = slice_dup((struct slice){text + from, len - from});
    explicit_bzero(text, sizeof(text));
    return token;
}

static int explain(const struct config *config)
{
    struct buf text = {0};
    struct auth *auth;
    char *why;
    if (load_auth(config, &auth, NULL, &why))
        return refuse_usage(why);
    if (!auth)
        return refuse_usage(strdup("--explain needs auth.file or auth.key_file"));
    char *token = strcmp(config->explain, "-") == 0 ? read_token() : strdup(config->explain);
    bool accepted = auth_explain(auth, slice_of(token), clock_wall_us() / 1000000, &text);
    free(token);
    auth_unref(auth);
    int rc = print(&text);
    return rc == EXIT_SUCCESS && !accepted ? EXIT_RUN_FAILED : rc;
}

static int act(enum config_action action, struct config *config, struct command_line *line)
{
    struct buf text = {0};
    switch (action) {
    case CONFIG_RUN:
        return run(config, line);
    case CONFIG_CHECK:
        return check(config);
    case CONFIG_EXPLAIN:
        return explain(config);
    case CONFIG_PRINT:
        config_print_file(&text, config);
        break;
    case CONFIG_HELP:
        config_print_help(&text);
        break;
    case CONFIG_VERSION:
        buf_puts(&text, "sse-relay " SSE_RELAY_VERSION "\n");
        break;
    case CONFIG_DOCS:
        config_print_docs(&text);
        break;
    }
    return print(&text);
}

int main(int argc, char **argv)
{
    struct command_line line = {argc, argv};
    struct config *config = NULL;
    enum config_action action;
    char *why = NULL;
    signal(SIGPIPE, SIG_IGN);
    hash_seed_init();
    if (load(&line, &config, &action, &why))
        return refuse_usage(why);
    int rc = act(action, config, &line);
    config_unref(config);
    return rc;
}
