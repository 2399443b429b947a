/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets in memory, as sse_ticket and its kin keep them in Redis. No I/O, no clock of its own: the
 * caller passes the wall clock. One thread. */
#pragma once
#include <stddef.h>

#include "common/buf.h"

struct memory_tickets;

/* Holds at most @max: beyond that no more are taken, as each may be in use. */
struct memory_tickets *memory_tickets_new(size_t max);
void memory_tickets_free(struct memory_tickets *tickets);

/* A new one, for @ttl_ms if nobody uses it; worthless from @until_ms on. ERR_FULL; ERR_DENIED:
 * there is one with this hash; ERR_RANGE: @until_ms is over. */
NODISCARD enum err memory_tickets_put(struct memory_tickets *tickets, struct slice ns,
                                      struct slice hash, struct slice grant, uint64_t ttl_ms,
                                      uint64_t until_ms, uint64_t now_ms);

/* OK: *grant is its grant (borrowed), and *previous what has had it until now, perhaps still open,
 * or "" (borrowed until the next call). ERR_NOT_FOUND; ERR_DENIED: it was used; ERR_CLOSED: it
 * was, and this is no reconnect. @peek: only looks. */
NODISCARD enum err memory_tickets_take(struct memory_tickets *tickets, struct slice ns,
                                       struct slice hash, struct slice connection, bool cursor,
                                       uint64_t grace_ms, bool peek, uint64_t now_ms,
                                       const char **grant, const char **previous);
/* @connection's stream is over; nothing happens if it is not the one that has it. */
void memory_tickets_end(struct memory_tickets *tickets, struct slice ns, struct slice hash,
                        struct slice connection, uint64_t grace_ms, bool unused, uint64_t now_ms);
