/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/interest.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/connection_topic.h"
#include "relay/kit/wheel.h"

enum { LINGER_MS = 10000, TICK_MS = 1000 };

struct space {
    char *ns;
    struct topic_index *index;
    UT_hash_handle hh;
};

/* A name that the bus watches for us. */
struct watched {
    struct wheel_entry
        linger; /* first: the wheel hands this pointer back; set while nobody wants the name */
    char *key;  /* ns, NUL, name, NUL */
    size_t ns_len, key_len;
    UT_hash_handle hh;
};

struct interest {
    struct inbox *bus;
    unsigned worker;
    struct metrics *metrics;
    struct space *spaces;
    struct watched *watched;
    struct wheel *wheel;
};

static void send_name(struct interest *interest, const struct watched *w, enum note_kind kind)
{
    struct note_name *note = mem_zero(1, sizeof(*note));
    note->note.kind = kind;
    note->worker = interest->worker;
    note->ns = mem_dup(w->key, w->ns_len);
    note->name = mem_dup(w->key + w->ns_len + 1, w->key_len - w->ns_len - 1);
    inbox_push(interest->bus, &note->note.item);
}

static void watched_free(struct interest *interest, struct watched *w)
{
    HASH_DEL(interest->watched, w);
    free(w->key);
    free(w);
}

static void on_lingered(struct wheel_entry *entry, void *arg)
{
    struct interest *interest = arg;
    struct watched *w = (struct watched *)entry;
    send_name(interest, w, NOTE_UNWATCH);
    watched_free(interest, w);
}

static struct watched *watched_find(struct interest *interest, struct slice ns, struct slice name,
                                    bool create)
{
    struct buf key = {0};
    struct watched *w;
    name_put_lookup(&key, ns, name);
    HASH_FIND(hh, interest->watched, key.ptr, key.len, w);
    if (!w && create) {
        w = mem_zero(1, sizeof(*w));
        w->ns_len = ns.len;
        w->key_len = key.len;
        w->key = mem_dup(key.ptr, key.len);
        HASH_ADD_KEYPTR(hh, interest->watched, w->key, w->key_len, w);
        send_name(interest, w, NOTE_WATCH);
    }
    buf_reset(&key);
    return w;
}

static struct space *space_find(struct interest *interest, struct slice ns)
{
    struct space *space;
    HASH_FIND(hh, interest->spaces, ns.ptr, ns.len, space);
    return space;
}

void interest_add(struct interest *interest, struct slice ns, struct slice name,
                  struct topic_sub *sub, void *owner)
{
    struct space *space = space_find(interest, ns);
    if (!space) {
        space = mem_zero(1, sizeof(*space));
        space->ns = slice_dup(ns);
        space->index = topic_index_new();
        HASH_ADD_KEYPTR(hh, interest->spaces, space->ns, ns.len, space);
    }
    if (!topic_index_add(space->index, name, sub, owner))
        return;
    metrics_add(interest->metrics, M_TOPICS, 1);
    wheel_cancel(&watched_find(interest, ns, name, true)->linger);
}

void interest_remove(struct interest *interest, struct slice ns, struct topic_sub *sub)
{
    struct space *space = space_find(interest, ns);
    char *name = slice_dup(topic_sub_name(sub));
    if (topic_index_remove(space->index, sub)) {
        struct watched *w = watched_find(interest, ns, slice_of(name), false);
        wheel_set(interest->wheel, &w->linger, clock_mono_ms() + LINGER_MS);
        metrics_sub(interest->metrics, M_TOPICS, 1);
    }
    free(name);
    if (topic_index_names(space->index) == 0) {
        HASH_DEL(interest->spaces, space);
        topic_index_free(space->index);
        free(space->ns);
        free(space);
    }
}

void interest_match(struct interest *interest, struct slice ns, struct slice topic,
                    void (*hit)(void *owner, void *arg), void *arg)
{
    struct space *space = space_find(interest, ns);
    if (space)
        topic_index_match(space->index, topic, hit, arg);
}

struct count_args {
    struct census *census;
    struct slice ns;
};

static void count_name(struct slice name, size_t subscribers, void *arg)
{
    struct count_args *args = arg;
    if (connection_topic_is(name)) /* whoever knows it may pause the stream */
        return;
    census_add(args->census, args->ns, name, subscribers);
}

static void count_space(const struct space *space, struct census *census)
{
    struct count_args args = {census, slice_of(space->ns)};
    topic_index_each(space->index, count_name, &args);
}

void interest_count(struct interest *interest, struct census *census, struct slice ns)
{
    struct space *space, *tmp;
    if (!ns.ptr) {
        HASH_ITER (hh, interest->spaces, space, tmp)
            count_space(space, census);
    } else if ((space = space_find(interest, ns))) {
        count_space(space, census);
    }
}

void interest_tick(struct interest *interest, uint64_t now_ms)
{
    wheel_advance(interest->wheel, now_ms);
}

struct interest *interest_new(struct inbox *bus, unsigned worker, struct metrics *metrics)
{
    struct interest *interest = mem_zero(1, sizeof(*interest));
    interest->bus = bus;
    interest->worker = worker;
    interest->metrics = metrics;
    interest->wheel = wheel_new(TICK_MS, clock_mono_ms(), on_lingered, interest);
    return interest;
}

void interest_free(struct interest *interest)
{
    if (!interest)
        return;
    struct watched *w, *next_w;
    HASH_ITER (hh, interest->watched, w, next_w)
        watched_free(interest, w);
    struct space *space, *next_space;
    HASH_ITER (hh, interest->spaces, space, next_space) {
        HASH_DEL(interest->spaces, space);
        topic_index_free(space->index);
        free(space->ns);
        free(space);
    }
    wheel_free(interest->wheel);
    free(interest);
}
