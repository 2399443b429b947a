/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between the bus and where events live: Redis (store_redis.c) or this process
 * (store_memory.c). All of it runs on the bus thread. Operations are asynchronous: `done` is called
 * exactly once, perhaps before the call returns, and never after store_free(). */
#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/event.h"
#include "relay/config/config.h"
#include "relay/kit/metrics.h"
#include "relay/core/note.h"

struct bus;
struct store_name;

struct store_topic {
    char *name;
    uint64_t last;      /* its last id; 0: not in the index */
    bool exact;         /* asked for by name, not only by a pattern */
    enum topic_end end; /* it has ended, by the event `last` */
    uint64_t next; /* replay's: the log has nothing between what was read and this; 0: unread */
};

/* One atomic look at a namespace: where it stands, and which of the wanted topics have moved past a
 * cursor. */
struct store_look {
    const char *ns;
    const struct strings *names; /* topics and patterns; NULL: whatever has moved */
    uint64_t cursor;
    bool moved_only; /* leave out what has not moved (names may be very many) */
    size_t limit;    /* without names: about so many topics, those that moved first; 0: all */
    void (*done)(struct store_look *look,
                 enum err e); /* ERR_AGAIN: the store went away, try again */
    void *arg;
    /* filled: */
    uint64_t position;
    uint64_t upto;    /* up to here `topics` has all that moved; below the position: more follow */
    uint64_t horizon; /* what is older may have been forgotten … */
    bool pruned;      /* … because the index was pruned, not because data was lost */
    bool frozen;      /* nothing can be written now: the position may be below what was given */
    struct store_topic
        *topics; /* every exact name, and what moved and matches a pattern; owned by the look */
    size_t count;
};

struct store_entry {
    struct event *event; /* a reference; NULL: event_is_spent(), only a link of the chain */
    uint64_t id, prev;
    bool has_prev;
};

/* Entries of one topic's log with after < id <= upto: the first @limit, or the last @limit when
 * @reverse. */
struct store_range {
    const char *ns, *topic;
    uint64_t after, upto;
    size_t limit;
    bool reverse;
    void (*done)(struct store_range *range, enum err e);
    void *arg;
    /* filled, in order of ids: */
    struct store_entry *entries; /* owned by the range */
    size_t count;
    bool more;        /* the limit was reached… */
    uint64_t scanned; /* …at this id (the oldest when @reverse); what is passed over counts, too */
};

/* A call of one of the library's functions that is about tickets, revocations or ends. */
struct store_call {
    const char *function; /* static; these three are borrowed until done() */
    const char *ns;
    const struct strings *args;
    /* OK. ERR_DENIED: the function refuses, and answer.items[0] says why. ERR_AGAIN: nothing was
     * done. ERR_CLOSED: nobody knows whether it was. */
    void (*done)(struct store_call *call, enum err e);
    void *arg;
    struct strings answer; /* the elements of the reply, or the one text; the caller's to reset */
};

/* A message for another relay, on its channel. */
struct store_telling {
    const char *tag;   /* of that relay; borrowed until it is sent, at once, as is: */
    struct slice text; /* JSON */
    /* ERR_AGAIN: it may not have been sent. */
    void (*done)(struct store_telling *telling, enum err e);
    void *arg;
    uint64_t heard; /* filled: how many relays hear that channel */
};

/* Makes an event of what the store received, as the configuration has it (events.type_from_topic).
 */
struct event *store_event(const struct config *config, const struct event_fields *fields,
                          uint64_t arrival_us);
/* Fills look->topics from one topic that exists; the store calls it for each it has found. @end:
 * END_NONE, or why it ended with the event @last. */
void store_look_add(struct store_look *look, struct slice topic, uint64_t last, enum topic_end end);
/* Call once after the last, where there are names: adds what is asked for by name and was not
 * found, sorts, drops repeats and what is not wanted. */
void store_look_settle(struct store_look *look);

void store_look_reset(struct store_look *look);
void store_range_reset(struct store_range *range);

enum store_loss {
    STORE_WHOLE,
    STORE_BROKEN, /* something may have been missed … */
    STORE_MOVED,  /* … and this may be another server than before, with another idea of the past */
};

enum store_condition {
    STORE_GOOD,
    STORE_READ_ONLY, /* streams are served from the log, but nothing can be written */
    STORE_CLUSTER,   /* it is a node of a cluster, which nobody here follows: never up */
};

