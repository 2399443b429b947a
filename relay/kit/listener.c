/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/mem.h"

/* The queue in which connections wait when they come faster than accept.rate: as long as the kernel
 * allows, which is net.core.somaxconn. */
enum { BACKLOG = 65535 };

static enum err resolve(const char *text, struct sockaddr_storage *out, socklen_t *out_len,
                        struct buf *why)
{
    struct slice s = slice_of(text);
    const char *colon = memrchr(s.ptr, ':', s.len);
    size_t host_len = colon ? (size_t)(colon - s.ptr) : 0;
    bool v6 = host_len > 2 && s.ptr[0] == '[' && colon[-1] == ']';
    char *host = v6 ? mem_dup(s.ptr + 1, host_len - 2) : mem_dup(s.ptr, host_len);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *info = NULL;
    int rc = getaddrinfo(host_len ? host : NULL, colon ? colon + 1 : "", &hints, &info);
    free(host);
    if (rc) {
        buf_printf(why, "cannot listen on %s: %s", text, gai_strerror(rc));
        return ERR_IO;
    }
    memcpy(out, info->ai_addr, info->ai_addrlen);
    *out_len = info->ai_addrlen;
    freeaddrinfo(info);
    return OK;
}

static int bind_one(const struct sockaddr_storage *addr, socklen_t len, bool share)
{
    int on = 1;
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (share)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)addr, len) == 0 && (!share || listen(fd, BACKLOG) == 0))
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static char *address_text(const struct sockaddr_storage *addr, socklen_t len)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    struct buf text = {0};
    size_t size;
    if (getnameinfo((const struct sockaddr *)addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return mem_dup("?", 1);
    buf_printf(&text, addr->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return buf_take(&text, &size);
}

static bool is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

enum err listener_open(const char *address, unsigned count, struct listener *out, struct buf *why)
{
    struct sockaddr_storage addr;
    socklen_t len;
    enum err e = resolve(address, &addr, &len, why);
    if (e)
        return e;
    struct listener l = {mem_alloc(count * sizeof(int)), count, NULL, is_loopback(&addr)};
    memset(l.fds, -1, count * sizeof(int));
    /* A shared port may be shared with a stranger of the same user: another relay, say. Binding
     * once without sharing finds out. */
    int probe = bind_one(&addr, len, false);
    if (probe < 0)
        goto fail;
    close(probe);
    for (unsigned i = 0; i < count; i++) {
        if ((l.fds[i] = bind_one(&addr, len, true)) < 0)
            goto fail;
        if (i == 0) /* the others take the port that the first was given */
            getsockname(l.fds[0], (struct sockaddr *)&addr, &len);
    }
    l.address = address_text(&addr, len);
    *out = l;
    return OK;

fail:
    buf_printf(
        why, "cannot listen on %s: %s%s", address, strerror(errno),
        errno == EADDRINUSE
            ? " (is another program, or another relay, running there? Choose another with --listen)"
            : "");
    listener_reset(&l);
    return ERR_IO;
}

void listener_reset(struct listener *listener)
{
    for (unsigned i = 0; i < listener->count; i++)
        if (listener->fds[i] >= 0)
            close(listener->fds[i]);
    free(listener->fds);
    free(listener->address);
    *listener = (struct listener){0};
}
