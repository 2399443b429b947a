/* SPDX-License-Identifier: Apache-2.0 */
/* How long a loop's turns take: what one thread does between two waits, it makes all others of that
 * thread wait for. */
#pragma once
#include <ev.h>

#include "relay/kit/metrics.h"

#define LOOP_LAG_PERIOD_S 10.0 /* of all threads, so that their figures can be compared */

struct loop_lag;

/* Sets M_LOOP_LAG_US of @metrics (borrowed) every @period_s seconds to the longest turn since the
 * time before. All on the loop's thread, or before it runs. */
struct loop_lag *loop_lag_new(struct ev_loop *loop, struct metrics *metrics, double period_s);
/* Before the loop is destroyed. NULL is fine. */
void loop_lag_free(struct loop_lag *lag);
