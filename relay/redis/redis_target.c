/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_target.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/config/config_print.h"
#include "relay/kit/log.h"

static const double CONNECT_TIMEOUT_S = 5.0;
static const double REPLY_TIMEOUT_S = 10.0;
static const double SENTINEL_TIMEOUT_S = 1.5; /* there are others to ask */

/* An option, else what the URL has; NULL: neither. */
static char *pick(const char *option, const char *in_url)
{
    const char *text = option[0] ? option : in_url;
    return text ? mem_dup(text, strlen(text)) : NULL;
}

static void forget_login(struct redis_target *target)
{
    free(target->user);
    free(target->password);
    target->user = target->password = NULL;
}

static struct redis_tls_files tls_files(const struct config *config)
{
    return (struct redis_tls_files){config->redis_ca, config->redis_cert, config->redis_key,
                                    config->redis_tls_name};
}

enum err redis_target_check(const struct config *config, struct buf *why)
{
    struct redis_url url = {0};
    bool wants_tls = redis_url_parse(config->redis, &url) == OK && url.tls; /* it may be memory: */
    redis_url_reset(&url);
    if (!wants_tls)
        return OK;
    if (!redis_tls_is_built_in()) {
        buf_puts(why, "redis=");
        config_print_url(why, config->redis);
        buf_printf(why,
                   " (from %s): this build cannot use TLS to Redis: it needs a hiredis with TLS "
                   "(1.0 or newer, as in Debian 13). Use such a build, or a local TLS tunnel "
                   "(stunnel) and redis:// to that",
                   config->redis_origin);
        return ERR_INVALID;
    }
    struct redis_tls_files files = tls_files(config);
    struct redis_tls *tls = NULL;
    enum err e = redis_tls_new(&files, &tls, why);
    redis_tls_free(tls);
    return e;
}

/* Where the files cannot be used any more, what was read before stays in force. */
static void load_tls(struct redis_target *target, const struct config *config)
{
    struct redis_tls_files files = tls_files(config);
    struct redis_tls *tls;
    struct buf why = {0};
    if (redis_tls_new(&files, &tls, &why) == OK) {
        redis_tls_free(target->tls);
        target->tls = tls;
    } else {
        buf_putc(&why, '\0');
        log_put(LOG_ERROR, "cannot use the certificates for Redis", "error", why.ptr, NULL);
    }
    buf_reset(&why);
}

void redis_target_configure(struct redis_target *target, const struct redis_url *url,
                            const struct config *config)
{
    forget_login(target);
    if (target->quiet) { /* a Sentinel's */
        target->user = pick(config->sentinel_user, NULL);
        target->password = pick(config->sentinel_password, NULL);
    } else {
        target->user = pick(config->redis_user, url->user);
        target->password = pick(config->redis_password, url->password);
    }
    if (url->tls)
        load_tls(target, config);
}

static struct redis_target *target_new(const struct redis_url *url, const struct config *config,
                                       bool sentinel)
{
    struct redis_target *target = mem_zero(1, sizeof(*target));
    TAILQ_INIT(&target->followers);
    target->primary_only = !sentinel;
    target->quiet = sentinel;
    target->tls_only = url->tls;
    target->connect_timeout_s = sentinel ? SENTINEL_TIMEOUT_S : CONNECT_TIMEOUT_S;
    target->reply_timeout_s = sentinel ? SENTINEL_TIMEOUT_S : REPLY_TIMEOUT_S;
    redis_target_configure(target, url, config);
    return target;
}

struct redis_target *redis_target_new(const struct redis_url *url, const struct config *config)
{
    struct redis_target *target = target_new(url, config, false);
    target->host = url->host ? mem_dup(url->host, strlen(url->host)) : NULL;
    target->path = url->path ? mem_dup(url->path, strlen(url->path)) : NULL;
    target->port = url->port;
    target->db = url->db;
    return target;
}

struct redis_target *redis_target_new_sentinel(const struct redis_url *url,
                                               const struct config *config)
{
    return target_new(url, config, true);
}

void redis_target_free(struct redis_target *target)
{
    if (!target)
        return;
    forget_login(target);
    redis_tls_free(target->tls);
    free(target->host);
    free(target->path);
    free(target);
}

bool redis_target_is_known(const struct redis_target *target)
{
    return target->host || target->path;
}

bool redis_target_is_at(const struct redis_target *target, const char *host, unsigned port)
{
    return target->host && target->port == port && strcmp(target->host, host) == 0;
}

static void drop_all(struct redis_target *target, const char *why, bool moved)
{
    struct redis_follower *follower, *next;
    if (target->dropping) /* what one drops may find the next useless */
        return;
    target->dropping = true;
    for (follower = TAILQ_FIRST(&target->followers); follower; follower = next) {
        next = TAILQ_NEXT(follower, link);
        follower->drop(follower->arg, why, moved);
    }
    target->dropping = false;
}

void redis_target_move(struct redis_target *target, const char *host, unsigned port,
                       const char *why)
{
    char *copy = mem_dup(host, strlen(host));
    free(target->host);
    target->host = copy;
    target->port = port;
    drop_all(target, why, true);
}

void redis_target_drop(struct redis_target *target, const char *why)
{
    drop_all(target, why, false);
}
