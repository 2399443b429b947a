/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers for tests: repeatable by TEST_SEED, which is printed when a test draws its seed.
 */
#pragma once
#include "common/clock.h"
#include <stdio.h>
#include <stdlib.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
    /* splitmix64 */
    uint64_t z = (rng->state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Below @bound, which is not 0. */
static inline size_t rng_below(struct rng *rng, size_t bound)
{
    return (size_t)(rng_next(rng) % bound);
}

static inline struct rng rng_seeded(const char *who)
{
    const char *given = getenv("TEST_SEED");
    struct rng rng = {given != NULL ? strtoull(given, NULL, 10) : clock_wall_us()};
    printf("%s: TEST_SEED=%llu\n", who, (unsigned long long)rng.state);
    fflush(stdout);
    return rng;
}
