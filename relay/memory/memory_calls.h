/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of common/sse_relay.lua that are about tickets and revocations, in this process:
 * the same arguments, answers and errors. No I/O, no clock of its own. One thread. */
#pragma once
#include "relay/bus/store.h"

struct memory_calls;

/* At most @tickets, and @revoked of each kind. */
struct memory_calls *memory_calls_new(size_t tickets, size_t revoked);
void memory_calls_free(struct memory_calls *calls);

/* Fills call->answer, but does not call `done`. OK or ERR_DENIED. @told: what is to be told of a
 * revocation is appended. */
NODISCARD enum err memory_calls_run(struct memory_calls *calls, struct store_call *call,
                                    const struct config *config, uint64_t now_us, struct buf *told);
