/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces in memory: counter, horizon, topic index and logs, as common/sse_relay.lua keeps them
 * in Redis, but bounded as a whole. No I/O, no clock of its own: the caller passes the wall clock.
 * One thread. */
#pragma once
#include "relay/bus/store.h"
#include "relay/core/note.h"
#include "relay/core/publication.h"

/* At most so much is kept over all namespaces; each at least 1. */
struct memory_limits {
    size_t topics; /* the one that was published to longest ago is forgotten: horizon "expired" */
    size_t spaces; /* that nobody watches and that have no topic */
    size_t bytes;  /* of logs: what was published to longest ago loses its oldest events first */
    size_t once;   /* idempotency keys */
};

struct memory;

struct memory *memory_new(const struct memory_limits *limits,
                          struct config *config); /* takes a reference */
void memory_free(struct memory *m);
void memory_configure(struct memory *m, struct config *config); /* takes a reference */

/* Makes the namespace known, its counter not below @seen; it stays known until memory_close(). */
void memory_open(struct memory *m, struct slice ns, uint64_t seen, uint64_t now_us);
void memory_close(struct memory *m, struct slice ns);
/* These fill, but do not call `done`. */
void memory_look(struct memory *m, struct store_look *look, uint64_t now_us);
void memory_range(struct memory *m, struct store_range *range, uint64_t now_us);

/* Whether @count more ids are there. */
bool memory_has_ids(const struct memory *m, struct slice ns, size_t count, uint64_t now_us);
/* Publishes, after memory_has_ids(). *id: 0 for an ephemeral event. Returns the number of live
 * events to deliver, one for each topic, in @events[PUBLICATION_TOPICS_MAX], references for the
 * caller; 0: the `once` key has been seen, *id is the first's; or a topic has ended, and *id is
 * NOTE_ID_ENDED. */
size_t memory_publish(struct memory *m, struct slice ns, const struct publication *p,
                      uint64_t now_us, uint64_t arrival_us, struct event **events, uint64_t *id);

/* The id by which the topic has ended, and why; 0 and END_NONE: it has not. */
uint64_t memory_ended(struct memory *m, struct slice ns, struct slice topic, uint64_t now_us,
                      enum topic_end *end);
/* Ends the topic for the reason *end, after memory_has_ids(): an event to deliver, a reference for
 * the caller. NULL: it had ended before; *id and *end are those of then. */
struct event *memory_end(struct memory *m, struct slice ns, struct slice topic, enum topic_end *end,
                         uint64_t now_us, uint64_t arrival_us, uint64_t *id);
/* A topic that nothing has followed for its end_after, borrowed. NULL: none; *next_us is when the
 * first will be due, 0: none will. */
const char *memory_due(const struct memory *m, struct slice ns, uint64_t now_us, uint64_t *next_us);
