/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/flow_level.h"

enum {
    STEP_ONE = 2,
    STEP_MAX = 4,
    CALM_FLUSHES = 4,
    LEAST_MS = 100,
    GREATEST_MS = 10000,
};

static const double factors[STEP_MAX + 1] = {0.25, 0.5, 1, 2, 4};

struct flow_level flow_level_start(void)
{
    return (struct flow_level){.step = STEP_ONE};
}

uint64_t flow_level_interval_ms(const struct flow_level *level, uint64_t flush_ms)
{
    uint64_t least = flush_ms < LEAST_MS ? flush_ms : LEAST_MS;
    uint64_t greatest = flush_ms > GREATEST_MS ? flush_ms : GREATEST_MS;
    uint64_t interval = (uint64_t)((double)flush_ms * factors[level->step]);
    return interval < least ? least : interval > greatest ? greatest : interval;
}

void flow_level_observe(struct flow_level *level, double saturation)
{
    level->calm = saturation < 0.1 ? (uint8_t)(level->calm + 1) : 0;
    if (saturation > 0.5 && level->step < STEP_MAX)
        level->step++;
    if (level->calm < CALM_FLUSHES)
        return;
    level->calm = 0;
    if (level->step > 0)
        level->step--;
}
