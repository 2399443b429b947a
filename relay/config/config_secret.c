/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_secret.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "common/redis_url.h"

enum { SECRET_MAX = 4096 };

/* The first line, without its end. */
static enum err read_secret(const char *option, const char *path, char **out, struct buf *why)
{
    char text[SECRET_MAX + 2];
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(text, 1, sizeof(text), file) : 0;
    bool failed = !file || ferror(file);
    int error = errno;
    if (file)
        fclose(file);
    if (failed) {
        buf_printf(why, "%s: cannot read %s: %s", option, path, strerror(error));
        return ERR_IO;
    }
    const char *end = memchr(text, '\n', len);
    len = end ? (size_t)(end - text) : len;
    if (len && text[len - 1] == '\r')
        len--;
    enum err e = OK;
    if (len == 0 || len > SECRET_MAX || memchr(text, '\0', len)) {
        buf_printf(why, "%s: %s: expected a password in the first line: 1 to %d bytes, no NUL",
                   option, path, SECRET_MAX);
        e = ERR_INVALID;
    } else {
        free(*out);
        *out = mem_dup(text, len);
    }
    explicit_bzero(text, sizeof(text));
    return e;
}

static enum err load_one(char **password, const char *path, const char *option, struct buf *why)
{
    if (!path[0])
        return OK;
    if ((*password)[0]) {
        buf_printf(why, "%s and %s_file are both set: one of them is enough", option, option);
        return ERR_INVALID;
    }
    char name[64];
    snprintf(name, sizeof(name), "%s_file", option);
    return read_secret(name, path, password, why);
}

static enum err check_url(const struct config *c, const struct redis_url *url, struct buf *why)
{
    if (url->password && c->redis_password[0]) {
        buf_puts(why,
                 "the password of Redis is set twice: in the URL (redis) and by redis.password "
                 "or redis.password_file");
        return ERR_INVALID;
    }
    if (url->user && c->redis_user[0]) {
        buf_puts(why, "the user of Redis is set twice: in the URL (redis) and by redis.user");
        return ERR_INVALID;
    }
    bool any = c->redis_ca[0] || c->redis_cert[0] || c->redis_key[0] || c->redis_tls_name[0];
    if (any && !url->tls) {
        buf_puts(why,
                 "redis.ca, redis.cert, redis.key and redis.tls_name need TLS: write rediss:// "
                 "in the URL (redis)");
        return ERR_INVALID;
    }
    return OK;
}

enum err config_secret_load(struct config *c, struct buf *why)
{
    enum err e = load_one(&c->redis_password, c->redis_password_file, "redis.password", why);
    if (e == OK)
        e = load_one(&c->sentinel_password, c->sentinel_password_file, "sentinel.password", why);
    return e;
}

enum err config_secret_check(const struct config *c, struct buf *why)
{
    struct redis_url url = {0};
    if (redis_url_parse(c->redis, &url) != OK) /* memory: */
        return OK;
    enum err e = check_url(c, &url, why);
    redis_url_reset(&url);
    return e;
}

bool config_secret_in_url(const char *text)
{
    struct redis_url url = {0};
    bool has = redis_url_parse(text, &url) == OK && url.password && url.password[0];
    redis_url_reset(&url);
    return has;
}
