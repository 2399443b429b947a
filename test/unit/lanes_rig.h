/* SPDX-License-Identifier: Apache-2.0 */
/* A world around one client.c: a log, a bus that reads it, a socket that takes what it likes, a
 * connection that is cut anywhere, and a client that resumes with the last id that it had whole.
 * What the client got is judged against what was published: docs/protocol.md, 13. */
#pragma once
#include "lanes_schedule.h"

/* How a run ended. */
struct lanes_result {
    char violation[240]; /* "": none. Its first word, up to a colon, says of which kind it is */
    size_t arrived;      /* bytes, over all connections */
    unsigned blocks, connections;
    uint64_t told;   /* dropped events that the client was told of */
    unsigned merged; /* wanted events of the log that the client did not need */
};

/* Runs @s, brings everything to rest, and judges. @cut_at: the connection is cut when so many bytes
 * have arrived in all; 0: only where the schedule says. */
struct lanes_result lanes_run(const struct lanes_schedule *s, size_t cut_at);
/* Leaves out steps for as long as the violation is still of the same kind. */
void lanes_shrink(struct lanes_schedule *s, size_t cut_at);
