/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the rig share, for them only: lanes_rig.c (the steps), lanes_log.c (events, and
 * reads of them), lanes_judge.c. */
#pragma once
#include "lanes_reader.h"
#include "lanes_rig.h"
#include "relay/core/client.h"

enum { LANES_STEP_US = 1000, LANES_FRAMES_MAX = 1024 };
#define LANES_START_US UINT64_C(1000000000)

struct lanes_event {
    struct event *event;
    uint64_t id;            /* 0: ephemeral */
    struct lanes_step step; /* what it was made by */
    uint64_t over_us;       /* when it is over; 0: never */
    bool got, excused;
};

/* A page on its way to the worker. */
struct lanes_page {
    bool read;
    size_t events[LANES_STEPS_MAX];
    size_t count;
    uint64_t cursor;
    bool final;
};

struct lanes_world {
    const struct lanes_schedule *schedule;
    size_t cut_at;
    struct lanes_result result;
    uint64_t now_us;

    struct lanes_event events[LANES_STEPS_MAX];
    size_t count;
    size_t log[LANES_STEPS_MAX]; /* of those with an id, in their order */
    size_t logged;

    struct config config;
    struct client_limits limits;
    struct client client;
    bool connected;
    uint64_t asked; /* the cursor that the client came with */
    struct lanes_page page;

    struct buf wire;               /* what the socket has taken on this connection */
    size_t arrived;                /* so much of it the client has */
    size_t ends[LANES_FRAMES_MAX]; /* where frames end in it */
    size_t frames;

    struct lanes_reader reader;
    uint64_t last_id;            /* the client's */
    uint64_t block_id, event_id; /* the highest on this connection */
    uint64_t newest[2][2];       /* of coalesced values, by topic and key */
};

/* The first one counts. */
__attribute__((format(printf, 2, 3))) void lanes_violated(struct lanes_world *w, const char *format,
                                                          ...);

/* lanes_log.c */
struct lanes_event *lanes_make(struct lanes_world *w, const struct lanes_step *step);
struct lanes_event *lanes_find(struct lanes_world *w, const struct event *ev);
bool lanes_is_over(const struct lanes_world *w, const struct lanes_event *e);
void lanes_ask(struct lanes_world *w);
/* The bus reads, or the worker takes what it has read. */
void lanes_page(struct lanes_world *w);

/* lanes_judge.c */
void lanes_judge_block(struct lanes_world *w, const struct lanes_block *block);
/* What must hold of the client at any moment between two steps. */
void lanes_judge_state(struct lanes_world *w);
/* … when w->page has been taken … */
void lanes_judge_page(struct lanes_world *w);
/* … and when everything is at rest. */
void lanes_judge_end(struct lanes_world *w);
