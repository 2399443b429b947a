/* What the parts of the bus share: bus.c (the thread, and what goes to the workers), bus_names.c
 * (who watches what), bus_read.c (clients' reads of the log; bus_job.c: one of them), bus_repair.c
 * (what a broken connection, or the live path, missed), bus_check.c (looks for that). Bus thread,
 * all of it. */
#pragma once
#include <stdatomic.h>

#include "common/hash.h"
#include "relay/bus/bus.h"
#include "relay/core/event_set.h"
#include "relay/kit/log.h"
#include "relay/bus/replay.h"
#include "relay/core/tail.h"
#include "relay/core/topic_index.h"

struct job;
struct lane;
struct repair;
struct check;
TAILQ_HEAD(job_list, job);
TAILQ_HEAD(lane_list, lane);
TAILQ_HEAD(repair_list, repair);
LIST_HEAD(check_list, check);
LIST_HEAD(name_list, name);

/* A namespace with watchers here. */
struct space {
    char *ns;
    uint64_t
        seen; /* all events up to this id went to the workers that wanted them; 0: not known yet */
    uint64_t checked;     /* up to here the index has confirmed that nothing was missed */
    uint64_t repair_from; /* where the next repair begins, if below `seen` */
    bool unrepaired;      /* something may have been missed that the log has not brought yet */
    bool moved;           /* to another server, since it was repaired */
    bool checking;
    bool missed; /* it is to be checked, whatever a check that is under way has seen */
    struct name_list watched;
    unsigned names;               /* in `watched` … */
    struct topic_index *patterns; /* … and those of them that are patterns; NULL: none yet */
    bool lost_pattern;            /* what only that brought is not heard any more */
    unsigned jobs;                /* reads, repairs and checks under way or waiting */
    UT_hash_handle hh;
};

struct name {
    struct store_name store; /* first: the store hands this pointer back */
    struct space *space;
    LIST_ENTRY(name) link; /* in space->watched */
    uint64_t since;        /* the position at its first read: whoever is live on it came later */
    bool was_heard, lost;  /* lost: not heard any more when its namespace was repaired */
    struct topic_sub sub;  /* of a pattern, in space->patterns */
    UT_hash_handle hh;     /* key: ns, NUL, name */
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
    struct tails *tails;
    struct event_set *sent;   /* what went to the workers lately */
    struct event_set *read;   /* what was lately read from the log for clients */
    struct event_set *late;   /* what came after its time, so that the log was asked for it */
    struct event *last_event; /* the same one comes again for the workers of another pattern … */
    bool last_wanted;         /* … and is treated alike */
    struct job_list waiting;  /* reads whose names are not heard yet, or while the store is away */
    struct lane *lanes;       /* reads that can start, by what they ask … */
    struct lane_list lane_queue, lanes_idle; /* … but for those in flight */
    unsigned flights;
    size_t surveyed;                    /* topics in the lanes' surveys */
    bool recheck;                       /* some of them may be able to start */
    unsigned era;                       /* note_read.era */
    bool store_up;                      /* reads work */
    unsigned repairing;                 /* repairs under way */
    struct repair_list repairs_waiting; /* for workers that are behind */
    uint64_t repair_second;             /* which repairs_left is for */
    unsigned repairs_left;
    struct check_list checks;
    bool lost_pattern; /* some namespace has: bus_names_sweep() */
    bool missed;       /* some namespace has: bus_check_missed() */
    struct log_limit hole_limit, invalid_limit;
    bool paused;
    atomic_bool up;
    ev_prepare flush;
    ev_timer unpause, reopen, repair_again, lane_timer, sweep, check;
    char published_ns[128]; /* the last namespace without watchers here that was published to;
                               settled until the next reopen */
};

/* bus.c: everything to a worker goes through these two, so that it arrives in the order of its
 * making. */
void bus_post(struct bus *bus, unsigned worker, struct note *note);
void bus_deliver(struct bus *bus, struct event *ev, uint64_t workers);
/* The same without a look at the topic's chain; @space may be NULL. */
void bus_send(struct bus *bus, struct space *space, struct event *ev, uint64_t workers);
bool bus_workers_behind(struct bus *bus); /* true: the bus is pausing until they are not */
void bus_count_gap(struct bus *bus, enum gap_reason reason);

/* bus_names.c */
struct space *bus_space_find(struct bus *bus, struct slice ns);
void bus_space_release(struct bus *bus, struct space *space); /* frees it once nothing needs it */
/* Up to where nothing of a topic can be missing, while it has no tail to tell: nobody is live on a
 * name before its first read. UINT64_MAX: nobody is. */
uint64_t bus_known_up_to(struct bus *bus, const struct space *space, struct slice topic);
bool bus_has_patterns(const struct space *space);
struct name *bus_name_find(struct bus *bus, const char *ns, struct slice text);
void bus_take_watch(struct bus *bus, struct note_name *note);
void bus_take_unwatch(struct bus *bus, struct note_name *note);
void bus_names_sweep(struct bus *bus); /* before anything is answered from the tails */
void bus_spaces_open(struct bus *bus);
void bus_names_free(struct bus *bus);

/* bus_read.c */
void bus_take_read(struct bus *bus, struct note_read *note);
void bus_reads_start(struct bus *bus);  /* those that can */
void bus_reads_sweep(struct bus *bus);  /* now and then */
void bus_reads_ground(struct bus *bus); /* the store is down: all wait anew */
/* At the end: the workers still hold pointers into their notes. */
void bus_reads_return(struct bus *bus);

/* bus_repair.c: for struct store_events */
/* Reads what is above @cursor, up to @upto, of these topics or patterns, for whoever watches them,
 * or will once the store is back. All that was published up to @upto must have been delivered, or
 * be lost. False: too many at once. */
bool bus_repair_names(struct bus *bus, struct space *space, const struct strings *names,
                      uint64_t cursor, uint64_t upto);
/* The same for all that the index had up to @position and that has not come: once it has been read,
 * and not before, nothing up to there is missing (space->checked). */
bool bus_repair_missing(struct bus *bus, struct space *space, const struct strings *names,
                        uint64_t cursor, uint64_t position);
/* The same for what is missing on the topic of a live event, up to that; with @held it follows, if
 * the log does not have it. */
bool bus_repair_event(struct bus *bus, struct space *space, struct event *ev, uint64_t cursor,
                      bool held);
/* What that refused, so that it is no silent loss: the whole namespace is read from there on, a
 * little later. Its live events are left out until then. */
void bus_repair_later(struct bus *bus, struct space *space, uint64_t cursor);
void bus_repairs_go_on(struct bus *bus); /* workers may have caught up */
void bus_repair_again(struct bus *bus);  /* what could not be repaired the last time */
void bus_store_up(struct bus *bus, enum store_loss loss);
void bus_store_down(struct bus *bus);

/* bus_check.c */
void bus_store_passed(struct bus *bus, uint64_t mark); /* for struct store_events */
void bus_check_all(struct bus *bus);
/* For struct store_events: one namespace, as soon as that can be. */
void bus_store_missed(struct bus *bus, struct slice ns);
void bus_check_missed(struct bus *bus); /* when bus->missed, and nothing is being repaired */
void bus_checks_drop(struct bus *bus);  /* those that wait for a mark: the store is down, or ends */
