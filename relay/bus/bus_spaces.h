/* SPDX-License-Identifier: Apache-2.0 */
/* The namespaces with watchers here: who watches what in them, how far each is known, and what may
 * be missing. Bus thread. */
#pragma once
#include "relay/bus/bus_base.h"
#include "relay/bus/bus_names.h"

struct bus_spaces;
struct bus_space; /* one of them: there as long as it has names, or somebody uses it */

struct bus_spaces *bus_spaces_new(const struct bus_base *base);
void bus_spaces_free(struct bus_spaces *spaces); /* with all names; after the store has gone */

/* --- all of them ------------------------------------------------------------------------------ */

struct bus_space *bus_spaces_find(struct bus_spaces *spaces, struct slice ns); /* or NULL */
/* One after the other. Only the present one may go meanwhile, once its next has been asked for. */
struct bus_space *bus_spaces_first(const struct bus_spaces *spaces);
struct bus_space *bus_space_next(const struct bus_space *space);

/* A worker wants a name, or no longer does. @note is borrowed. True: nobody wants it any more. */
void bus_spaces_watch(struct bus_spaces *spaces, const struct note_name *note);
bool bus_spaces_unwatch(struct bus_spaces *spaces, const struct note_name *note);
void bus_spaces_sweep(struct bus_spaces *spaces); /* before anything is answered from the tails */
/* Hands the settings of every namespace that concerns this node to the store: after a connect, and
 * now and then, as somebody may have flushed them away. */
void bus_spaces_open(struct bus_spaces *spaces);

/* Whether the store can be heard and read; bus.c says so. */
void bus_spaces_set_up(struct bus_spaces *spaces, bool up);
bool bus_spaces_are_up(const struct bus_spaces *spaces);
/* The connection was broken: all that is watched may have missed something. @moved: the server may
 * be another than before. */
void bus_spaces_doubt(struct bus_spaces *spaces, bool moved);

/* --- one of them ------------------------------------------------------------------------------ */

void bus_space_use(struct bus_space *space); /* for a read, repair or check of it */
/* That has ended; frees the space if nothing needs it any more. */
void bus_space_release(struct bus_spaces *spaces, struct bus_space *space);
const char *bus_space_ns(const struct bus_space *space); /* borrowed */
struct bus_names *bus_space_names(struct bus_space *space);
void bus_space_open(struct bus_spaces *spaces, const struct bus_space *space); /* in the store */

/* After a failover the new primary may have given ids that are below the last ones of the old one,
 * which took events until somebody told it: so the log is read again from a while before that. */
#define BUS_FAILOVER_OVERLAP_US UINT64_C(60000000)

/* All events up to this id went to the workers that wanted them; 0: not known yet. */
uint64_t bus_space_seen(const struct bus_space *space);
void bus_space_raise_seen(struct bus_space *space, uint64_t id); /* the log has said so */
/* The same for an event as it came: a forged id far in the future does not count. */
void bus_space_see(const struct bus_spaces *spaces, struct bus_space *space,
                   const struct event *ev);
/* Up to here it has been confirmed, by the index or the log, that nothing was missed. */
uint64_t bus_space_checked(const struct bus_space *space);
void bus_space_confirm(struct bus_space *space, uint64_t upto);
/* Somebody begins at @position: nothing above the lowest of those is confirmed. */
void bus_space_date(struct bus_space *space, uint64_t position);
/* Up to where nothing of a topic can be missing, while it has no tail to tell: nobody is live on a
 * name before its first read. UINT64_MAX: nobody is. */
uint64_t bus_space_known_up_to(const struct bus_space *space, struct slice topic);

/* Something may have been missed that the log has not brought yet; until it has, live events are
 * left out. */
bool bus_space_is_unrepaired(const struct bus_space *space);
/* From @cursor on. */
void bus_space_postpone(struct bus_space *space, uint64_t cursor);
/* Up to where nothing was missed. @moved: but by another server than the present one, perhaps. */
uint64_t bus_space_repair_from(const struct bus_space *space, bool *moved);
void bus_space_repaired(struct bus_space *space, uint64_t upto); /* it has, up to there */

/* A check of the index is under way: bus_checks.c's own. */
bool bus_space_is_checking(const struct bus_space *space);
void bus_space_set_checking(struct bus_space *space, bool checking);
/* A live event of it was let go: another check is to follow, whatever one under way has seen. */
bool bus_space_is_missing_some(const struct bus_space *space);
void bus_space_set_missing_some(struct bus_space *space, bool missed);
