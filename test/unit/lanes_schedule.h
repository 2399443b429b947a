/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to one stream and its client, step by step, drawn at random, and as a line of text:
 *
 *     POLICY[,chunked][,silent|,ids][,slow-log][,all-types][,events=N][,bytes=N] STEP;STEP;...
 *
 * The steps are those that docs/model/lanes.py prints, and some that are about bytes. */
#pragma once
#include "common/buf.h"
#include "common/event.h"
#include "relay/config/config.h"
#include "rng.h"

enum lanes_act {
    ACT_PUB,     /* an event */
    ACT_LATE,    /* one that turns up after one with a higher id */
    ACT_WRITE,   /* the socket takes n blocks */
    ACT_TAKE,    /* the socket takes n bytes */
    ACT_ARRIVE,  /* n blocks arrive of what the socket has */
    ACT_LAND,    /* n bytes arrive */
    ACT_TICK,    /* the flush is due */
    ACT_BEAT,    /* a heartbeat is */
    ACT_PAGE,    /* a read of the log goes on */
    ACT_NOTE,    /* a control event without id */
    ACT_GAP,     /* one with an id */
    ACT_RELIEVE, /* the node has too much: what came n steps ago and before is to go */
    ACT_PAUSE,
    ACT_RESUME,
    ACT_CUT,
    ACT_END, /* a clean one */
    ACT_CONNECT,
    ACT_COUNT,
};

enum { LANES_STEPS_MAX = 48 };

struct lanes_step {
    enum lanes_act act;
    uint32_t n;
    /* of an event */
    enum lane_kind lane;
    char topic, key;
    bool wanted, ephemeral, ends;
    uint32_t ttl; /* steps; 0: none. Of a late one: how many steps it is late */
};

struct lanes_schedule {
    enum slow_policy policy;
    enum config_control control;
    bool chunked;
    bool slow_log; /* a read takes two ACT_PAGE, and live events are held meanwhile */
    bool all_types;
    uint32_t max_events;
    uint32_t max_bytes;
    size_t count;
    struct lanes_step steps[LANES_STEPS_MAX];
};

void lanes_schedule_draw(struct lanes_schedule *s, struct rng *rng);
void lanes_schedule_put(const struct lanes_schedule *s, struct buf *b);
/* False: it is none. */
bool lanes_schedule_read(struct lanes_schedule *s, const char *line);
