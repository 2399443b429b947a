/* SPDX-License-Identifier: Apache-2.0 */
/* What a Redis that is there is good for: whether it takes writes, or is a node of a cluster. Told
 * in the log. Bus thread, but for redis_condition(). */
#pragma once
#include "relay/bus/store.h"
#include "relay/redis/redis_reply.h"

struct redis_condition;

struct redis_condition *redis_condition_new(void);
void redis_condition_free(struct redis_condition *c);

enum store_condition redis_condition(const struct redis_condition *c); /* any thread */
void redis_condition_set(struct redis_condition *c, enum store_condition condition);

enum redis_writes {
    WRITES_TAKEN,
    WRITES_REFUSED, /* it answers readers only, for now */
    WRITES_BACK,    /* taken again, since this answer */
};
/* @reply is to a call that writes: what it tells. */
enum redis_writes redis_condition_hear(struct redis_condition *c, const struct redis_reply *reply);
