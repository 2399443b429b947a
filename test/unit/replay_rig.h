/* SPDX-License-Identifier: Apache-2.0 */
/* A replay over a store of scripted topics, for the tests of replay.c. */
#pragma once
#include <check.h>
#include "relay/bus/replay.h"

struct fake_entry {
    uint64_t id, prev;
    bool has_prev, expired;
    bool foreign;      /* not an event of ours: the store passes over it */
    size_t bytes;      /* of data */
    const char *match; /* JSON; NULL: for everybody */
    const char *type;  /* NULL: none */
    uint64_t ttl_ms;   /* 0: none. Ids are of long ago: any other is over */
    enum lane_kind lane;
    const char *key;
};

struct fake_topic {
    char name[16];
    uint64_t last;
    enum topic_end end;
    struct fake_entry entries[256];
    size_t count;
};

struct fake {
    uint64_t position, horizon;
    bool pruned;
    struct fake_topic topics[8];
    size_t topic_count;
    bool away; /* answers ERR_AGAIN */
    bool slow; /* answers ranges only when told to */
    struct store_range *waiting[8];
    size_t waiting_count, ranges, asked; /* asked: entries, in all ranges */
};

struct rig {
    struct replay replay;
    char *names[8];
    struct strings topics;    /* wanted */
    struct subscription *sub; /* NULL: only what is for everybody counts */
    enum err result;
    unsigned done; /* how often */
};

extern struct fake fake;
extern struct rig rig;

void rig_setup(void); /* position and horizon at 100, nothing wanted */
void rig_teardown(void);

struct fake_topic *fake_topic_get(const char *name);
/* An event as it is published: the chain goes on, the index and the position move. */
struct fake_entry *fake_publish(const char *name, uint64_t id);
void fake_trim(const char *name, size_t count); /* the oldest @count entries are gone */
void fake_prune(const char *name); /* the topic is gone from the index, and the horizon says so */
void fake_answer(struct store_range *range);

void rig_want(const char *name);
/* From here on it is read for somebody with this grant; takes the reference. */
void rig_grant(struct grant *grant);
/* … who wants only events of this type. */
void rig_want_type(const char *type);
/* Which of the topics that were asked for have ended: "a=120 end". */
const char *rig_ends(void);
/* Prepares rig.replay. */
void rig_ask(enum cursor_kind kind, uint64_t cursor);
/* Prepares it, and reads a page. */
void rig_run(enum cursor_kind kind, uint64_t cursor);
/* The page in short: an event is its id, a gap (from,to]reason with ! where it does not move the
 * cursor. */
const char *rig_shown(void);

#define ck_page(text, is_final, at)                                                                \
    do {                                                                                           \
        ck_assert_str_eq(rig_shown(), text);                                                       \
        ck_assert_int_eq(rig.replay.final, is_final);                                              \
        ck_assert_uint_eq(rig.replay.end, at);                                                     \
    } while (0)
