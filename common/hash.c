/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hash.h"
#include "common/clock.h"
#include <sys/random.h>

uint64_t hash_seed;

void hash_seed_init(void)
{
    /* Without entropy the clock has to do: guessable, but better than a constant. */
    if (getrandom(&hash_seed, sizeof hash_seed, 0) != (ssize_t)sizeof hash_seed)
        hash_seed = clock_wall_us() * UINT64_C(0x9E3779B97F4A7C15);
}
