/* SPDX-License-Identifier: Apache-2.0 */
/* When an event leaves for a connection, and the words for it: `priority`, docs/protocol.md 8.1. */
#pragma once
#include "common/err.h"
#include "common/slice.h"

enum lane_kind {
    LANE_INSTANT,   /* at once */
    LANE_BATCHED,   /* with the connection's next flush */
    LANE_COALESCED, /* … and only the latest of its topic and key */
    LANE_APPENDED,  /* … joined with its neighbours of the same topic and key */
    LANE_COUNT,
};

/* ERR_INVALID: no such word. */
NODISCARD enum err lane_parse(struct slice text, enum lane_kind *out);
const char *lane_name(enum lane_kind lane);
