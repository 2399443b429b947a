/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the log: one page of events after a cursor, merged over topics by id, with exact gaps.
 * Bus thread.
 *
 * Was anything missed after the cursor? On each topic the chain of `prev` decides; only where it
 * ends (topic not in the index, first entry without a predecessor, patterns) the namespace's
 * horizon does. docs/protocol.md, "Replay and gaps". */
#pragma once
#include "relay/bus/store.h"

struct replay_item {
    uint64_t id;         /* the event's id; for a gap its `to` */
    struct event *event; /* NULL: a gap */
    /* of a gap: */
    bool moves;    /* no event up to `id` follows: telling the gap may move the client's cursor */
    uint64_t from; /* it stands right behind what came up to here */
    uint64_t next; /* replay.c's own: the id of the event that follows, UINT64_MAX: none known */
    enum gap_reason reason;
    char *topic; /* NULL: of any topic */
};

/* The way back to the last N: the highest ids so far. */
struct replay_walk {
    uint64_t wanted; /* 0: not under way */
    uint64_t *ids;
    size_t count;
};

/* What a page holds so far. */
struct replay_page {
    size_t bytes;
    uint64_t events, last; /* last: the id of its last event */
    uint64_t counted;      /* of them, by the budget */
};

/* What a page has found out about many topics, for the next page of the same names: it need not
 * look at all of them again. */
struct replay_survey {
    size_t least; /* topics: of fewer nothing is kept, another look costs little and tells more */
    /* replay.c's own; zeros: nothing */
    struct store_look look;
    uint64_t from; /* it serves cursors from here to look.position */
};

void replay_survey_reset(struct replay_survey *survey);

struct replay {
    /* what to read; set by the caller, borrowed until `done` */
    const struct store *store;
    const char *ns;
    const struct strings *names;
    /* Whose it is, where that counts: which events CURSOR_LAST and `budget` count. NULL: those
     * that are for everybody. */
    const struct subscription *sub;
    enum cursor_kind kind;
    uint64_t cursor; /* of a CURSOR_SNAPSHOT: the end of its page before; 0: this is the first */
    uint32_t max_events;
    size_t max_bytes;
    uint64_t budget;
    uint64_t gap_told; /* also a result: up to here this connection has been told of gaps */
    size_t batch;      /* topics that are read at a time; 0: a number that is good */
    bool repair; /* for all watchers of a namespace: the horizon alone decides where no chain can …
                  */
    bool moved_only;     /* names are many: leave out what has not moved past the cursor */
    uint64_t upto;       /* what is above comes by itself; 0: no bound */
    size_t snapshot_max; /* topics of a CURSOR_SNAPSHOT */
    uint64_t known;      /* … and up to here nothing was missed, but may be read again; else 0 */
    uint64_t forgotten;  /* a horizon up to here does not count: note_read.horizon */
    struct replay_survey *survey; /* NULL: none; not with a budget or a bound. Used and renewed */
    void (*done)(struct replay *replay,
                 enum err e); /* ERR_AGAIN: the store went away, start again later */
    void *arg;
    /* result, valid until replay_reset() */
    uint64_t start, end, position, horizon;
    bool final;
    bool stale;               /* the position is that of an earlier page, and so it is not final */
    uint64_t topic_last;      /* of a single topic: its last id, 0: none … */
    enum topic_end topic_end; /* … and whether it has ended with that */
    bool unknown;             /* the cursor is not one of this namespace */
    bool frozen; /* store_look.frozen: cursors above the position may be, all the same */
    struct replay_item *items;
    size_t count;
    struct note_end *ends; /* of a final page: the exact topics that have ended, by name */
    size_t end_count;
    /* replay.c's own */
    struct store_look look;
    struct store_range *ranges;
    struct store_topic **sources; /* the topic behind each range */
    size_t range_count, next_range, waiting;
    void (*ranges_taken)(struct replay *r);     /* looks at each batch of them; NULL: nobody does */
    void (*ranges_done)(struct replay *replay); /* r->error, or all of them are read */
    uint64_t narrowed; /* what is above has been let go: the page is full before */
    uint64_t left_out; /* topics that were not read may have something above */
    struct replay_walk walk;
    struct replay_page page;
    void (*snapshot_done)(struct replay *replay);
    uint64_t full; /* a snapshot: of what is from here on some was let go */
    bool stepped;  /* this is not the page's first step */
    enum err error;
};

/* Starts reading; `done` may be called before this returns. */
void replay_start(struct replay *replay);
void replay_reset(struct replay *replay); /* not while it is under way */
