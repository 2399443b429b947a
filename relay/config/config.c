/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config.h"
#include <assert.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "relay/config/config_bridges.h"
#include "relay/config/config_check.h"
#include "relay/config/config_file.h"
#include "relay/config/config_lanes.h"
#include "relay/config/config_secret.h"
#include "relay/config/config_source.h"
#include "relay/config/config_value.h"
#include "common/mem.h"

/* What config_load() hands out. */
struct config_box {
    struct config config; /* first, so that the pointers convert */
    atomic_uint refs;
};

/* --- life --- */

/* One reference; node and workers are not resolved yet. */
static struct config *new_defaults(void)
{
    struct config_box *box = mem_zero(1, sizeof(*box));
    atomic_init(&box->refs, 1);
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *opt = &config_table[i];
        struct buf why = {0};
        enum err e = config_value_set(&box->config, opt, slice_of(opt->initial), false, &why);
        assert(e == OK && "a default must be valid");
        (void)e;
        buf_reset(&why);
    }
    return &box->config;
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add_explicit(&((struct config_box *)c)->refs, 1, memory_order_relaxed);
    return c;
}

void config_unref(struct config *c)
{
    struct config_box *box = (struct config_box *)c;
    if (!c || atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < config_table_count; i++)
        config_value_free(c, &config_table[i]);
    free(c->redis_origin);
    free(c->explain);
    free(c->lane_rules);
    config_bridges_free(c);
    free(box);
}

/* --- what must fit together --- */

static void put_setting(const struct config *c, const char *name, struct buf *why)
{
    buf_printf(why, "%s=", name);
    config_value_put_json(why, c, config_table_find(slice_of(name)));
}

/* "a=1 is less than b=2: why, and what to do". */
static enum err refuse_pair(const struct config *c, const char *name, const char *is,
                            const char *other, const char *because, struct buf *why)
{
    put_setting(c, name, why);
    buf_printf(why, " is %s than ", is);
    put_setting(c, other, why);
    buf_printf(why, ": %s", because);
    return ERR_INVALID;
}

static enum err refuse_auth(const char *text, struct buf *why)
{
    buf_puts(why, text);
    return ERR_INVALID;
}

bool config_has_auth(const struct config *c)
{
    return c->auth_file[0] || c->auth_key_file[0];
}

/* Half a configuration does not start: who wrote it would think that it guards something. */
static enum err check_auth(const struct config *c, struct buf *why)
{
    bool short_form = c->auth_algs.count || c->auth_issuer[0] || c->auth_audience[0];
    if (c->auth_file[0] && (c->auth_key_file[0] || short_form))
        return refuse_auth(
            "auth.file says everything that auth.key_file, auth.algs, auth.issuer and "
            "auth.audience say: set one or the others",
            why);
    if (c->auth_key_file[0] && !c->auth_algs.count)
        return refuse_auth(
            "auth.key_file needs auth.algs: which algorithms its tokens may be signed "
            "with, such as auth.algs=HS256",
            why);
    if (short_form && !c->auth_key_file[0])
        return refuse_auth("auth.algs, auth.issuer and auth.audience need auth.key_file: what "
                           "tokens are verified with",
                           why);
    if (!config_has_auth(c) && (c->auth_cookie[0] || c->auth_query || c->auth_metrics))
        return refuse_auth("auth.cookie, auth.query and auth.metrics need auth.file or "
                           "auth.key_file: without them nobody is asked for a token",
                           why);
    if (c->auth_cookie[0] && strings_have(&c->cors_origins, SLICE_LIT("*")))
        return refuse_auth(
            "cors.origins=* with auth.cookie would let any page act for whoever looks "
            "at it: list the origins of your own pages",
            why);
    return OK;
}

/* Every rule about several options stands here or below, so that a reload, of which some options
 * take effect and some do not, is held to the same ones as a start. */
