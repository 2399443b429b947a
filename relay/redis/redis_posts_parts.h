/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of redis_posts share: redis_posts.c (what comes in, and when it is sent),
 * redis_posts_send.c (commands and their answers), redis_posts_confirm.c (publish.wait_replicas),
 * redis_posts_queue.c (who waits and for how long), each of which uses those behind it. */
#pragma once
#include <sys/queue.h>

#include "relay/kit/log.h"
#include "relay/redis/redis_posts.h"

/* One publish request on its way into Redis. It is in the list of its state. */
enum posting_state {
    POSTING_LOOSE,       /* in none: in somebody's hands, or answered */
    POSTING_WAITING,     /* for Redis; perhaps sent before */
    POSTING_SENT,        /* not answered yet */
    POSTING_UNCONFIRMED, /* published, and not yet on enough replicas */
    POSTING_STATES,
};

struct posting {
    struct redis_posts *posts;
    struct note_publish *note; /* NULL: answered, as its time was up; Redis's answer is still due */
    enum posting_state state;
    uint64_t number;     /* order of arrival, and part of its keys */
    uint64_t arrived_us; /* monotonic */
    size_t bytes;
    bool keyed;     /* every event has a `once` key: sending it again is harmless */
    bool unknown;   /* an attempt broke before its answer came */
    bool published; /* note->ids are those of Redis */
    bool partly;    /* of a transaction that went wrong, something may have been done */
    char *refusal;  /* why Redis did not queue a command of the transaction; owned */
    TAILQ_ENTRY(posting) link;
};

TAILQ_HEAD(posting_list, posting);

struct redis_posts {
    struct ev_loop *loop;
    struct redis_conn *commands;
    struct redis_conn *conn; /* `commands`, or one of our own: WAIT holds up what is behind it */
    struct config *config;
    const struct redis_posts_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct posting_list lists[POSTING_STATES]; /* each in order of arrival */
    size_t count, bytes; /* not answered; bounded by publish.max_waiting, …_bytes */
    size_t waiting;
    uint64_t last_number;
    char token[33];     /* of this process: what makes its keys unlike any other's */
    char obstacle[256]; /* what was last in the way */
    bool enabled;       /* the functions can be called */
    bool refused;       /* nothing waits for it */
    bool held;          /* Redis said "not now": the first is tried until it passes */
    bool outage;        /* some wait because Redis is away, not only for their turn */
    bool told;          /* the log has been told */
    uint64_t waited;    /* of this outage, sent so far */
    bool wait_out;      /* a WAIT is being waited for: nothing is sent meanwhile */
    bool wait_paused;   /* after a WAIT that failed */
    int64_t confirmed;  /* replicas, by the last WAIT */
    bool ended;
    uint64_t end_us; /* of the drain: nothing waits beyond; 0: none */
    ev_timer due, again;
    ev_prepare turn_end;
    struct log_limit wait_limit, expired_limit, confirm_limit;
};

/* redis_posts_queue.c */
void redis_posts_queue_init(struct redis_posts *posts);
/* Changes the state, and with it the list. */
void redis_posts_move(struct posting *p, enum posting_state state);
/* Hands the note back. Frees @p unless an answer from Redis is still due. */
void redis_posts_answer(struct posting *p, unsigned status, enum publish_outcome outcome);
/* Answers that it did not get through, and what is known of it. @when: up to which moment. */
void redis_posts_give_up(struct posting *p, const char *when);
/* @p is loose. It waits (again) for Redis, in its place by order of arrival, or is given up. */
void redis_posts_wait(struct posting *p);
/* The same, after an answer that said "not now". */
void redis_posts_hold(struct posting *p, struct slice error);
/* @p, whose note has been handed back, and whose answer has come. */
void redis_posts_forget(struct posting *p);
/* After a change of the lists: the timer comes early enough. After one of the times: at the time.
 */
void redis_posts_watch_due(struct redis_posts *posts);
void redis_posts_set_due(struct redis_posts *posts);

/* redis_posts_confirm.c */
/* Whether posts are confirmed by replicas, and go out together, with one WAIT behind them. */
bool redis_posts_confirms(const struct redis_posts *posts);
/* At the end of a turn: sends WAIT behind what was sent, unless one is out already. */
void redis_posts_confirm(struct redis_posts *posts);

/* The connection is gone: what was published on it and is not confirmed waits for the next. */
void redis_posts_unconfirm(struct redis_posts *posts);

/* redis_posts_send.c */
/* @done gets @p and the answer, which is for redis_posts_take(). False: nothing was sent. */
bool redis_posts_send(struct posting *p, redis_done done);
/* What Redis has answered to @p; NULL: the connection broke. Ends a hold, unless it is "not now".
 */
void redis_posts_take(struct posting *p, const struct redis_reply *reply);
