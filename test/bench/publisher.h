/* SPDX-License-Identifier: Apache-2.0 */
/* Publishes events, with a window of them in flight or at a fixed rate. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "histogram.h"
#include "ledger.h"
#include "link.h"
#include "loop.h"
#include "options.h"

struct publisher {
    const struct options *options;
    struct ledger *ledger;
    struct link **links; /* options->publish_connections of them */
    struct link_owner owner;
    const uint32_t *receivers; /* [topic]: clients that will get its events */
    uint64_t random;
    uint32_t next_topic;
    uint32_t flags;    /* of the events published from now on: LEDGER_MEASURED, LEDGER_PAST */
    bool running;      /* by window or rate */
    uint64_t start_ns; /* at a rate: when it began, and how many were due since */
    uint64_t due;
    struct buf payload;
    struct histogram ack; /* from due to answered, of measured events */
};

/* Connects (blocks). False: a message is on stderr. */
bool publisher_init(struct publisher *p, struct loop *loop, const struct options *o,
                    struct ledger *ledger, const uint32_t *receivers);
void publisher_reset(struct publisher *p);
void publisher_start(struct publisher *p);
void publisher_stop(struct publisher *p); /* what is due by now is still published */
/* Publishes what is due. Call once each turn. */
void publisher_turn(struct publisher *p);
/* When publisher_turn has next something to do of itself; UINT64_MAX: never. */
uint64_t publisher_wake_ns(const struct publisher *p);
/* One event on @topic, besides window and rate; publisher_turn sends it. Returns its number. */
uint64_t publisher_publish(struct publisher *p, uint32_t topic);
bool publisher_is_down(const struct publisher *p);
