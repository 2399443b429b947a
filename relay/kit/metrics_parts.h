/* SPDX-License-Identifier: Apache-2.0 */
/* The tables behind metrics.h, for metrics.c, which fills them, and metrics_print.c. */
#pragma once
#include <stddef.h>
#include "relay/kit/metrics.h"

#define METRICS_PREFIX "sse_relay_"
#define METRICS_BUCKETS 17

enum metric_kind {
    METRIC_GAUGE,   /* added up over the threads */
    METRIC_LARGEST, /* gauge: the largest of the threads' */
    METRIC_PER_SET, /* gauge in µs, shown in seconds, one for each thread */
    METRIC_SIGNED,  /* gauge in µs, above or below 0, shown in seconds; one thread sets it */
    METRIC_COUNTER,
};

/* Rows with the same name stand together and are one family. */
struct metrics_row {
    enum metric_kind kind;
    const char *name, *label, *value, *help; /* label, value: NULL when the family has only this */
};
struct metrics_family {
    const char *name, *help;
};
struct metrics_bound {
    uint64_t us;
    const char *seconds;
};
struct metrics_distribution {
    uint64_t buckets[METRICS_BUCKETS + 1];
    uint64_t count, sum_us;
};

extern const struct metrics_row metrics_rows[METRIC_COUNT];
extern const struct metrics_bound metrics_bounds[METRICS_BUCKETS];
extern const struct metrics_family metrics_histograms[HISTOGRAM_COUNT];

extern const struct metrics_family metrics_types_family; /* a counter; label: type */
/* NULL: events are not counted by type. */
const struct strings *metrics_types(const struct metrics *m);
uint64_t metrics_total_type(struct metrics *const *sets, size_t count, unsigned slot);

uint64_t metrics_value(const struct metrics *m, enum metric which);
void metrics_sum_histogram(struct metrics *const *sets, size_t count, enum histogram which,
                           struct metrics_distribution *out);
/* Interpolated within the bucket. The count must not be 0. */
uint64_t metrics_quantile_us(const struct metrics_distribution *d, double q);
