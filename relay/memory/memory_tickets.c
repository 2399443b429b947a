/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory_tickets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"

/* Looked at, and dropped if they are over, for each new one. */
enum { EXPIRE_STEP = 8 };

enum holder { HOLDER_NONE, HOLDER_OPEN, HOLDER_OVER };

struct ticket {
    char *grant;
    uint64_t expires_ms, fresh_ms, until_ms;
    enum holder holder;
    bool told; /* a client of a connection before that had it was told an id */
    char *by;  /* the connection; NULL: none had it yet */
    TAILQ_ENTRY(ticket) link;
    UT_hash_handle hh;
    size_t len;
    char text[]; /* namespace, NUL, hash */
};

struct memory_tickets {
    struct ticket *table;
    TAILQ_HEAD(, ticket) all;
    size_t max;
    char *previous; /* what the last take told */
};

static void ticket_drop(struct memory_tickets *tickets, struct ticket *ticket)
{
    HASH_DEL(tickets->table, ticket);
    TAILQ_REMOVE(&tickets->all, ticket, link);
    free(ticket->grant);
    free(ticket->by);
    free(ticket);
}

static void expire(struct memory_tickets *tickets, size_t count, uint64_t now_ms)
{
    struct ticket *ticket;
    for (size_t i = 0; i < count && (ticket = TAILQ_FIRST(&tickets->all)); i++) {
        if (ticket->expires_ms <= now_ms) {
            ticket_drop(tickets, ticket);
            continue;
        }
        TAILQ_REMOVE(&tickets->all, ticket, link);
        TAILQ_INSERT_TAIL(&tickets->all, ticket, link);
    }
}

static struct ticket *ticket_find(struct memory_tickets *tickets, struct slice ns,
                                  struct slice hash, uint64_t now_ms)
{
    struct buf wanted = {0};
    struct ticket *ticket;
    name_put_lookup(&wanted, ns, hash);
    HASH_FIND(hh, tickets->table, wanted.ptr, wanted.len, ticket);
    buf_reset(&wanted);
    if (!ticket || ticket->expires_ms > now_ms)
        return ticket;
    ticket_drop(tickets, ticket);
    return NULL;
}

static void ticket_live(struct ticket *ticket, uint64_t until_ms)
{
    ticket->expires_ms = until_ms < ticket->until_ms ? until_ms : ticket->until_ms;
}

enum err memory_tickets_put(struct memory_tickets *tickets, struct slice ns, struct slice hash,
                            struct slice grant, uint64_t ttl_ms, uint64_t until_ms, uint64_t now_ms)
{
    struct buf key = {0};
    if (until_ms <= now_ms)
        return ERR_RANGE;
    if (ticket_find(tickets, ns, hash, now_ms))
        return ERR_DENIED;
    size_t count = HASH_COUNT(tickets->table);
    expire(tickets, count < tickets->max ? EXPIRE_STEP : count, now_ms);
    if (HASH_COUNT(tickets->table) >= tickets->max)
        return ERR_FULL;
    name_put_lookup(&key, ns, hash);
    struct ticket *ticket = mem_zero(1, sizeof(*ticket) + key.len);
    memcpy(ticket->text, key.ptr, key.len);
    ticket->len = key.len;
    buf_reset(&key);
    ticket->grant = slice_dup(grant);
    ticket->fresh_ms = now_ms + ttl_ms;
    ticket->until_ms = until_ms;
    ticket_live(ticket, ticket->fresh_ms);
    HASH_ADD(hh, tickets->table, text, ticket->len, ticket);
    TAILQ_INSERT_TAIL(&tickets->all, ticket, link);
    return OK;
}

enum err memory_tickets_take(struct memory_tickets *tickets, struct slice ns, struct slice hash,
                             struct slice connection, bool cursor, uint64_t grace_ms, bool peek,
                             uint64_t now_ms, const char **grant, const char **previous)
{
    struct ticket *ticket = ticket_find(tickets, ns, hash, now_ms);
    if (!ticket)
        return ERR_NOT_FOUND;
    /* Twice by one: the same answer. */
    bool had = ticket->holder != HOLDER_NONE && !slice_is(connection, ticket->by);
    if (had && (!grace_ms || !cursor))
        return grace_ms ? ERR_CLOSED : ERR_DENIED;
    *grant = ticket->grant;
    *previous = had && ticket->holder == HOLDER_OPEN ? ticket->by : "";
    if (peek)
        return OK;
    free(tickets->previous);
    tickets->previous = ticket->by;
    ticket->by = slice_dup(connection);
    ticket->holder = HOLDER_OPEN;
    ticket->told |= had; /* or it would have no cursor */
    ticket_live(ticket, ticket->until_ms);
    return OK;
}

void memory_tickets_end(struct memory_tickets *tickets, struct slice ns, struct slice hash,
                        struct slice connection, uint64_t grace_ms, bool unused, uint64_t now_ms)
{
    struct ticket *ticket = ticket_find(tickets, ns, hash, now_ms);
    if (!ticket || ticket->holder != HOLDER_OPEN || !slice_is(connection, ticket->by))
        return;
    unused = unused && !ticket->told;
    ticket->holder = unused ? HOLDER_NONE : HOLDER_OVER;
    free(ticket->by);
    ticket->by = NULL;
    uint64_t until_ms = now_ms + grace_ms;
    ticket_live(ticket, unused && ticket->fresh_ms > until_ms ? ticket->fresh_ms : until_ms);
    if (ticket->expires_ms <= now_ms)
        ticket_drop(tickets, ticket);
}

struct memory_tickets *memory_tickets_new(size_t max)
{
    struct memory_tickets *tickets = mem_zero(1, sizeof(*tickets));
    tickets->max = max;
    TAILQ_INIT(&tickets->all);
    return tickets;
}

void memory_tickets_free(struct memory_tickets *tickets)
{
    struct ticket *ticket;
    if (!tickets)
        return;
    while ((ticket = TAILQ_FIRST(&tickets->all)))
        ticket_drop(tickets, ticket);
    free(tickets->previous);
    free(tickets);
}
