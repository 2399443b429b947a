/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's namespaces: who here wants which topics, and what the bus therefore has to watch. A
 * name is watched until nobody has wanted it for 10 s, so that reconnecting clients do not make
 * Redis subscribe anew. Worker thread. */
#pragma once
#include "relay/bus/bus.h"
#include "relay/fanout/census.h"
#include "relay/core/topic_index.h"

struct interest;

/* @bus: where to send NOTE_WATCH and NOTE_UNWATCH as worker @worker. */
struct interest *interest_new(struct inbox *bus, unsigned worker, struct metrics *metrics);
void interest_free(struct interest *interest);

void interest_add(struct interest *interest, struct slice ns, struct slice name,
                  struct topic_sub *sub, void *owner);
void interest_remove(struct interest *interest, struct slice ns, struct topic_sub *sub);
/* topic_index_match() in the namespace. */
void interest_match(struct interest *interest, struct slice ns, struct slice topic,
                    void (*hit)(void *owner, void *arg), void *arg);
/* @ns: SLICE_NONE: of all namespaces. */
void interest_count(struct interest *interest, struct census *census, struct slice ns);
void interest_tick(struct interest *interest, uint64_t now_ms); /* about once a second */
