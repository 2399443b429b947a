/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to many sockets with few system calls: by io_uring(7) where it was built in and the kernel
 * allows it, else with one send() each. Nothing blocks: what a socket does not take is the caller's
 * to offer again. One thread from the first write on. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { WRITER_BATCH = 64 }; /* sockets at a time */

/* One socket's write. */
struct writer_write {
    int fd;
    struct iovec *iov; /* borrowed, as is what it describes */
    int count;
    ssize_t result; /* bytes that the socket took, or -errno */
};

struct writer;

struct writer *writer_new(bool io_uring);
void writer_free(struct writer *writer);
/* Makes the first @count, at most WRITER_BATCH, and sets their results. */
void writer_write(struct writer *writer, struct writer_write *writes, size_t count);