static enum err check_together(const struct config *c, struct buf *why)
{
    if (c->publish_wait_replicas && !c->publish_timeout_ms) {
        buf_puts(why, "publish.wait_replicas needs a publish.timeout above 0: that is how long "
                      "the replicas are waited for");
        return ERR_INVALID;
    }
    if (c->heartbeat_ms && c->heartbeat_min_ms > c->heartbeat_ms)
        return refuse_pair(c, "heartbeat.min", "more", "heartbeat",
                           "a client may ask for what lies between them; lower heartbeat.min or "
                           "raise heartbeat",
                           why);
    if (c->flush_min_ms > c->flush_max_ms)
        return refuse_pair(c, "flush.min", "more", "flush.max",
                           "a client may ask for what lies between them", why);
    if (c->index_ttl_ms < c->log_ttl_ms)
        return refuse_pair(c, "index.ttl", "less", "log.ttl",
                           "a topic's last id must be remembered at least as long as its events; "
                           "raise index.ttl or lower log.ttl",
                           why);
    if (check_auth(c, why) || config_bridges_fit(c, why))
        return ERR_INVALID;
    return config_secret_check(c, why);
}

/* --- reload --- */

static void put_restart(const struct config *running, const struct config *fresh, struct buf *list)
{
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *opt = &config_table[i];
        if (opt->reloadable || config_value_equal(running, fresh, opt))
            continue;
        if (list->len > 0)
            buf_puts(list, ", ");
        buf_puts(list, opt->name);
    }
}

enum err config_merge_reload(const struct config *running, const struct config *fresh,
                             struct config **out, struct buf *needs_restart, struct buf *why)
{
    struct config *merged = new_defaults();
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *opt = &config_table[i];
        config_value_copy(merged, opt->reloadable ? fresh : running, opt);
    }
    merged->node_is_default = running->node_is_default;
    merged->workers_is_default = running->workers_is_default;
    if (running->redis_origin)
        merged->redis_origin = slice_dup(slice_of(running->redis_origin));
    put_restart(running, fresh, needs_restart);
    enum err e = check_together(merged, why);
    if (e != OK) {
        config_unref(merged);
        return e;
    }
    config_lanes_read(merged);
    config_bridges_read(merged);
    *out = merged;
    return OK;
}

/* --- loading --- */

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
    char host[65] = "";
    struct buf node = {0};
    c->workers_is_default = c->workers == 0;
    if (c->workers == 0)
        c->workers = cores_online();
    c->node_is_default = c->node[0] == '\0';
    if (!c->node_is_default)
        return;
    if (gethostname(host, sizeof(host) - 1) != 0 || config_check_word(host) || host[0] == '\0')
        strcpy(host, "node");
    buf_printf(&node, "%s-%ld", host, (long)getpid());
    free(c->node);
    c->node = buf_take(&node, NULL);
}

static enum err load_all(struct config_loader *l, int argc, char **argv, char **environ_list)
{
    enum err e = config_source_environment(l, environ_list, false);
    if (e == OK)
        e = config_source_flags(l, argc, argv, false);
    /* These answer whatever the configuration is. */
    if (e != OK || l->action == CONFIG_HELP || l->action == CONFIG_VERSION ||
        l->action == CONFIG_DOCS)
        return e;
    if (l->path.ptr)
        e = config_file_apply(l);
    memset(l->seen, 0, sizeof(l->seen));
    if (e == OK)
        e = config_source_environment(l, environ_list, true);
    memset(l->seen, 0, sizeof(l->seen));
    if (e == OK)
        e = config_source_flags(l, argc, argv, true);
    if (e == OK)
        e = config_secret_load(l->config, &l->err);
    return e == OK ? check_together(l->config, &l->err) : e;
}

enum err config_load(int argc, char **argv, char **environ_list, struct config **out,
                     enum config_action *action, char **err_msg)
{
    struct config_loader l = {.config = new_defaults(), .action = CONFIG_RUN};
    enum err e = load_all(&l, argc, argv, environ_list);
    if (e != OK) {
        config_unref(l.config);
        *err_msg = buf_take(&l.err, NULL);
        return e;
    }
    resolve(l.config);
    config_lanes_read(l.config);
    config_bridges_read(l.config);
    buf_reset(&l.err);
    *out = l.config;
    *action = l.action;
    return OK;
}
