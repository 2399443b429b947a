/* SPDX-License-Identifier: Apache-2.0 */
#include "common/redis_url.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/url.h"

enum { PORT_REDIS = 6379, PORT_SENTINEL = 26379 };

/* Percent-decoded. NULL when it is malformed or hides a NUL. */
static char *decode(struct slice s)
{
    char *room = mem_zero(s.len + 1, 1);
    struct slice out;
    if (url_decode(s, URL_PLUS_IS_PLUS, room, &out) == OK && !memchr(out.ptr, '\0', out.len))
        return room;
    free(room);
    return NULL;
}

static enum err parse_db(struct slice s, unsigned *db)
{
    uint64_t n = 0;
    if (s.len && slice_u64(s, 65535, &n))
        return ERR_INVALID;
    *db = (unsigned)n;
    return OK;
}

static enum err parse_unix(struct slice rest, struct redis_url *out)
{
    struct slice path = slice_cut(&rest, '?');
    if (path.len < 2 || path.ptr[0] != '/')
        return ERR_INVALID;
    if (rest.ptr) {
        if (!slice_has_prefix(rest, SLICE_LIT("db=")))
            return ERR_INVALID;
        if (parse_db((struct slice){rest.ptr + 3, rest.len - 3}, &out->db))
            return ERR_INVALID;
    }
    out->path = decode(path);
    return out->path ? OK : ERR_INVALID;
}

static enum err parse_login(struct slice login, struct redis_url *out)
{
    struct slice user = slice_cut(&login, ':');
    if (user.len && !(out->user = decode(user)))
        return ERR_INVALID;
    /* "redis://:@host", of a template, means that there is none. With a user, an empty one is sent:
     * there are users of whom Redis wants none. */
    bool none = !user.len && !login.len;
    if (login.ptr && !none && !(out->password = decode(login)))
        return ERR_INVALID;
    return OK;
}

/* host, host:port, [v6], [v6]:port */
static enum err parse_address(struct slice address, unsigned port, struct redis_address *out)
{
    struct slice host, rest = address;
    uint64_t given = port;
    if (address.len && address.ptr[0] == '[') {
        rest = (struct slice){address.ptr + 1, address.len - 1};
        host = slice_cut(&rest, ']');
        if (!rest.ptr || slice_cut(&rest, ':').len)
            return ERR_INVALID;
    } else {
        host = slice_cut(&rest, ':');
    }
    if (rest.ptr && (slice_u64(rest, 65535, &given) || given == 0))
        return ERR_INVALID;
    out->port = (unsigned)given;
    out->host = host.len ? decode(host) : NULL;
    return out->host ? OK : ERR_INVALID;
}

/* Cuts "user:password@" off. The last @ counts: a password may hold others. */
static enum err take_login(struct slice *authority, struct redis_url *out)
{
    const char *at = memrchr(authority->ptr, '@', authority->len);
    if (!at)
        return OK;
    struct slice login = {authority->ptr, (size_t)(at - authority->ptr)};
    *authority = (struct slice){at + 1, authority->len - login.len - 1};
    return parse_login(login, out);
}

static enum err parse_tcp(struct slice rest, struct redis_url *out)
{
    struct redis_address address = {0};
    struct slice authority = slice_cut(&rest, '/');
    if (parse_db(rest, &out->db) || take_login(&authority, out) ||
        parse_address(authority, PORT_REDIS, &address))
        return ERR_INVALID;
    out->host = address.host;
    out->port = address.port;
    return OK;
}

static enum err parse_sentinel(struct slice rest, struct redis_url *out)
{
    struct slice authority = slice_cut(&rest, '/'), master = slice_cut(&rest, '/');
    if (!master.len || !(out->master = decode(master)) || parse_db(rest, &out->db) ||
        take_login(&authority, out))
        return ERR_INVALID;
    out->sentinels = mem_zero(REDIS_SENTINELS_MAX, sizeof(*out->sentinels));
    while (authority.ptr) {
        struct slice item = slice_cut(&authority, ',');
        if (out->sentinel_count == REDIS_SENTINELS_MAX ||
            parse_address(item, PORT_SENTINEL, &out->sentinels[out->sentinel_count]))
            return ERR_INVALID;
        out->sentinel_count++;
    }
    return OK;
}

static const struct scheme {
    struct slice prefix;
    enum err (*parse)(struct slice rest, struct redis_url *out);
    bool tls;
} schemes[] = {
    {{"redis://", 8}, parse_tcp, false},
    {{"rediss://", 9}, parse_tcp, true},
    {{"unix://", 7}, parse_unix, false},
    {{"redis+sentinel://", 17}, parse_sentinel, false},
    {{"rediss+sentinel://", 18}, parse_sentinel, true},
};

enum err redis_url_parse(const char *text, struct redis_url *out)
{
    struct redis_url url = {0};
    struct slice s = slice_of(text);
    enum err e = ERR_INVALID;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t skip = schemes[i].prefix.len;
        if (!slice_has_prefix(s, schemes[i].prefix))
            continue;
        url.tls = schemes[i].tls;
        e = schemes[i].parse((struct slice){s.ptr + skip, s.len - skip}, &url);
        break;
    }
    if (e)
        redis_url_reset(&url);
    else
        *out = url;
    return e;
}

void redis_url_reset(struct redis_url *url)
{
    for (size_t i = 0; i < url->sentinel_count; i++)
        free(url->sentinels[i].host);
    free(url->sentinels);
    free(url->master);
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
    *url = (struct redis_url){0};
}
