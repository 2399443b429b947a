/* What the parts of the Redis store share: store_redis.c (connections, up and down),
 * store_redis_read.c (looking and reading), store_redis_publish.c. Bus thread. */
#pragma once
#include "relay/redis/redis_channels.h"
#include "relay/redis/redis_inbox.h"
#include "relay/redis/redis_library.h"
#include "relay/redis/redis_reader.h"
#include "relay/redis/redis_sentinel.h"
#include "relay/redis/store_redis.h"

/* One publish request on its way into Redis. It is in the list of its state. */
enum posting_state {
    POSTING_LOOSE,       /* in none: in somebody's hands, or answered */
    POSTING_WAITING,     /* for Redis; perhaps sent before */
    POSTING_SENT,        /* not answered yet */
    POSTING_UNCONFIRMED, /* published, and not yet on enough replicas */
    POSTING_STATES,
};

struct posting {
    struct store_redis *store;
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

struct store_redis_posts {
    struct redis_conn *conn; /* the store's, or one of its own: WAIT holds up what is behind it */
    struct posting_list lists[POSTING_STATES]; /* each in order of arrival */
    size_t count, bytes; /* not answered; bounded by publish.max_waiting, …_bytes */
    size_t waiting;
    uint64_t last_number;
    char token[33];     /* of this process: what makes its keys unlike any other's */
    char obstacle[256]; /* what was last in the way */
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

struct store_redis {
    struct bus *bus;
    const struct store_events *events;
    struct ev_loop *loop;
    struct config *config;
    struct metrics *metrics;
    struct redis_url url;
    struct redis_target *target;
    struct redis_sentinel *sentinel; /* NULL: the URL has the address */
    struct redis_conn *commands;
    struct redis_channels *channels;
    struct redis_library *library;
    struct redis_inbox *inbox;
    struct redis_reader *reader;
    bool library_ready, channels_ready;
    bool unopened;   /* the functions were not there when the namespaces were to be opened */
    bool unrepaired; /* the subscriber was away, and what it missed has not been read yet */
    bool up;         /* the bus has been told */
    bool moved;      /* it is another server than the one before */
    char server[64]; /* which one */
    struct store_redis_posts posts;
    struct log_limit error_limit;
    ev_timer retry; /* after an answer that said "not now" */
};

/* Somebody flushed the functions, or this is a Redis that never had them: loads them. */
void store_redis_library_lost(struct store_redis *s);
bool store_redis_is_missing_function(struct slice error);
void store_redis_open(void *impl, const char *ns, uint64_t seen, bool watched); /* store_ops */

/* store_redis_publish.c: what waits, for how long, and what becomes of it */
void store_redis_publish(void *impl, struct note_publish *note); /* struct store_ops */
void store_redis_posts_drain(void *impl);                        /* struct store_ops */
void store_redis_posts_init(struct store_redis *s);
void store_redis_posts_start(struct store_redis *s);
void store_redis_posts_configure(struct store_redis *s);
void store_redis_posts_end(struct store_redis *s); /* answers all; before the connections go */
/* Something has come back: sends what waits, if it can be sent now. */
void store_redis_posts_release(struct store_redis *s);
/* Remembers why publishing does not work, for answers and log. */
void store_redis_posts_obstacle(struct store_redis *s, const char *what, const char *why);
/* @p is loose. It waits (again) for Redis, in its place by order of arrival, or is given up. */
void store_redis_posts_wait(struct posting *p);
/* The same, after an answer that said "not now". */
void store_redis_posts_hold(struct posting *p, struct slice error);
/* Changes the state, and with it the list. */
void store_redis_posts_move(struct posting *p, enum posting_state state);
/* Hands the note back. Frees @p unless an answer from Redis is still due. */
void store_redis_posts_answer(struct posting *p, unsigned status, enum publish_outcome outcome);

/* store_redis_posting.c: one request's commands and their answers. False: nothing was sent. */
bool store_redis_posting_send(struct posting *p);
void store_redis_posting_free(struct posting *p);

/* store_redis_wait.c: publish.wait_replicas */
void store_redis_wait_init(struct store_redis *s);
void store_redis_wait_end(struct store_redis *s); /* before the store's other connections go */
/* Whether posts are confirmed by replicas, and go out together, with one WAIT behind them. */
bool store_redis_waits(const struct store_redis *s);
/* At the end of a turn: sends WAIT behind what was sent, unless one is out already. */
void store_redis_wait_send(struct store_redis *s);
