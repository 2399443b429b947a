/* SPDX-License-Identifier: Apache-2.0 */
/* Clients' reads of the log, each of which gets one page: who reads together, when, and what can be
 * answered from memory. Bus thread. */
#pragma once
#include "relay/bus/bus_repairs.h"

struct bus_reads;

struct bus_reads *bus_reads_new(const struct bus_base *base, struct bus_outbox *outbox,
                                struct bus_spaces *spaces, const struct bus_repairs *repairs);
/* After the store has gone: gives all notes back to the workers, who still hold pointers into them.
 */
void bus_reads_free(struct bus_reads *reads);

/* A worker's read, of names that it watches already. Takes @note, until it goes back. */
void bus_reads_take(struct bus_reads *reads, struct note_read *note);
void bus_reads_recheck(struct bus_reads *reads); /* some may be able to start, at the next turn */
void bus_reads_turn(struct bus_reads *reads);    /* at the end of each: starts those that can */
void bus_reads_sweep(struct bus_reads *reads);   /* now and then: forgets what nobody needs */
void bus_reads_ground(struct bus_reads *reads);  /* the store is down: all wait anew */
