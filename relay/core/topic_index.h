/* SPDX-License-Identifier: Apache-2.0 */
/* Who wants what: topics and patterns of one namespace to their subscribers. One thread, no I/O.
 * Matching a topic costs one hash lookup plus a walk of the token tree, whatever the number of
 * subscribers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/slice.h"

struct topic_index;
struct topic_node;

/* One subscription, embedded in its owner; it must not move while it is in an index. */
struct topic_sub {
    void *owner;             /* set by topic_index_add */
    struct topic_node *node; /* NULL: in no index */
    uint32_t slot;
    bool marked; /* the owner's own */
};

struct topic_index *topic_index_new(void);
void topic_index_free(struct topic_index *index); /* must be empty of subscribers */

/* Adds a subscription to a valid topic or pattern. True: the name had no subscriber before. */
bool topic_index_add(struct topic_index *index, struct slice name, struct topic_sub *sub,
                     void *owner);
/* O(1). True: it was the name's last subscriber (the name is then forgotten; copy it before if
 * needed). */
bool topic_index_remove(struct topic_index *index, struct topic_sub *sub);
struct slice topic_sub_name(const struct topic_sub *sub); /* borrowed while subscribed */

/* Calls @hit for each matching subscription: an owner with several that match is told several
 * times. @hit must not add or remove subscriptions. */
void topic_index_match(struct topic_index *index, struct slice topic,
                       void (*hit)(void *owner, void *arg), void *arg);

size_t topic_index_names(const struct topic_index *index);
/* Each name with its number of subscribers, in no order. */
void topic_index_each(const struct topic_index *index,
                      void (*each)(struct slice name, size_t subscribers, void *arg), void *arg);
