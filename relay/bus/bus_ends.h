/* SPDX-License-Identifier: Apache-2.0 */
/* Topics whose publisher fell silent: an event with end_after was their last for so long. The store
 * ends them (sse_due), when it is asked in time: by each node that has heard such an event, or has
 * published one. Bus thread. */
#pragma once
#include "relay/bus/bus_spaces.h"

struct bus_ends;

struct bus_ends *bus_ends_new(const struct bus_base *base, struct bus_spaces *spaces);
void bus_ends_free(struct bus_ends *ends); /* after the store has gone */

/* Whether the store may be asked; bus.c says so. Up: it is, about all namespaces here. */
void bus_ends_set_up(struct bus_ends *ends, bool up);
/* A live event: if it has end_after, its namespace is asked about when that is over. */
void bus_ends_hear(struct bus_ends *ends, const struct event *ev);
/* The same of what this node has published, whoever watches: its publisher may be all there is. */
void bus_ends_published(struct bus_ends *ends, const struct note_publish *note);
/* Soon asks about a namespace in which a name has just been watched: what is due there may not have
 * been heard here. About all that have watchers here: the same, of names watched for longer. */
void bus_ends_ask(struct bus_ends *ends, const char *ns);
void bus_ends_ask_all(struct bus_ends *ends);
