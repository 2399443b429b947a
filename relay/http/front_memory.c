/* SPDX-License-Identifier: Apache-2.0 */
/* What a suspended connection need not keep. A stream waits for hours with what libmicrohttpd
 * reserved for a request of the greatest size that is allowed; nearly all of that is zeros. */
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/http/front_parts.h"
#include "relay/http/front_pool.h"

enum {
    HEADERS_MAX = 64,
};

/* --- the answer's header --------------------------------------------------------------------- */

static enum MHD_Result take_first(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct front_header *header = cls;
    (void)kind;
    *header = (struct front_header){name, value};
    return MHD_NO;
}

/* They have been sent, and nobody else has this response. */
static void drop_headers(struct MHD_Response *response)
{
    for (int i = 0; i < HEADERS_MAX; i++) {
        struct front_header header = {0};
        MHD_get_response_headers(response, take_first, &header);
        if (!header.name || !header.value ||
            MHD_del_response_header(response, header.name, header.value) != MHD_YES)
            return;
    }
}

/* --- the pool -------------------------------------------------------------------------------- */

/* Everything that the peer has sent so far; false: the kernel does not say. */
static bool bytes_received(int fd, uint64_t *bytes)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
        return false;
    *bytes = info.tcpi_bytes_received;
    return true;
}

/* Where in the pool nothing is but what the request and its answer left. libmicrohttpd reads into
 * the pool's beginning, and the method it has named is the first that it read, so that the rest of
 * the pool follows. Where a peer may have sent something before (an earlier request, blank lines),
 * nobody knows how much follows: false. */
static bool find_pool(const struct front_call *call, uintptr_t *from, uintptr_t *to)
{
    const struct front_request *request = call->request;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    uint64_t received;
    if (!info || !bytes_received(call->fd, &received))
        return false;
    size_t header = info->header_size;
    uintptr_t start = (uintptr_t)request->raw_method, path = (uintptr_t)request->raw_path;
    if (received < header || received > header + FRONT_POOL_SPARE)
        return false;
    if (path <= start || path - start >= header ||
        header + FRONT_POOL_SPARE >= call->front->pool_bytes)
        return false; /* it does not work as we know it */
    *from = start + header;
    *to = start + call->front->pool_bytes - FRONT_POOL_SPARE;
    return true;
}

static bool is_zero(const char *page, size_t size)
{
    return page[0] == 0 && memcmp(page, page + 1, size - 1) == 0;
}

/* A private page of zeros that is given back reads as zeros when it is needed again: so this
 * changes nothing for whoever owns it, as long as nobody writes meanwhile (it is this thread's). */
static void give_back(uintptr_t from, uintptr_t to)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t run = 0, page = (from + size - 1) & ~(uintptr_t)(size - 1);
    for (; page + size <= to; page += size) {
        bool zero = is_zero((const char *)page, size);
        if (zero && !run)
            run = page;
        if (!zero && run) {
            madvise((void *)run, page - run, MADV_DONTNEED);
            run = 0;
        }
    }
    if (run)
        madvise((void *)run, page - run, MADV_DONTNEED);
}

void front_memory_slim(struct front_call *call)
{
    uintptr_t from, to;
    drop_headers(call->request->sent);
    if (call->front->limits.slim && find_pool(call, &from, &to))
        give_back(from, to);
}

bool front_memory_is_known(const struct front_limits *limits)
{
    bool known = front_pool_is_known(front_drive_pool_bytes(limits));
    if (!known)
        log_put(
            LOG_WARN,
            "libmicrohttpd does not lay its memory out as this relay knows it; streams keep all "
            "of it",
            "version", MHD_get_version(), NULL);
    return known;
}
