/* SPDX-License-Identifier: Apache-2.0 */
/* Finds what the chain of `prev` cannot show: a topic's last events, lost on the live path, with
 * nothing after them. Bus thread. */
#pragma once
#include "relay/bus/bus_repairs.h"

struct bus_checks;

struct bus_checks *bus_checks_new(const struct bus_base *base, struct bus_spaces *spaces,
                                  struct bus_repairs *repairs);
void bus_checks_free(struct bus_checks *checks); /* none may be left */

/* Begins one for each namespace that can be checked now; what they find goes to the repairs. */
void bus_checks_start(struct bus_checks *checks);
/* A live event of the namespace was let go, perhaps: it is checked at the end of the turn. */
void bus_checks_miss(struct bus_checks *checks, struct slice ns);
void bus_checks_turn(struct bus_checks *checks); /* at the end of each turn of the loop */
/* All that was published before the store's mark() gave @mark has been delivered. */
void bus_checks_passed(struct bus_checks *checks, uint64_t mark);
/* The connection that the marks went by is gone, or everything ends: those that wait for one do. */
void bus_checks_drop(struct bus_checks *checks);
