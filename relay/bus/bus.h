/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: one thread between the store (Redis, or this process) and the workers. It listens for
 * what workers watch, delivers each event once to each worker that wants it, reads the log for
 * clients, repairs what a broken connection missed, and publishes. Workers talk to it by notes in
 * its inbox (note.h), and get notes back. */
#pragma once
#include "relay/bus/store.h"

struct bus;

/* Makes a store for this bus on its loop. */
typedef struct store (*store_maker)(struct ev_loop *loop, struct bus *bus,
                                    const struct store_events *events, struct config *config,
                                    struct metrics *metrics);

/* @inboxes: the workers', at most 64; borrowed. @config: a reference is taken. @tag: the node's. */
struct bus *bus_new(struct config *config, struct inbox *const *inboxes, unsigned workers,
                    uint32_t tag, struct metrics *metrics, store_maker make);
/* The thread's body: returns after NOTE_STOP. */
void bus_run(struct bus *bus);
/* After bus_run() has returned, or was never called; before the workers' inboxes go: reads,
 * publishes, calls and requests that are under way are given back to them. */
void bus_free(struct bus *bus);

struct inbox *bus_inbox(struct bus *bus);
bool bus_is_up(const struct bus *bus);              /* any thread: events can be heard and read */
int64_t bus_clock_offset_us(const struct bus *bus); /* any thread: of what gives the ids, to ours */
enum store_condition bus_condition(const struct bus *bus); /* any thread */
const char *bus_kind(const struct bus *bus);               /* any thread: "redis", "memory" */

/* For stores: gives a publish note back to its worker. Bus thread. */
void bus_published(struct bus *bus, struct note_publish *publish);
