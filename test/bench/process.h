/* SPDX-License-Identifier: Apache-2.0 */
/* What processes cost, from /proc. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "options.h"

struct processes { /* zero-initialised is empty */
    int *pids;
    uint32_t count;
};

/* Of a moment, or between two of them. */
struct cpu_time {
    double exact_s; /* of the threads that live, to the nanosecond; 0: the kernel does not tell */
    double user_s, system_s; /* to a clock tick, 10 ms, with threads that ended; between two moments
                                scaled to exact_s, if no thread ended */
};

/* Takes @pids and their children as they are now. False: a message is on stderr. */
bool processes_init(struct processes *p, const struct text_list *pids);
void processes_reset(struct processes *p);
struct cpu_time processes_cpu(const struct processes *p);
struct cpu_time cpu_between(struct cpu_time from, struct cpu_time to);
/* Proportional set size, in bytes: memory that is shared counts for each its part. */
uint64_t processes_pss(const struct processes *p);
