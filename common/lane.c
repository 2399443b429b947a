/* SPDX-License-Identifier: Apache-2.0 */
#include "common/lane.h"

static const char *const names[LANE_COUNT] = {"instant", "batched", "coalesced", "appended"};

enum err lane_parse(struct slice text, enum lane_kind *out)
{
    for (size_t i = 0; i < LANE_COUNT; i++)
        if (slice_is(text, names[i])) {
            *out = (enum lane_kind)i;
            return OK;
        }
    return ERR_INVALID;
}

const char *lane_name(enum lane_kind lane)
{
    return names[lane];
}
