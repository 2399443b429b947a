/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { STEP = 65536 };

static enum err read_all(int fd, size_t max, struct buf *out)
{
    size_t before = out->len;
    ssize_t n;
    do {
        buf_reserve(out, STEP);
        n = read(fd, out->ptr + out->len, STEP);
        if (n > 0)
            out->len += (size_t)n;
    } while ((n > 0 && out->len - before <= max) || (n < 0 && errno == EINTR));
    if (n < 0)
        return ERR_IO;
    return out->len - before > max ? ERR_RANGE : OK;
}

enum err file_read(const char *path, size_t max, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ERR_IO;
    enum err e = read_all(fd, max, out);
    int error = errno;
    close(fd);
    errno = error;
    return e;
}
