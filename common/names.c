/* SPDX-License-Identifier: Apache-2.0 */
#include "common/names.h"
#include <string.h>

static bool is_word(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

bool name_ns_valid(struct slice ns)
{
    if (ns.len < 1 || ns.len > NAME_NS_MAX)
        return false;
    for (size_t i = 0; i < ns.len; i++)
        if (!is_word(ns.ptr[i]))
            return false;
    return true;
}

bool name_prefix_valid(struct slice p)
{
    if (p.len < 1 || p.len > 64)
        return false;
    for (size_t i = 0; i < p.len; i++)
        if (!is_word(p.ptr[i]) && p.ptr[i] != '.' && p.ptr[i] != ':')
            return false;
    return true;
}

/* @last: no token follows. Empty tokens are never valid. */
static bool token_valid(struct slice token, bool last, bool wildcards)
{
    if (token.len == 0)
        return false;
    if (wildcards && (slice_is(token, "*") || (last && slice_is(token, ">"))))
        return true;
    return memchr(token.ptr, '*', token.len) == NULL && memchr(token.ptr, '>', token.len) == NULL;
}

static bool name_valid(struct slice name, bool wildcards)
{
    if (name.len < 1 || name.len > NAME_TOPIC_MAX || slice_has_control(name) ||
        memchr(name.ptr, ' ', name.len) || !slice_utf8_valid(name))
        return false;
    while (name.ptr) {
        struct slice token = slice_cut(&name, '.');
        if (!token_valid(token, !name.ptr, wildcards))
            return false;
    }
    return true;
}

bool name_topic_valid(struct slice topic)
{
    return name_valid(topic, false);
}

bool name_pattern_valid(struct slice pattern)
{
    return name_valid(pattern, true);
}

bool name_is_pattern(struct slice valid_pattern)
{
    /* In a valid name these two are whole tokens or absent. */
    return memchr(valid_pattern.ptr, '*', valid_pattern.len) != NULL ||
           valid_pattern.ptr[valid_pattern.len - 1] == '>';
}

void name_put_lookup(struct buf *b, struct slice ns, struct slice name)
{
    buf_reserve(b, ns.len + name.len + 2); /* all at once, with room for a NUL behind it */
    buf_put_slice(b, ns);
    buf_putc(b, '\0');
    buf_put_slice(b, name);
}

void name_put_key(struct buf *b, const char *prefix, struct slice ns)
{
    buf_puts(b, prefix);
    buf_put(b, ":{", 2);
    buf_put_slice(b, ns);
    buf_putc(b, '}');
}

void name_put_log(struct buf *b, const char *prefix, struct slice ns, struct slice topic)
{
    name_put_key(b, prefix, ns);
    buf_put(b, ":log:", 5);
    buf_put_slice(b, topic);
}

void name_put_channel(struct buf *b, const char *prefix, struct slice ns, struct slice topic)
{
    name_put_key(b, prefix, ns);
    buf_put(b, ":ch:", 4);
    buf_put_slice(b, topic);
}

void name_put_revoked(struct buf *b, const char *prefix, struct slice ns)
{
    name_put_key(b, prefix, ns);
    buf_put(b, ":revoked", 8);
}

void name_put_to(struct buf *b, const char *prefix, struct slice ns, struct slice tag)
{
    name_put_key(b, prefix, ns);
    buf_put(b, ":to:", 4);
    buf_put_slice(b, tag);
}

void name_put_node(struct buf *b, const char *prefix, struct slice tag)
{
    buf_puts(b, prefix);
    buf_put(b, ":node:", 6);
    buf_put_slice(b, tag);
}

void name_put_bridge(struct buf *b, struct slice group, struct slice stream)
{
    buf_puts(b, "bridge:");
    for (size_t i = 0; i < group.len; i++) {
        if (group.ptr[i] == ':' || group.ptr[i] == '%')
            buf_puts(b, group.ptr[i] == ':' ? "%3A" : "%25");
        else
            buf_putc(b, group.ptr[i]);
    }
    buf_putc(b, ':');
    buf_put_slice(b, stream);
}

bool name_is_own(struct slice name, const char *prefix)
{
    static const struct slice kinds[] = {SLICE_LIT(":{"), SLICE_LIT(":node:"), SLICE_LIT(":probe:"),
                                         SLICE_LIT(":bridge:")};
    struct slice head = slice_of(prefix);
    if (!slice_has_prefix(name, head))
        return false;
    struct slice rest = {name.ptr + head.len, name.len - head.len};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (slice_has_prefix(rest, kinds[i]))
            return true;
    return false;
}

/* Redis's stringmatchlen() knows * ? [ and \. The other characters of its language (] ^ -) mean
 * something only after an open [, which is escaped, so they stay as they are. Prefix and namespace
 * hold none of them. */
void name_put_glob(struct buf *b, const char *prefix, struct slice ns, struct slice pattern)
{
    name_put_channel(b, prefix, ns, (struct slice){"", 0});
    for (size_t i = 0; i < pattern.len; i++) {
        char c = pattern.ptr[i];
        if (c == '?' || c == '[' || c == '\\')
            buf_putc(b, '\\');
        /* A valid pattern has > only as its last token. */
        buf_putc(b, c == '>' ? '*' : c);
    }
}

enum err name_split_channel(struct slice channel, const char *prefix, struct slice *ns,
                            struct slice *topic)
{
    struct slice head = slice_of(prefix), name;
    if (!slice_has_prefix(channel, head))
        return ERR_INVALID;
    name = (struct slice){channel.ptr + head.len, channel.len - head.len};
    if (!slice_has_prefix(name, SLICE_LIT(":{")))
        return ERR_INVALID;
    name = (struct slice){name.ptr + 2, name.len - 2};
    struct slice space = slice_cut(&name, '}');
    if (!slice_has_prefix(name, SLICE_LIT(":ch:")))
        return ERR_INVALID;
    name = (struct slice){name.ptr + 4, name.len - 4};
    if (!name_ns_valid(space) || !name_topic_valid(name))
        return ERR_INVALID;
    *ns = space;
    *topic = name;
    return OK;
}
