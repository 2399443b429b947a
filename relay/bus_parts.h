/* What the parts of the bus share: bus.c (the thread, and what goes to the workers), bus_names.c
 * (who watches what), bus_read.c (clients' reads of the log), bus_repair.c (what a broken
 * connection missed). Bus thread, all of it. */
#pragma once
#include <stdatomic.h>

#include "common/hash.h"
#include "relay/bus.h"
#include "relay/replay.h"

struct job;
TAILQ_HEAD(job_list, job);

/* A namespace with watchers here. */
struct space {
    char *ns;
    uint64_t
        seen; /* all events up to this id went to the workers that wanted them; 0: not known yet */
    bool unrepaired;      /* something may have been missed that the log has not brought yet */
    unsigned names, jobs; /* jobs: reads and repairs under way or waiting */
    UT_hash_handle hh;
};

struct name {
    struct store_name store; /* first: the store hands this pointer back */
    struct space *space;
    UT_hash_handle hh; /* key: ns, NUL, name */
};

struct bus {
    struct ev_loop *loop;
    struct inbox *inbox;
    struct config *config;
    struct metrics *metrics;
    struct store store;
    struct inbox *const *workers;
    unsigned worker_count;
    struct note_events **batches; /* per worker, NULL: none begun */
    struct space *spaces;
    struct space *last_space; /* of the event before: most come from one namespace */
    struct name *names;
    struct job_list waiting; /* reads whose names are not heard yet, or while the store is away */
    bool recheck;            /* some of them may be able to start */
    bool store_up;           /* reads work */
    unsigned repairing;      /* namespaces still being repaired */
    bool paused;
    atomic_bool up;
    ev_prepare flush;
    ev_timer unpause, reopen, repair_again;
    char published_ns[128]; /* the last namespace without watchers here that was published to;
                               settled until the next reopen */
};

/* bus.c: everything to a worker goes through these two, so that it arrives in the order of its
 * making. */
void bus_post(struct bus *bus, unsigned worker, struct note *note);
void bus_deliver(struct bus *bus, struct event *ev, uint64_t workers);
/* The same for what a repair has read; @space may be NULL. */
void bus_deliver_repaired(struct bus *bus, struct space *space, struct event *ev, uint64_t workers);
void bus_count_gap(struct bus *bus, enum gap_reason reason);

/* bus_names.c */
struct space *bus_space_find(struct bus *bus, struct slice ns);
void bus_space_release(struct bus *bus, struct space *space); /* frees it once nothing needs it */
struct name *bus_name_find(struct bus *bus, const char *ns, const char *text);
void bus_take_watch(struct bus *bus, struct note_name *note);
void bus_take_unwatch(struct bus *bus, struct note_name *note);
void bus_spaces_open(struct bus *bus);
void bus_names_free(struct bus *bus);

/* bus_read.c */
void bus_take_read(struct bus *bus, struct note_read *note);
void bus_reads_start(struct bus *bus); /* those that can */
/* At the end: the workers still hold pointers into their notes. */
void bus_reads_return(struct bus *bus);

/* bus_repair.c: for struct store_events */
void bus_repair_again(struct bus *bus); /* what could not be repaired the last time */
void bus_store_up(struct bus *bus, bool broken);
void bus_store_down(struct bus *bus);
