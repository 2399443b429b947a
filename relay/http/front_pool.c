/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/front_pool.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    RUNS_MAX = 16,       /* of the daemon, for one request */
    WORDS = 8,           /* looked at at a time */
    BEYOND_BYTES = 65536 /* a pool may be so much larger than it was asked for: a page, at most */
};

static const char request_text[] = "GET /pool?known=1 HTTP/1.1\r\nHost: relay\r\n\r\n";

/* --- what is expected ------------------------------------------------------------------------- */

/* By the kernel, which says no where there is no memory: we would crash. False: nothing is there.
 */
static bool copy(const int pipe_ends[2], void *out, uintptr_t from, size_t len)
{
    /* Not write(), which a sanitizer watches. */
    return syscall(SYS_write, pipe_ends[1], from, len) == (long)len &&
           read(pipe_ends[0], out, len) == (ssize_t)len;
}

/* What libmicrohttpd keeps of the first parameter stands at the pool's very end, and points to its
 * name. Where that is found, and the beginning is right, all between them is the pool. */
static bool ends_there(const int pipe_ends[2], const struct front_pool_view *view,
                       size_t pool_bytes)
{
    uintptr_t words[WORDS], at = (uintptr_t)view->method + pool_bytes - FRONT_POOL_SPARE;
    uintptr_t end = at + FRONT_POOL_SPARE + BEYOND_BYTES;
    for (at = (at + sizeof(at) - 1) & ~(sizeof(at) - 1); at < end; at += sizeof(words)) {
        if (!copy(pipe_ends, words, at, sizeof(words)))
            return false;
        for (size_t i = 0; i < WORDS; i++)
            if (words[i] == (uintptr_t)view->name)
                return true;
    }
    return false;
}

bool front_pool_fits(const struct front_pool_view *view, size_t sent, size_t pool_bytes)
{
    if (!view->method || !view->path || !view->name || view->header_size != sent)
        return false;
    /* It was read to where the method is, and is taken apart in place: "GET", NUL, "/pool", NUL. */
    if (view->path != view->method + sizeof("GET") || view->name != view->path + sizeof("/pool"))
        return false;
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    bool fits = ends_there(pipe_ends, view, pool_bytes);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return fits;
}

/* --- trying it out ---------------------------------------------------------------------------- */

struct trial {
    size_t pool_bytes;
    bool fits;
};

static enum MHD_Result take_name(void *cls, enum MHD_ValueKind kind, const char *key,
                                 const char *value)
{
    (void)kind, (void)value;
    ((struct front_pool_view *)cls)->name = key;
    return MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **req_cls)
{
    (void)version, (void)upload, (void)upload_size, (void)req_cls;
    struct trial *trial = cls;
    struct front_pool_view view = {.method = method, .path = url};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    view.header_size = info ? info->header_size : 0;
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, take_name, &view);
    trial->fits = front_pool_fits(&view, sizeof(request_text) - 1, trial->pool_bytes);
    return MHD_NO; /* that was all: it closes the connection */
}

static void quiet(void *cls, const char *format, va_list args)
{
    (void)cls, (void)format, (void)args;
}

/* Sends the request through @ends; the daemon takes the second over. */
static void try(struct MHD_Daemon *daemon, const int ends[2])
{
    struct sockaddr peer = {.sa_family = AF_UNIX};
    if (MHD_add_connection(daemon, ends[1], &peer, sizeof(peer)) != MHD_YES)
        return;
    if (send(ends[0], request_text, sizeof(request_text) - 1, MSG_NOSIGNAL) < 0)
        return;
    for (int i = 0; i < RUNS_MAX; i++)
        MHD_run(daemon);
}

bool front_pool_is_known(size_t pool_bytes)
{
    struct trial trial = {.pool_bytes = pool_bytes};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL,
                         NULL, on_request, &trial, MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, pool_bytes, MHD_OPTION_END);
    if (daemon) {
        try(daemon, ends);
        MHD_stop_daemon(daemon);
    } else {
        close(ends[1]);
    }
    close(ends[0]);
    return trial.fits;
}
