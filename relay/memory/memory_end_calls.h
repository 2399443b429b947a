/* SPDX-License-Identifier: Apache-2.0 */
/* The library's functions about topics that end, for `memory:`: sse_end, sse_ended, sse_due.
 * docs/protocol.md, section 10. One thread, no I/O. */
#pragma once
#include "relay/memory/memory.h"

struct memory_end_calls {
    struct memory *memory;
    uint64_t now_us, arrival_us;
    void (*deliver)(void *arg, struct event *ev); /* takes the reference over */
    void *arg;
};

/* False: the call is of another function. *e: OK, or ERR_DENIED with the sentence as the answer. */
bool memory_end_calls_run(const struct memory_end_calls *on, struct store_call *call, enum err *e);