/* What the bus offers to a store. */
struct store_events {
    /* What is published on this name is now certain to be heard. */
    void (*heard)(struct bus *bus, struct store_name *name);
    /* A live event for the workers in @workers (a bit each). The reference is the caller's. */
    void (*deliver)(struct bus *bus, struct event *ev, uint64_t workers);
    /* The store can be written to, though perhaps not be heard yet: every namespace is to be opened
     * again, so that its counter is not below what was seen (a new primary whose clock is behind).
     */
    void (*reachable)(struct bus *bus);
    /* Events can be heard and read. Unless all is WHOLE, something may have been missed: the store
     * has stopped listening (paused itself) until the bus has read that and calls resume(). */
    void (*up)(struct bus *bus, enum store_loss loss);
    void (*down)(struct bus *bus);
    /* A live event of this namespace was let go, perhaps: the log is to be looked at, at once. */
    void (*missed)(struct bus *bus, struct slice ns);
    /* An event on a name whose subject is STORE_CONNECTIONS; the reference is the caller's. */
    void (*addressed)(struct bus *bus, struct event *ev);
    /* A message on a name that is not for events; @text is borrowed. */
    void (*told)(struct bus *bus, const struct store_name *name, struct slice text);
    /* A message on @channel, which a bridge is about (or its glob); all are borrowed. */
    void (*bridged)(struct bus *bus, const struct store_name *name, struct slice channel,
                    struct slice payload);
    /* All that was published before mark() gave this number has been delivered. */
    void (*passed)(struct bus *bus, uint64_t mark);
};

struct store_ops {
    const char *kind; /* "redis", "memory" */
    void (*start)(void *store);
    void (*free)(void *store);
    void (*configure)(void *store, struct config *config); /* takes a reference of its own */
    /* Starts or stops to listen for a name; @name stays valid until unwatch. */
    void (*watch)(void *store, struct store_name *name);
    void (*unwatch)(void *store, struct store_name *name);
    /* The set of workers that want the name has changed. */
    void (*rewatch)(void *store, struct store_name *name);
    /* Makes the namespace known: creates its counter where there is none, never below @seen; hands
     * over the retention settings. @watched: it has clients here, so its inbox is ours to move on,
     * too. Cheap; done again now and then. */
    void (*open)(void *store, const char *ns, uint64_t seen, bool watched);
    void (*close)(void *store, const char *ns); /* nobody watches it here any more */
    void (*look)(void *store, struct store_look *look);
    void (*range)(void *store, struct store_range *range);
    /* Publishes all or nothing; fills status, detail, ids; then bus_published(). */
    void (*publish)(void *store, struct note_publish *publish);
    void (*call)(void *store, struct store_call *call);
    void (*tell)(void *store, struct store_telling *telling);
    /* The node ends within config->drain_ms: what waits is answered by then. NULL: nothing waits.
     */
    void (*drain)(void *store);
    void (*pause)(void *store, bool paused); /* backpressure: stop or go on reading live events */
    /* Asks for `passed`. 0: there can be none now. */
    uint64_t (*mark)(void *store);
    void (*hold)(void *store);   /* stop reading live events until resume() */
    void (*resume)(void *store); /* after up(broken): what was missed has been read */
    /* Any thread. NULL: always good. */
    enum store_condition (*condition)(const void *store);
    /* Any thread: microseconds that the clock which gives the ids is ahead of this machine's. NULL:
     * it is the same. */
    int64_t (*clock_offset_us)(const void *store);
};

struct store {
    const struct store_ops *ops;
    void *impl;
};

/* Any thread, as the operations are. */
enum store_condition store_condition(const struct store *store);
int64_t store_clock_offset_us(const struct store *store);

/* What a name is about. */
enum store_subject {
    STORE_EVENTS,  /* a topic or pattern */
    STORE_REVOKED, /* the namespace's revocations; it has no name */
    STORE_NODE,    /* what relays tell this one, by its tag, which stands in `ns`; no name either */
    STORE_CONNECTIONS, /* events of the namespace for connections of the node with the tag `name` */
    STORE_BRIDGE,      /* a channel of others, or a glob of some; `ns` is not looked at */
};

/* One topic or pattern that some worker wants, or what the bus listens to for itself. The bus owns
 * it; `impl` is the store's. */
struct store_name {
    enum store_subject subject;
    char *ns, *name;
    uint64_t workers; /* a bit each */
    bool heard;
    void *impl;
};
