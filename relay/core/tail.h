/* SPDX-License-Identifier: Apache-2.0 */
/* The recent events of the topics that this node hears, and where each topic's chain of `prev`
 * stands. Most clients that reconnect have missed no more than is here, so they need no Redis; and
 * an event that was lost on the way shows as a hole in the chain. Bounded in events per topic and
 * in bytes over all; the topic that has been silent for longest goes first. No I/O, one thread. */
#pragma once
#include "common/event.h"

struct tails;

struct tails *tails_new(void);
void tails_free(struct tails *tails);
/* @max_events: per topic, 0: the chain only. @max_bytes: over all topics, about. */
void tails_limit(struct tails *tails, uint32_t max_events, size_t max_bytes);

enum tail_add {
    TAIL_NEXT,  /* the topic's next event, as far as is known: it has been added */
    TAIL_KNOWN, /* is here, or from before the topic's chain was heard */
    TAIL_OLD,   /* from before what is here: whether it ever was, the tail does not tell */
    TAIL_HOLE,  /* its `prev` is above the last one that is known: events between are missing */
    TAIL_LATE,  /* below the topic's last id, and yet not known */
};
/* Offers an event that has an id. Only TAIL_NEXT takes a reference. */
enum tail_add tails_add(struct tails *tails, struct event *ev);
/* Adds an event of which tails_add() said TAIL_LATE, where it belongs. */
void tails_insert(struct tails *tails, struct event *ev);
/* What the log said: the topic's events with @from < id <= @upto are @events, in order, and all of
 * them. @last: the topic's last id, at most @upto; 0: it has none. Keeps what fits and joins with
 * what is here. */
void tails_fill(struct tails *tails, struct slice ns, struct slice topic, uint64_t from,
                uint64_t upto, uint64_t last, struct event *const *events, size_t count);

/* The same said that the topic has ended, by the event @last. */
void tails_fill_end(struct tails *tails, struct slice ns, struct slice topic, uint64_t last,
                    enum topic_end end);

/* Another topic of the namespace on which the event is here, too (the caller frees it), or NULL.
 * Looks at all topics, which takes milliseconds where there are very many; when it is asked often,
 * it makes a map of ids, and keeps that for a while (some 64 bytes for each event, at most 32 MB).
 */
char *tails_twin(struct tails *tails, struct event *ev);

/* The last id of a topic, 0 if nothing is known of it. */
uint64_t tails_last(struct tails *tails, struct slice ns, struct slice topic);
/* Whether it has ended with that; END_NONE: not as far as is known. */
enum topic_end tails_ended(struct tails *tails, struct slice ns, struct slice topic);
/* Whether everything after @cursor on the topic is here. */
bool tails_cover(struct tails *tails, struct slice ns, struct slice topic, uint64_t cursor);
/* The first up to @max events after @cursor that are not spent, borrowed, into @out. Returns how
 * many. */
size_t tails_read(struct tails *tails, struct slice ns, struct slice topic, uint64_t cursor,
                  const struct event_clock *now, struct event **out, size_t max);

/* The topic is not heard any more, or something of it was lost. */
void tails_drop(struct tails *tails, struct slice ns, struct slice topic);
/* The same for every topic of a namespace. */
void tails_drop_all(struct tails *tails, struct slice ns);
/* The same for every topic that @keep is not true for. @key: event_key(). */
void tails_drop_unless(struct tails *tails, bool (*keep)(void *arg, struct slice key), void *arg);
