/* SPDX-License-Identifier: Apache-2.0 */
/* What memory.c (publishing, looking, reading), memory_ends.c, memory_topic.c and memory_space.c
 * share. Nobody else includes this. */
#pragma once
#include "common/hash.h"
#include "relay/memory/memory.h"
#include "relay/memory/memory_log.h"
#include "relay/memory/memory_once.h"

struct memory_space;

struct memory_topic {
    struct memory_space *space;
    char *name;
    uint64_t last;       /* id */
    uint64_t expires_us; /* of the log */
    enum topic_end end;  /* it has ended, by the event `last` … */
    uint64_t until_us;   /* … and is forgotten then */
    uint64_t due_us;     /* it ends then, if nothing follows; 0: it does not */
    struct memory_log log;
    TAILQ_ENTRY(memory_topic) by_age; /* in memory.topics, or memory.ended */
    TAILQ_ENTRY(memory_topic) in_logs, in_due;
    UT_hash_handle hh;
};

struct memory_space {
    char *ns;
    uint64_t seq, horizon;
    uint64_t pruned; /* what pruning last raised the horizon to */
    bool open;
    struct memory_topic *topics;
    TAILQ_ENTRY(memory_space) idle; /* while it is not open and has no topic */
    UT_hash_handle hh;
};

TAILQ_HEAD(memory_topics, memory_topic);

struct memory {
    uint64_t twins; /* marks given to ephemeral events on several topics */
    struct memory_limits limits;
    struct config *config;
    struct memory_space *spaces;
    TAILQ_HEAD(, memory_space) idle; /* longest first */
    size_t idle_count;
    uint64_t floor; /* highest id of a forgotten namespace: none is given twice, even if the clock
                       is set back */
    struct memory_topics topics; /* of all namespaces, that published to longest ago first */
    struct memory_topics ended;  /* those that have, by the time at which they are forgotten */
    struct memory_topics due;    /* those with due_us, in no order */
    struct memory_topics logs;   /* whose log is not empty, that published to longest ago first */
    size_t topic_count;          /* of topics and ended */
    size_t log_bytes;
    struct memory_once *once;
};

/* --- memory_space.c --------------------------------------------------------------------------- */

struct memory_space *memory_space_find(const struct memory *m, struct slice ns);
struct memory_space *memory_space_get(struct memory *m, struct slice ns, uint64_t now_us);
/* Nobody watches it, and it has no topic: it is among those that may be forgotten. */
bool memory_space_is_idle(const struct memory_space *space);
void memory_space_rest(struct memory *m, struct memory_space *space);
void memory_space_wake(struct memory *m, struct memory_space *space);
void memory_space_free(struct memory *m, struct memory_space *space);

/* --- memory_topic.c --------------------------------------------------------------------------- */

struct memory_topic *memory_topic_find(struct memory_space *space, struct slice name);
/* NULL: there is none, or it had ended and its time is over. */
struct memory_topic *memory_topic_live(struct memory *m, struct memory_space *space,
                                       struct slice name, uint64_t now_us);
struct memory_topic *memory_topic_new(struct memory *m, struct memory_space *space,
                                      struct slice name);
/* Takes over the event's reference. @p says how long the log is to be. */
void memory_topic_append(struct memory *m, struct memory_topic *topic, struct event *ev,
                         const struct publication *p, uint64_t now_us);
/* The topic has just been given @p, by which it ends (or not: END_NONE). */
void memory_topic_note_end(struct memory *m, struct memory_topic *topic,
                           const struct publication *p, enum topic_end end, uint64_t now_us);
/* Its log, where its time is over. */
void memory_topic_expire(struct memory *m, struct memory_topic *topic, uint64_t now_us);
/* Says so in the horizon: a cursor below it may have missed something. */
void memory_topic_forget(struct memory *m, struct memory_topic *topic);
/* A few of all: logs that have expired, topics that are too old or too many. */
void memory_topic_expire_all(struct memory *m, uint64_t now_us);
void memory_topic_prune_all(struct memory *m, uint64_t now_us);

/* --- memory.c --------------------------------------------------------------------------------- */

/* An event that is certain to be taken; @end: why its topics end by it. As memory_publish(). */
size_t memory_post(struct memory *m, struct slice ns, const struct publication *p,
                   enum topic_end end, uint64_t now_us, uint64_t arrival_us, struct event **events,
                   uint64_t *id);
