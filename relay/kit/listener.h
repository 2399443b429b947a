/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: one per worker and address, sharing the port (SO_REUSEPORT) so that the kernel
 * spreads connections. */
#pragma once
#include "common/buf.h"
#include "common/err.h"

struct listener {
    int *fds; /* one per worker */
    unsigned count;
    char *address; /* as bound: with the port that was chosen for port 0 */
    bool loopback; /* only this machine reaches it */
};

/* Binds "host:port" or "[v6]:port" @count times. ERR_IO: *why (appended) says what failed, for the
 * operator. */
NODISCARD enum err listener_open(const char *address, unsigned count, struct listener *out,
                                 struct buf *why);
/* Closes the sockets that were not handed on (those that are not -1). */
void listener_reset(struct listener *listener);
