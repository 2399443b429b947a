/* SPDX-License-Identifier: Apache-2.0 */
/* Which events were put in lately, each with the era in which that was done first: a bounded set,
 * the oldest go first. Keeps hashes only: 64 bits, seeded, so that one is taken for another once in
 * a million years. One thread. */
#pragma once
#include "common/event.h"

struct event_set;

/* Keeps at least the last @max / 2, at most @max. @by_topic: an event on two topics is two. */
struct event_set *event_set_new(size_t max, bool by_topic);
void event_set_free(struct event_set *set);
void event_set_add(struct event_set *set, const struct event *ev, unsigned era); /* twice is once */
bool event_set_has(const struct event_set *set, const struct event *ev);
/* Whether the event before it on its topic was put in. Of a set @by_topic. */
bool event_set_has_prev(const struct event_set *set, const struct event *ev);
/* Whether it was put in before @era. */
bool event_set_has_before(const struct event_set *set, const struct event *ev, unsigned era);
/* Whether all that was put in with ids above @id is still there. */
bool event_set_reaches(const struct event_set *set, uint64_t id);
