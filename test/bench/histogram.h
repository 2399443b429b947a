/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of durations, log-linear: 128 steps to each power of two, so a percentile is at most 0.8%
 * too high. A plain value of fixed size (about 36 KB). Not thread-safe. */
#pragma once
#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_OCTAVES = 36, /* up to 2^42 ns, more than an hour; beyond counts as that */
    HISTOGRAM_STEPS = 1 << HISTOGRAM_BITS,
    HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * HISTOGRAM_OCTAVES,
};

struct histogram {
    uint64_t count;
    uint64_t min_ns, max_ns; /* exact; 0 while there is no value */
    double sum_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_reset(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t ns);
/* The value that @fraction (0 to 1) of all values do not exceed: the upper end of its bucket, but
 * never more than the greatest value. 0 if there is none. */
uint64_t histogram_at(const struct histogram *h, double fraction);
double histogram_mean(const struct histogram *h);
