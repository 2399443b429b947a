/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_check.h"
#include <arpa/inet.h>
#include <string.h>
#include "common/names.h"
#include "common/origin.h"
#include "common/redis_url.h"
#include "relay/config/config_lanes.h"

static bool all_of(struct slice s, const char *also)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && (c == '\0' || !strchr(also, c)))
            return false;
    }
    return s.len > 0;
}

static bool ipv6_valid(struct slice s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    if (s.len >= sizeof(text))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    return inet_pton(AF_INET6, text, &addr) == 1;
}

/* Splits "host:port", "host" or "[v6]:port"; *port is SLICE_NONE where there is none. */
static bool host_split(struct slice s, struct slice *port)
{
    size_t host_len = s.len;
    *port = SLICE_NONE;
    if (s.len > 0 && s.ptr[0] == '[') {
        const char *end = memchr(s.ptr, ']', s.len);
        if (!end || !ipv6_valid((struct slice){s.ptr + 1, (size_t)(end - s.ptr) - 1}))
            return false;
        host_len = (size_t)(end - s.ptr) + 1;
        if (host_len < s.len && s.ptr[host_len] != ':')
            return false;
    } else {
        const char *colon = memchr(s.ptr, ':', s.len);
        host_len = colon ? (size_t)(colon - s.ptr) : s.len;
        if (!all_of((struct slice){s.ptr, host_len}, ".-_"))
            return false;
    }
    if (host_len < s.len)
        *port = (struct slice){s.ptr + host_len + 1, s.len - host_len - 1};
    return true;
}

static bool port_valid(struct slice port, uint64_t least)
{
    uint64_t n;
    return slice_u64(port, 65535, &n) == OK && n >= least;
}

const char *config_check_listen(const char *item)
{
    struct slice port;
    if (!host_split(slice_of(item), &port) || !port.ptr)
        return "expected host:port, such as 127.0.0.1:8080, 0.0.0.0:80 or [::]:8080";
    if (!port_valid(port, 0))
        return "expected a port from 0 (any free one) to 65535 after the last colon";
    return NULL;
}

const char *config_check_redis(const char *item)
{
    struct slice url = slice_of(item);
    struct redis_url parts = {0};
    if (slice_has_control(url) || strchr(item, ' '))
        return "expected a URL without spaces or control characters";
    if (slice_is(url, "memory:"))
        return NULL;
    enum err e = redis_url_parse(item, &parts);
    redis_url_reset(&parts);
    if (e == OK)
        return NULL;
    if (slice_has_prefix(url, SLICE_LIT("redis://")))
        return "expected redis://[user:password@]host[:port][/db], with a port from 1 to 65535, "
               "the number of a database, and @ : / % in a password written as %40 %3A %2F %25";
    if (strstr(item, "+sentinel://"))
        return "expected redis+sentinel://[user:password@]host[:port][,host[:port]...]/master-name"
               "[/db], with at most 32 Sentinels";
    return "expected redis://[user:password@]host[:port][/db], rediss:// for TLS, unix:///path, "
           "redis+sentinel://host:port,host:port/name[/db] or memory:";
}

const char *config_check_secret(const char *item)
{
    return strpbrk(item, "\r\n") ? "expected one line" : NULL;
}

const char *config_check_prefix(const char *item)
{
    return name_prefix_valid(slice_of(item)) ? NULL
                                             : "expected 1 to 64 characters of A-Z a-z 0-9 _ . : -";
}

const char *config_check_origin(const char *item)
{
    static const char *const wrong = "expected * or origins such as https://app.example.org or "
                                     "http://localhost:3000, without a path or a final slash";
    const char *sep = strstr(item, "://");
    struct slice port;
    if (slice_is(slice_of(item), "*"))
        return NULL;
    if (!sep || !all_of((struct slice){item, (size_t)(sep - item)}, "+.-"))
        return wrong;
    if (!host_split(slice_of(sep + 3), &port) || (port.ptr && !port_valid(port, 1)))
        return wrong;
    for (const char *p = item; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            return "expected lower case, as browsers send origins";
    return NULL;
}

const char *config_check_header(const char *item)
{
    struct slice name = slice_of(item);
    return name.len <= 64 && all_of(name, "!#$%&'+-.^_`|~")
               ? NULL
               : "expected names of headers, of up to 64 characters each";
}

const char *config_check_host(const char *item)
{
    return origin_pattern_valid(slice_of(item))
               ? NULL
               : "expected names such as relay.example.org, *.example.org or *, without a port";
}

const char *config_check_namespace(const char *item)
{
    return name_ns_valid(slice_of(item)) ? NULL
                                         : "expected 1 to 64 characters of A-Z a-z 0-9 _ - each";
}

const char *config_check_pattern(const char *item)
{
    return name_pattern_valid(slice_of(item)) ? NULL
                                              : "expected topics, in which * stands for one token "
                                                "and a final > for one or more";
}

const char *config_check_type(const char *item)
{
    struct slice type = slice_of(item);
    if (slice_is(type, "other"))
        return "expected types of events; other is what all that are not listed count as";
    return type.len && type.len <= 256 && slice_utf8_valid(type) && !slice_has_control(type)
               ? NULL
               : "expected types of events, of 1 to 256 bytes of UTF-8 without control characters";
}

const char *config_check_lane(const char *item)
{
    struct config_lane rule;
    return config_lanes_parse(slice_of(item), &rule) == OK
               ? NULL
               : "expected a topic or pattern, = and one of instant, batched, coalesced, appended";
}

const char *const config_check_slow_words[] = {"block", "drop-oldest", "drop-newest", "disconnect",
                                               NULL};

const char *config_check_slow(const char *item)
{
    for (size_t i = 0; config_check_slow_words[i]; i++)
        if (strcmp(item, config_check_slow_words[i]) == 0)
            return NULL;
    return "expected block, drop-oldest, drop-newest or disconnect";
}

const char *config_check_printable(const char *item)
{
    if (!slice_utf8_valid(slice_of(item)))
        return "expected valid UTF-8";
    return slice_has_control(slice_of(item)) ? "expected text without control characters" : NULL;
}

const char *config_check_word(const char *item)
{
    for (const char *p = item; *p; p++)
        if (*p <= ' ' || *p >= 0x7f)
            return "expected printable ASCII characters without spaces";
    return NULL;
}

const char *config_check_alg(const char *item)
{
    static const char *const known[] = {"HS256", "HS384", "HS512", "RS256", "RS384",
                                        "RS512", "PS256", "PS384", "PS512", "ES256",
                                        "ES384", "ES512", "EdDSA"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(item, known[i]) == 0)
            return NULL;
    return "expected " CONFIG_ALGS;
}

const char *config_check_cookie(const char *item)
{
    return item[0] && config_check_header(item) ? "expected the name of a cookie" : NULL;
}
