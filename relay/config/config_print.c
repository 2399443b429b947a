/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_print.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "common/json.h"
#include "relay/config/config_value.h"

static const char *default_text(const struct config_option *opt)
{
    if (opt->described)
        return opt->described;
    return opt->initial[0] ? opt->initial : "none";
}

void config_print_help(struct buf *b)
{
    const char *group = "";
    buf_puts(
        b, "Usage: sse-relay [--config FILE] [--KEY VALUE ...]\n"
           "\n"
           "Streams events from Redis to browsers and services as Server-Sent Events.\n"
           "\n"
           "  --config FILE     read a JSON file (// and /* */ comments are allowed)\n"
           "  --check-config    say whether the configuration and the auth file are good, and end\n"
           "  --explain TOKEN   print what a token or key would get, and why, and end; with -\n"
           "                    it is read from standard input, and stands in no process list\n"
           "  --print-config    print the configuration in effect as such a file, and end\n"
           "  --version         print the version, and end\n"
           "  --help            print this, and end\n");
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *opt = &config_table[i];
        if (strcmp(group, opt->group) != 0)
            buf_printf(b, "\n%s\n", opt->group);
        group = opt->group;
        buf_printf(b, "  --%s%s\n      %s.\n      Default: %s; allowed: ", opt->name,
                   opt->type == CONFIG_STRINGS ? " (repeatable)" : "", opt->help,
                   default_text(opt));
        config_value_put_allowed(b, opt);
        buf_puts(b, ".\n");
    }
    buf_puts(
        b, "\n"
           "Values come from, the first wins: flags (--log.ttl 2h or --log.ttl=2h), the\n"
           "environment (SSE_RELAY_LOG_TTL=2h: SSE_RELAY_ and the key in capitals, dots become\n"
           "underscores, commas separate lists; SSE_RELAY_CONFIG names the file), the file\n"
           "({\"log\": {\"ttl\": \"2h\"}} or {\"log.ttl\": \"2h\"}), the defaults.\n"
           "Durations: 250ms, 15s, 10m, 1h, 7d. Sizes: 4096, 64KB, 1MB, 1GB.\n"
           "SIGTERM drains and ends; again ends at once. SIGHUP reads the file again.\n"
           "\n"
           "Exit codes: 0 ended as asked, 1 failed while running or the token of --explain is not\n"
           "accepted, 2 bad usage or configuration.\n"
           "\n"
           "Example:\n"
           "  sse-relay --listen 0.0.0.0:8080 --redis redis://10.0.0.5:6379/0 --heartbeat 20s\n"
           "  curl -N 'http://127.0.0.1:8080/events?topic=orders.*'\n");
}

static void put_env_name(struct buf *b, const char *name)
{
    buf_puts(b, "SSE_RELAY_");
    for (; *name; name++)
        buf_putc(b, *name == '.' ? '_' : (char)toupper((unsigned char)*name));
}

/* Text in a Markdown table cell: a bar would end it, and * would set it in italics. */
static void put_cell(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (strchr("|*<>[]_", *text))
            buf_putc(b, '\\');
        buf_putc(b, *text);
    }
}

void config_print_docs(struct buf *b)
{
    buf_puts(b, "| key | environment | default | allowed | SIGHUP | what |\n"
                "|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *opt = &config_table[i];
        struct buf allowed = {0};
        bool literal = !opt->described && opt->initial[0];
        config_value_put_allowed(&allowed, opt);
        buf_putc(&allowed, '\0');
        buf_printf(b, "| `%s` | `", opt->name);
        put_env_name(b, opt->name);
        buf_printf(b, "` | %s%s%s | ", literal ? "`" : "", default_text(opt), literal ? "`" : "");
        put_cell(b, allowed.ptr);
        buf_printf(b, " | %s | ", opt->reloadable ? "yes" : "restart");
        put_cell(b, opt->help);
        buf_puts(b, opt->type == CONFIG_STRINGS ? " (list) |\n" : " |\n");
        buf_reset(&allowed);
    }
}

/* What came from a file is not an option's value. */
static void put_secret(struct buf *b, const struct config *c, const struct config_option *opt)
{
    bool redis = opt->offset == offsetof(struct config, redis_password);
    const char *file = redis ? c->redis_password_file : c->sentinel_password_file;
    const char *value = *(char *const *)config_table_field(c, opt);
    buf_puts(b, value[0] && !file[0] ? "\"***\"" : "\"\"");
}

static void put_file_value(struct buf *b, const struct config *c, const struct config_option *opt)
{
    if (opt->offset == offsetof(struct config, node) && c->node_is_default) {
        buf_puts(b, "\"\"");
    } else if (opt->offset == offsetof(struct config, workers) && c->workers_is_default) {
        buf_putc(b, '0');
    } else if (opt->offset == offsetof(struct config, redis)) {
        struct buf url = {0};
        config_print_url(&url, c->redis);
        json_put_string(b, buf_slice(&url));
        buf_reset(&url);
    } else if (opt->secret) {
        put_secret(b, c, opt);
    } else {
        config_value_put_json(b, c, opt);
    }
}

void config_print_file(struct buf *b, const struct config *c)
{
    const char *group = "";
    buf_puts(b, "// Configuration of sse-relay: JSON with comments. A flag --KEY or a variable "
                "SSE_RELAY_KEY\n// beats what stands here. \"log.ttl\": \"1h\" and "
                "\"log\": {\"ttl\": \"1h\"} are the same.\n{\n");
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *opt = &config_table[i];
        if (strcmp(group, opt->group) != 0)
            buf_printf(b, "%s    // --- %s ---\n", i > 0 ? "\n" : "", opt->group);
        group = opt->group;
        buf_printf(b, "    // %s. Default: %s; allowed: ", opt->help, default_text(opt));
        config_value_put_allowed(b, opt);
        buf_printf(b, "\n    \"%s\": ", opt->name);
        put_file_value(b, c, opt);
        buf_puts(b, i + 1 < config_table_count ? ",\n" : "\n");
    }
    buf_puts(b, "}\n");
}

void config_print_url(struct buf *b, const char *url)
{
    const char *user = strstr(url, "://");
    const char *at = strrchr(url, '@'); /* the last: a password may hold others */
    user = user ? user + 3 : url;
    const char *colon = at && at > user ? memchr(user, ':', (size_t)(at - user)) : NULL;
    if (!colon) {
        buf_puts(b, url);
        return;
    }
    buf_put(b, url, (size_t)(colon - url) + 1);
    buf_puts(b, "***");
    buf_puts(b, at);
}
