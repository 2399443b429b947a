/* SPDX-License-Identifier: Apache-2.0 */
/* Every event of a run, by number: when it was due, who has still to get it. One thread. Bounded by
 * the run's length: 32 bytes an event. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tag.h"

enum {
    LEDGER_ACKED = 1,    /* the publisher has its answer */
    LEDGER_FAILED = 2,   /* the publish was refused: nobody is to get it */
    LEDGER_MEASURED = 4, /* within the measured time */
    LEDGER_PAST = 8,     /* published before the streams were there: told from a log */
};

struct ledger_event {
    uint64_t at_ns; /* when it was, or should have been, sent */
    uint64_t id;    /* as the publisher was told; 0: not known */
    uint32_t topic;
    uint32_t missing; /* receivers that have not had it */
    uint32_t s;       /* number within its topic */
    uint32_t flags;
};

struct ledger {
    uint32_t run;
    uint64_t count; /* events; they are numbered from 1 */
    uint64_t open;  /* events that are not complete */
    uint64_t failed;
    uint64_t complete_measured;
    struct ledger_event *events;
    size_t capacity;
    uint64_t first_open;    /* so many events from the first on are known to be complete */
    uint32_t *topic_events; /* [topic]: events so far */
};

void ledger_init(struct ledger *l, uint32_t run, uint32_t topics);
void ledger_reset(struct ledger *l);
/* Returns the event's number. */
uint64_t ledger_add(struct ledger *l, uint32_t topic, uint32_t receivers, uint64_t at_ns,
                    uint32_t flags);
/* NULL: no such event. Valid until the next ledger_add. */
struct ledger_event *ledger_get(const struct ledger *l, uint64_t g);
struct tag ledger_tag(const struct ledger *l, uint64_t g);
void ledger_ack(struct ledger *l, uint64_t g, bool ok, uint64_t id);
/* One receiver has it, or never will. */
void ledger_receive(struct ledger *l, uint64_t g);

/* A number below which all events are complete. */
uint64_t ledger_first_open(struct ledger *l);

/* What a set of topics held, for a comparison with what a client got. */
struct ledger_sum {
    uint64_t count, hash;
};

/* The events by topic, for the questions at the end of a run. */
struct ledger_index;
struct ledger_index *ledger_index_new(const struct ledger *l, uint32_t topics);
void ledger_index_free(struct ledger_index *index);
/* The events of @topics (sorted, each once) after event number @after and up to @last. */
struct ledger_sum ledger_index_sum(const struct ledger_index *index, const uint32_t *topics,
                                   size_t count, uint64_t after, uint64_t last);
