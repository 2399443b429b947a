/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the workers: notes and events, to each in the order of their making, and what is known
 * of what went out lately. Lowest part of the bus: all others need it, it needs none of them. Bus
 * thread. */
#pragma once
#include "relay/bus/bus_base.h"

struct bus_outbox;

/* @inboxes: the workers', at most 64; borrowed. */
struct bus_outbox *bus_outbox_new(const struct bus_base *base, struct inbox *const *inboxes,
                                  unsigned workers);
void bus_outbox_free(struct bus_outbox *outbox); /* events that wait in batches are let go */

unsigned bus_outbox_workers(const struct bus_outbox *outbox); /* how many there are */
/* Gives @note to a worker, after all that was sent to it before. */
void bus_outbox_post(struct bus_outbox *outbox, unsigned worker, struct note *note);
/* Gives each worker a copy of @gap, in the namespace @ns; its texts and event are borrowed. */
void bus_outbox_post_gap(struct bus_outbox *outbox, const char *ns, const struct note_gap *gap);
/* Gives @ev (takes references) to the workers in @workers, a bit each; at the latest the end of the
 * turn does, bus_outbox_flush(). If it has an id, it counts as sent, in the present era. */
void bus_outbox_send(struct bus_outbox *outbox, struct event *ev, uint64_t workers);
void bus_outbox_flush(struct bus_outbox *outbox); /* at the end of each turn of the loop */

/* Looks whether a worker does not keep up. Then the store is paused, and with it what Redis sends
 * us waits there, within its own limit, until all have caught up. True: it is paused. */
bool bus_outbox_is_behind(struct bus_outbox *outbox);
/* The same without a new look. */
bool bus_outbox_is_paused(const struct bus_outbox *outbox);

/* --- what went out lately: the last 32,768 events at least, as hashes ------------------------ */

bool bus_outbox_has_sent(const struct bus_outbox *outbox, const struct event *ev);
/* The event before it on its topic. */
bool bus_outbox_has_sent_prev(const struct bus_outbox *outbox, const struct event *ev);
/* Whether it would still know of all that was sent with ids above @id. */
bool bus_outbox_reaches(const struct bus_outbox *outbox, uint64_t id);
/* A client's page brings @ev, in the present era. */
void bus_outbox_add_read(struct bus_outbox *outbox, const struct event *ev);
/* Whether a page brought it in an earlier era. */
bool bus_outbox_had_read(const struct bus_outbox *outbox, const struct event *ev);

/* Counts the servers that were changed for others, which may have another idea of the past:
 * note_read.era, note_gap.era. */
unsigned bus_outbox_era(const struct bus_outbox *outbox);
void bus_outbox_begin_era(struct bus_outbox *outbox);

/* An event that the workers get, live or by a repair. */
void bus_outbox_count_received(struct bus_outbox *outbox, const struct event *ev);
/* A gap that a client's page tells; those of bus_outbox_post_gap() are counted where streams are
 * told of them. */
void bus_outbox_count_gap(struct bus_outbox *outbox, enum gap_reason reason);
