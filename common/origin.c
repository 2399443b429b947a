/* SPDX-License-Identifier: Apache-2.0 */
#include "common/origin.h"

#include <arpa/inet.h>
#include <string.h>

enum { PORT_MAX = 65535, ADDRESS_TEXT_MAX = 64 };

struct authority {
    struct slice name;    /* of an address in brackets without them; else as it came */
    bool is_address;      /* IPv4 or IPv6 */
    unsigned char v6[16]; /* of an address in brackets */
    bool is_v6, has_port; /* an empty port is none */
    uint64_t port;
};

static bool copy_text(struct slice s, char text[static ADDRESS_TEXT_MAX])
{
    if (s.len >= ADDRESS_TEXT_MAX || memchr(s.ptr, '\0', s.len))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    return true;
}

static bool parse_v6(struct slice s, struct authority *out)
{
    char text[ADDRESS_TEXT_MAX];
    out->name = s;
    out->is_v6 = out->is_address = true;
    return copy_text(s, text) && inet_pton(AF_INET6, text, out->v6) == 1;
}

static bool parse_name(struct slice s, struct authority *out)
{
    char text[ADDRESS_TEXT_MAX];
    struct in_addr v4;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && c != '-' && c != '.' && c != '_' && c != '~')
            return false;
    }
    out->name = s;
    out->is_v6 = false;
    out->is_address = copy_text(s, text) && inet_pton(AF_INET, text, &v4) == 1;
    return s.len > 0;
}

static bool parse_port(struct slice s, struct authority *out)
{
    out->has_port = s.len > 0;
    out->port = 0;
    return !s.len || slice_u64(s, PORT_MAX, &out->port) == OK;
}

static bool parse_authority(struct slice s, struct authority *out)
{
    if (!s.len)
        return false;
    if (s.ptr[0] != '[') {
        struct slice name = slice_cut(&s, ':');
        return parse_name(name, out) && parse_port(s, out);
    }
    const char *end = memchr(s.ptr, ']', s.len);
    if (!end)
        return false;
    size_t len = (size_t)(end - s.ptr) - 1;
    struct slice rest = {end + 1, s.len - len - 2};
    if (rest.len && rest.ptr[0] != ':')
        return false;
    if (rest.len)
        rest = (struct slice){rest.ptr + 1, rest.len - 1};
    return parse_v6((struct slice){s.ptr + 1, len}, out) && parse_port(rest, out);
}

bool origin_host_valid(struct slice host)
{
    struct authority parsed;
    return parse_authority(host, &parsed);
}

/* --- origins -----------------------------------------------------------------------------------
 */

static bool eq_nocase(struct slice a, struct slice b)
{
    return a.len == b.len && strncasecmp(a.ptr, b.ptr, a.len) == 0;
}

static bool names_eq(const struct authority *a, const struct authority *b)
{
    if (a->is_v6 || b->is_v6)
        return a->is_v6 && b->is_v6 && memcmp(a->v6, b->v6, sizeof a->v6) == 0;
    return eq_nocase(a->name, b->name);
}

/* 0: it has none. */
static uint64_t default_port(struct slice scheme)
{
    return slice_eq_nocase(scheme, "http") ? 80 : slice_eq_nocase(scheme, "https") ? 443 : 0;
}

bool origin_is_same(struct slice origin, struct slice host)
{
    struct authority ours, theirs;
    const char *mark = origin.ptr ? memmem(origin.ptr, origin.len, "://", 3) : NULL;
    if (!mark)
        return false;
    struct slice scheme = {origin.ptr, (size_t)(mark - origin.ptr)};
    struct slice rest = {mark + 3, origin.len - scheme.len - 3};
    if (!parse_authority(rest, &theirs) || !parse_authority(host, &ours))
        return false;
    uint64_t by_default = default_port(scheme);
    uint64_t theirs_port = theirs.has_port ? theirs.port : by_default;
    uint64_t ours_port = ours.has_port ? ours.port : by_default;
    return theirs_port && theirs_port == ours_port && names_eq(&theirs, &ours);
}

/* --- which hosts are ours ----------------------------------------------------------------------
 */

/* "relay.example." is the same name, written out in full. */
static struct slice without_root(struct slice name)
{
    if (name.len > 1 && name.ptr[name.len - 1] == '.')
        name.len--;
    return name;
}

bool origin_pattern_valid(struct slice pattern)
{
    struct authority parsed;
    if (slice_is(pattern, "*"))
        return true;
    if (slice_has_prefix(pattern, SLICE_LIT("*.")))
        pattern = (struct slice){pattern.ptr + 2, pattern.len - 2};
    return parse_name(pattern, &parsed) && pattern.ptr[0] != '.';
}

static bool pattern_matches(struct slice pattern, struct slice name)
{
    if (slice_is(pattern, "*"))
        return true;
    if (!slice_has_prefix(pattern, SLICE_LIT("*.")))
        return eq_nocase(without_root(pattern), name);
    struct slice tail = without_root((struct slice){pattern.ptr + 1, pattern.len - 1});
    return name.len > tail.len &&
           eq_nocase((struct slice){name.ptr + name.len - tail.len, tail.len}, tail);
}

static bool list_matches(const struct strings *list, struct slice name)
{
    for (size_t i = 0; list && i < list->count; i++)
        if (pattern_matches(slice_of(list->items[i]), name))
            return true;
    return false;
}

bool origin_host_allowed(struct slice host, const struct origin_hosts *hosts)
{
    struct authority asked;
    bool listed = hosts->allowed && hosts->allowed->count;
    if (!host.len || (!listed && hosts->beyond_loopback))
        return true;
    if (!parse_authority(host, &asked))
        return false;
    struct slice name = without_root(asked.name);
    if (asked.is_address || slice_eq_nocase(name, "localhost"))
        return true;
    return list_matches(listed ? hosts->allowed : hosts->own, name);
}
