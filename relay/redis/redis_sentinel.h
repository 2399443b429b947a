/* SPDX-License-Identifier: Apache-2.0 */
/* Asks Sentinels where the primary is, and moves a target there: at the start, when a Sentinel
 * announces a new one (+switch-master), every few seconds, and whenever a connection to the primary
 * is lost. One Sentinel at a time, the next one when it does not answer. One thread. */
#pragma once
#include "relay/redis/redis_conn.h"

struct redis_sentinel;

/* @url names master and Sentinels. @target: Redis's, moved from here on; both are borrowed. */
struct redis_sentinel *redis_sentinel_new(struct ev_loop *loop, const struct redis_url *url,
                                          const struct config *config, struct redis_target *target,
                                          struct metrics *metrics);
void redis_sentinel_free(struct redis_sentinel *sentinel); /* before the target */
void redis_sentinel_start(struct redis_sentinel *sentinel);
void redis_sentinel_configure(struct redis_sentinel *sentinel, const struct config *config);
