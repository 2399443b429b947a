/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"
#include "common/mem.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add_one(struct address_list *list, const void *sa, socklen_t len, const char **error)
{
    if (list->count == ADDRESS_MAX) {
        *error = "too many addresses";
        return false;
    }
    list->items = mem_resize(list->items, (list->count + 1) * sizeof *list->items);
    struct address *item = &list->items[list->count++];
    memset(item, 0, sizeof *item);
    memcpy(&item->sa, sa, len);
    item->len = len;
    return true;
}

static bool add_range(struct address_list *list, const char *from, const char *to, const char *port,
                      const char **error)
{
    struct in_addr first, last;
    if (inet_pton(AF_INET, from, &first) != 1 || inet_pton(AF_INET, to, &last) != 1 ||
        ntohl(first.s_addr) > ntohl(last.s_addr)) {
        *error = "not a range of IPv4 addresses";
        return false;
    }
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    for (uint32_t ip = ntohl(first.s_addr); ip <= ntohl(last.s_addr); ip++) {
        sa.sin_addr.s_addr = htonl(ip);
        if (!add_one(list, &sa, sizeof sa, error))
            return false;
    }
    return true;
}

static bool add_host(struct address_list *list, const char *host, const char *port,
                     const char **error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int status = getaddrinfo(host, port, &hints, &found);
    if (status != 0) {
        *error = gai_strerror(status);
        return false;
    }
    bool ok = add_one(list, found->ai_addr, found->ai_addrlen, error);
    freeaddrinfo(found);
    return ok;
}

bool address_list_add(struct address_list *list, const char *text, const char *port,
                      const char **error)
{
    char host[256];
    if ((size_t)snprintf(host, sizeof host, "%s", text) >= sizeof host) {
        *error = "too long";
        return false;
    }
    char *colon = strrchr(host, ':'), *close = strchr(host, ']'), *start = host;
    if (host[0] == '[' && close) {
        start++;
        *close = '\0';
        colon = close[1] == ':' ? close + 1 : NULL;
    }
    if (colon) {
        *colon = '\0';
        port = colon + 1;
    }
    char *dash = strchr(start, '-');
    struct in_addr ip;
    if (dash) {
        *dash = '\0';
        if (inet_pton(AF_INET, start, &ip) == 1)
            return add_range(list, start, dash + 1, port, error);
        *dash = '-'; /* a host's name may have one */
    }
    return add_host(list, start, port, error);
}

bool address_list_is_loopback(const struct address_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct sockaddr_in *sa = (const struct sockaddr_in *)&list->items[i].sa;
        if (sa->sin_family != AF_INET || ntohl(sa->sin_addr.s_addr) >> 24 != 127)
            return false;
    }
    return true;
}

void address_list_reset(struct address_list *list)
{
    free(list->items);
    *list = (struct address_list){0};
}
