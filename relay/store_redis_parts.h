/* What the parts of the Redis store share: store_redis.c (connections, up and down),
 * store_redis_read.c (looking and reading), store_redis_publish.c. Bus thread. */
#pragma once
#include "relay/redis_channels.h"
#include "relay/redis_inbox.h"
#include "relay/redis_library.h"
#include "relay/redis_sentinel.h"
#include "relay/store_redis.h"

/* A publish that waits for its answers. */
struct posting {
    struct store_redis *store;
    struct note_publish *note;
    bool partly;               /* EXEC does not roll back: some of a batch was published */
    TAILQ_ENTRY(posting) link; /* while parked: a function was missing, and is being loaded */
};

TAILQ_HEAD(posting_list, posting);

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
    bool library_ready, channels_ready;
    bool unopened;   /* the functions were not there when the namespaces were to be opened */
    bool unrepaired; /* the subscriber was away, and what it missed has not been read yet */
    bool up;         /* the bus has been told */
    struct posting_list parked;
    struct log_limit error_limit, entry_limit;
    ev_timer retry; /* after an answer that said "not now" */
};

/* store_redis.c: an answer that says no for now; what waits is tried again. */
void store_redis_say_no(struct store_redis *s, const char *what, const struct redis_reply *reply);
/* Somebody flushed the functions, or this is a Redis that never had them: loads them. */
void store_redis_library_lost(struct store_redis *s);
bool store_redis_is_missing_function(const struct redis_reply *reply);

/* store_redis_read.c: struct store_ops */
void store_redis_look(void *impl, struct store_look *look);
void store_redis_range(void *impl, struct store_range *range);

/* store_redis_publish.c: struct store_ops */
void store_redis_publish(void *impl, struct note_publish *note);
/* Those that wait for the functions to be loaded. */
void store_redis_publish_parked(struct store_redis *s);
void store_redis_refuse_parked(struct store_redis *s);
