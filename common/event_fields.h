/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of an event before it is rendered, and the bounds of that. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/lane.h"
#include "common/slice.h"
#include "common/topic_end.h"

#define EVENT_ID_MAX ((UINT64_C(1) << 53) - 1)
#define EVENT_PREV_UNKNOWN UINT64_MAX
#define EVENT_RETRY_MS_MAX 86400000 /* a day: docs/protocol.md, 8.1 */
#define EVENT_END_AFTER_MS_MAX 86400000

/* All slices are borrowed. */
struct event_fields {
    uint64_t id;   /* 0: none (ephemeral, raw) */
    uint64_t prev; /* the topic's previous id, 0: none */
    bool has_prev;
    bool has_match;   /* meant only for streams whose grant has each of its pairs */
    int64_t retry_ms; /* -1: none */
    uint64_t twin;    /* of an ephemeral event on several topics: the same for each; 0: none */
    uint64_t ttl_ms;  /* 0: none */
    struct slice ns, topic, type, data;
    struct slice match; /* of one that has_match: flat (match.h); SLICE_NONE: nobody has it */
    enum lane_kind lane;
    bool has_lane;         /* its publisher has said which */
    struct slice key;      /* what it is the latest of, or goes on with; SLICE_NONE: its type */
    enum topic_end end;    /* it is the last of its topic */
    uint64_t end_after_ms; /* its topic ends if nothing follows for so long; 0: it does not */
    bool is_untyped;   /* its publisher gave no type, and its topic may stand for one (or does) */
    uint8_t type_slot; /* what it is counted as: metrics.types */
};
