/* SPDX-License-Identifier: Apache-2.0 */
/* Workers' calls about tickets and revocations: each waits until the store is up, is asked, and
 * goes back with the answer. Bus thread. */
#pragma once
#include "relay/bus/bus_outbox.h"

struct bus_calls;

struct bus_calls *bus_calls_new(const struct bus_base *base, struct bus_outbox *outbox);
/* After the store has gone: gives all notes back to the workers, as not done. */
void bus_calls_free(struct bus_calls *calls);

/* Takes @note, until it goes back. One too many goes back at once. */
void bus_calls_take(struct bus_calls *calls, struct note_call *note);
/* Whether they may be asked; bus.c says so. */
void bus_calls_set_up(struct bus_calls *calls, bool up);
void bus_calls_sweep(struct bus_calls *calls); /* now and then: those that were cancelled go back */
