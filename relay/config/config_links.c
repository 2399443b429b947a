/* SPDX-License-Identifier: Apache-2.0 */
/* With X for the Service's name in capitals, its own for the sse-relay and one for each that is
 * called sse-relay-something (Kubernetes: "Accessing the Service", environment variables; Docker:
 * "Legacy container links"):
 *
 *     X_SERVICE_HOST, X_SERVICE_PORT, X_SERVICE_PORT_<NAME>
 *     X_PORT, X_PORT_<number>_<protocol>, and that with _PROTO, _PORT, _ADDR
 *     X_NAME, X_ENV_<any>: of Docker's only */
#include "relay/config/config_links.h"

#include <arpa/inet.h>
#include <string.h>

/* --- values ---------------------------------------------------------------------------------- */

static bool is_number(struct slice s)
{
    uint64_t n;
    return slice_u64(s, 65535, &n) == OK;
}

static bool is_protocol(struct slice s)
{
    return slice_eq_nocase(s, "tcp") || slice_eq_nocase(s, "udp") || slice_eq_nocase(s, "sctp");
}

static bool is_address(struct slice s)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char bytes[sizeof(struct in6_addr)];
    if (s.len >= sizeof(text))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* tcp://10.96.0.11:8080, which is no value of any option. */
static bool is_url(struct slice s)
{
    const char *colon = s.len ? memchr(s.ptr, ':', s.len) : NULL;
    size_t len = colon ? (size_t)(colon - s.ptr) : 0;
    struct slice rest = {s.ptr + len, s.len - len};
    return is_protocol((struct slice){s.ptr, len}) && slice_has_prefix(rest, SLICE_LIT("://"));
}

/* /web/sse-relay: the container, and what it calls the other. */
static bool is_link(struct slice s)
{
    const char *slash = s.len > 2 && s.ptr[0] == '/' ? memchr(s.ptr + 2, '/', s.len - 2) : NULL;
    return slash && slash + 1 < s.ptr + s.len;
}

/* --- names ----------------------------------------------------------------------------------- */

/* Where @word stands as the last of the words between underscores, cuts it off *s, with the
 * underscore before it. */
static bool cut_last(struct slice *s, struct slice word)
{
    if (s->len < word.len || memcmp(s->ptr + s->len - word.len, word.ptr, word.len) != 0)
        return false;
    size_t rest = s->len - word.len;
    if (rest && s->ptr[rest - 1] != '_')
        return false;
    s->len = rest ? rest - 1 : 0;
    return true;
}

/* The last word, whatever it is; "" where there is none. */
static struct slice take_last(struct slice *s)
{
    size_t from = s->len;
    while (from && s->ptr[from - 1] != '_')
        from--;
    struct slice word = {s->ptr + from, s->len - from};
    s->len = from ? from - 1 : 0;
    return word;
}

/* PORT_8080_TCP */
static bool cut_port(struct slice *name)
{
    struct slice s = *name;
    if (!is_protocol(take_last(&s)) || !is_number(take_last(&s)) ||
        !cut_last(&s, SLICE_LIT("PORT")))
        return false;
    *name = s;
    return true;
}

static bool is_port(struct slice name, struct slice value)
{
    struct slice s = name;
    if (cut_port(&s))
        return is_url(value);
    if (cut_last(&s, SLICE_LIT("PROTO")))
        return cut_port(&s) && is_protocol(value);
    if (cut_last(&s, SLICE_LIT("ADDR")))
        return cut_port(&s) && is_address(value);
    if (!cut_last(&s, SLICE_LIT("PORT")))
        return false;
    return cut_port(&s) ? is_number(value) : is_url(value);
}

/* Where @words (with an underscore on each side) stand in "_<name>". */
static const char *find_words(struct slice name, struct slice words)
{
    if (slice_has_prefix(name, (struct slice){words.ptr + 1, words.len - 1}))
        return name.ptr;
    const char *at = name.len ? memmem(name.ptr, name.len, words.ptr, words.len) : NULL;
    return at ? at + 1 : NULL;
}

static bool is_service(struct slice name, struct slice value)
{
    struct slice s = name;
    if (cut_last(&s, SLICE_LIT("SERVICE_HOST")))
        return is_address(value);
    bool port =
        cut_last(&s, SLICE_LIT("SERVICE_PORT")) || find_words(name, SLICE_LIT("_SERVICE_PORT_"));
    return port && is_number(value);
}

/* Docker never sets X_ENV_… without X_NAME, by whose value it is known. */
static bool has_link(struct slice alias, char *const *list)
{
    for (size_t i = 0; list && list[i]; i++) {
        struct slice value = slice_of(list[i]), name = slice_cut(&value, '=');
        if (value.ptr && slice_has_prefix(name, alias) && name.len == alias.len + 4 &&
            memcmp(name.ptr + alias.len, "NAME", 4) == 0 && is_link(value))
            return true;
    }
    return false;
}

bool config_links_has(struct slice name, size_t skip, struct slice value, char *const *list)
{
    struct slice rest = {name.ptr + skip, name.len - skip}, s = rest;
    if (is_port(rest, value) || is_service(rest, value))
        return true;
    if (cut_last(&s, SLICE_LIT("NAME")))
        return is_link(value);
    const char *env = find_words(rest, SLICE_LIT("_ENV_"));
    return env && has_link((struct slice){name.ptr, (size_t)(env - name.ptr)}, list);
}
