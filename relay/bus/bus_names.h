/* SPDX-License-Identifier: Apache-2.0 */
/* The topics and patterns of one namespace that some worker wants, and since when somebody may be
 * live on each. No I/O. Bus thread. */
#pragma once
#include "common/strings.h"
#include "relay/bus/store.h"

struct bus_names;

struct bus_names *bus_names_new(void);
void bus_names_free(struct bus_names *names); /* with all that are in it */

/* Adds a name that is not there. It stays where it is until it is removed. */
struct store_name *bus_names_add(struct bus_names *names, const char *ns, const char *text);
void bus_names_remove(struct bus_names *names, struct store_name *name);             /* frees it */
struct store_name *bus_names_find(const struct bus_names *names, struct slice text); /* or NULL */

size_t bus_names_count(const struct bus_names *names);
bool bus_names_have_patterns(const struct bus_names *names);
void bus_names_copy(const struct bus_names *names, struct strings *out); /* adds all of them */

/* The workers that want @topic, itself or by a pattern, a bit each. */
uint64_t bus_names_workers(const struct bus_names *names, struct slice topic);
/* Whether a message on @topic reaches us by a pattern, whoever wants the topic itself. */
bool bus_names_hear_by_pattern(const struct bus_names *names, struct slice topic);

/* Nobody is live on a name before its first read: notes that this was at @position of those in
 * @texts that had none. */
void bus_names_date(struct bus_names *names, const struct strings *texts, uint64_t position);
/* The position of that, 0: none yet. @name: of bus_names_find(). */
uint64_t bus_names_since(const struct store_name *name);
/* The earliest of the topic itself and of the patterns that match it; UINT64_MAX: none. */
uint64_t bus_names_earliest(const struct bus_names *names, struct slice topic);

/* What was heard and is not any more, because its subscription was refused, has missed what a
 * repair of its namespace cannot know of: it is lost until it has been read for itself. */
void bus_names_lose(struct bus_names *names);
bool bus_names_take_heard(struct store_name *name); /* it is heard now. True: it was lost */
void bus_names_take_found(struct store_name *name); /* it is lost no longer */
