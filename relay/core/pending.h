/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection has accepted and not yet committed to its queue: in order of ids, with events
 * that have none where they arrived. Of a coalesced event's topic and key only the latest stays.
 * docs/architecture.md, "Lanes". No bound of its own, no I/O. One thread. */
#pragma once
#include "common/event.h"

struct pending_item {
    struct event *event; /* a reference; NULL: a hole, a later one has replaced it */
    uint32_t slot;       /* event_slot() */
};

/* Zero-initialised is empty, and has no memory. */
struct pending {
    uint32_t count; /* events */
    uint32_t used, cap;
    size_t bytes; /* of their frames */
    bool has_ttl; /* one of them may have one */
    struct pending_item *items;
    /* Of coalesced ones: item + 1, by slot; 0: free. What leads to a hole leads nowhere. */
    uint32_t *index;
    uint32_t index_cap, index_used;
};

void pending_reset(struct pending *p);
/* Takes a reference. @ev comes last; a coalesced one must not be here in an earlier version:
 * pending_supersede(). */
void pending_put(struct pending *p, struct event *ev);
/* The same of an event with an id that came after later ones. */
void pending_insert(struct pending *p, struct event *ev);
/* Drops the earlier version of a coalesced event. Returns what became of it: */
enum pending_found {
    PENDING_NONE,     /* there was none */
    PENDING_REPLACED, /* it is gone */
    PENDING_NEWER,    /* what is here has a higher id, and stays */
} pending_supersede(struct pending *p, const struct event *ev);
/* Drops what is over: what it has replaced does not come back. Returns how many. */
size_t pending_expire(struct pending *p, const struct event_clock *now);
/* The lowest id; 0: none of them has one. */
uint64_t pending_first_id(const struct pending *p);
