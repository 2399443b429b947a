/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces: those that nobody watches and that have no topic are kept for a while, as their
 * counter must not go back. */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/memory/memory_parts.h"

bool memory_space_is_idle(const struct memory_space *space)
{
    return !space->open && !space->topics;
}

void memory_space_free(struct memory *m, struct memory_space *space)
{
    HASH_DEL(m->spaces, space);
    free(space->ns);
    free(space);
}

void memory_space_wake(struct memory *m, struct memory_space *space)
{
    TAILQ_REMOVE(&m->idle, space, idle);
    m->idle_count--;
}

void memory_space_rest(struct memory *m, struct memory_space *space)
{
    TAILQ_INSERT_TAIL(&m->idle, space, idle);
    if (++m->idle_count <= m->limits.spaces)
        return;
    struct memory_space *oldest = TAILQ_FIRST(&m->idle);
    memory_space_wake(m, oldest);
    if (oldest->seq > m->floor)
        m->floor = oldest->seq;
    memory_space_free(m, oldest);
}

struct memory_space *memory_space_find(const struct memory *m, struct slice ns)
{
    struct memory_space *space;
    HASH_FIND(hh, m->spaces, ns.ptr, ns.len, space);
    return space;
}

struct memory_space *memory_space_get(struct memory *m, struct slice ns, uint64_t now_us)
{
    struct memory_space *space = memory_space_find(m, ns);
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->ns = slice_dup(ns);
    space->seq = now_us > m->floor ? now_us : m->floor;
    space->horizon = space->seq;
    HASH_ADD_KEYPTR(hh, m->spaces, space->ns, ns.len, space);
    memory_space_rest(m, space);
    return space;
}
