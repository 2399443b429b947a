/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/pressure.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/mem.h"

struct pressure {
    atomic_uint acting; /* workers */
    unsigned workers;
    atomic_uint_fast64_t oldest_us[]; /* of each; UINT64_MAX: none, or it does not act */
};

struct pressure *pressure_new(unsigned workers)
{
    struct pressure *p = mem_zero(1, sizeof(*p) + workers * sizeof(p->oldest_us[0]));
    p->workers = workers;
    atomic_init(&p->acting, 0);
    for (unsigned i = 0; i < workers; i++)
        atomic_init(&p->oldest_us[i], UINT64_MAX);
    return p;
}

void pressure_free(struct pressure *p)
{
    free(p);
}

bool pressure_is_high(bool was, size_t bytes, size_t limit)
{
    return limit && bytes > (was ? limit - limit / 8 : limit);
}

bool pressure_begin(struct pressure *p)
{
    return atomic_fetch_add(&p->acting, 1) == 0;
}

void pressure_end(struct pressure *p, unsigned worker)
{
    atomic_store(&p->oldest_us[worker], UINT64_MAX);
    atomic_fetch_sub(&p->acting, 1);
}

/* By a share of the oldest one's age, so that what is held comes down from an hour to the youngest
 * in about 30 steps, however many streams hold it and on whichever workers they are. */
uint64_t pressure_before_us(struct pressure *p, unsigned worker, uint64_t oldest_us,
                            uint64_t now_us)
{
    atomic_store(&p->oldest_us[worker], oldest_us);
    uint64_t oldest = oldest_us;
    for (unsigned i = 0; i < p->workers; i++) {
        uint64_t other = atomic_load(&p->oldest_us[i]);
        oldest = other < oldest ? other : oldest;
    }
    if (oldest >= now_us || now_us - oldest <= PRESSURE_YOUNG_US)
        return 0;
    uint64_t before = oldest + (now_us - oldest) / 4 + 1, young = now_us - PRESSURE_YOUNG_US;
    return before < young ? before : young;
}
