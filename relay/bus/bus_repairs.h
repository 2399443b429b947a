/* SPDX-License-Identifier: Apache-2.0 */
/* Reads from the log, for all watchers, what the live path did not bring: of whole namespaces after
 * a broken connection, of single topics where something is seen to be missing. Until the last has
 * ended the store reads no live events. Bus thread. */
#pragma once
#include "relay/bus/bus_outbox.h"
#include "relay/bus/bus_spaces.h"

struct bus_repairs;

/* @over: the last of those that were under way has ended, and the store is up; called before the
 * store is told to go on. */
struct bus_repairs *bus_repairs_new(const struct bus_base *base, struct bus_outbox *outbox,
                                    struct bus_spaces *spaces, void (*over)(void *arg), void *arg);
void bus_repairs_free(struct bus_repairs *repairs); /* none may be under way */

bool bus_repairs_are_under_way(const struct bus_repairs *repairs);
/* Of all namespaces that may have missed something. The store holds its live events. */
void bus_repairs_start(struct bus_repairs *repairs);
void bus_repairs_settle(
    struct bus_repairs *repairs);                    /* nothing was missed: over, if none is left */
void bus_repairs_go_on(struct bus_repairs *repairs); /* each turn: workers may have caught up */
void bus_repairs_give_up(struct bus_repairs *repairs); /* the store is down: those that wait fail */

/* Reads what is above @cursor, up to @upto, of these topics or patterns, for whoever watches them,
 * or will once the store is back. All that was published up to @upto must have been delivered, or
 * be lost. False: too many at once. */
bool bus_repairs_read_names(struct bus_repairs *repairs, struct bus_space *space,
                            const struct strings *names, uint64_t cursor, uint64_t upto);
/* The same for all that the index had up to @position and that has not come: once it has been read,
 * and not before, nothing up to there is missing (bus_space_checked()). */
bool bus_repairs_read_missing(struct bus_repairs *repairs, struct bus_space *space,
                              const struct strings *names, uint64_t cursor, uint64_t position);
/* The same for what is missing on the topic of a live event, up to that; with @held it follows, if
 * the log does not have it. */
bool bus_repairs_read_event(struct bus_repairs *repairs, struct bus_space *space, struct event *ev,
                            uint64_t cursor, bool held);
/* What that refused, so that it is no silent loss: the whole namespace is read from there on, a
 * little later. Its live events are left out until then. */
void bus_repairs_postpone(struct bus_repairs *repairs, struct bus_space *space, uint64_t cursor);
