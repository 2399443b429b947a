/* SPDX-License-Identifier: Apache-2.0 */
/* Topics and their logs: what they are given, what they forget, and that some have ended. */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/memory/memory_parts.h"

/* Topics that one call forgets or whose logs it clears because of their age: bounds the work of one
 * publish. */
enum { PRUNE_STEP = 8 };

static void log_trim(struct memory *m, struct memory_topic *topic, size_t keep)
{
    if (topic->log.ring.count == 0)
        return;
    m->log_bytes -= topic->log.bytes;
    memory_log_trim(&topic->log, keep);
    m->log_bytes += topic->log.bytes;
    if (topic->log.ring.count == 0)
        TAILQ_REMOVE(&m->logs, topic, in_logs);
}

void memory_topic_expire(struct memory *m, struct memory_topic *topic, uint64_t now_us)
{
    if (topic->log.ring.count && topic->expires_us < now_us)
        log_trim(m, topic, 0);
}

/* --- ends: docs/protocol.md, 8.4 ------------------------------------------------------------- */

static void due_set(struct memory *m, struct memory_topic *topic, uint64_t due_us)
{
    if (topic->due_us)
        TAILQ_REMOVE(&m->due, topic, in_due);
    topic->due_us = due_us;
    if (due_us)
        TAILQ_INSERT_TAIL(&m->due, topic, in_due);
}

/* Mostly the last one: few ask for a retention of their own. */
static void ended_insert(struct memory *m, struct memory_topic *topic)
{
    struct memory_topic *before = TAILQ_LAST(&m->ended, memory_topics);
    while (before && before->until_us > topic->until_us)
        before = TAILQ_PREV(before, memory_topics, by_age);
    if (before)
        TAILQ_INSERT_AFTER(&m->ended, before, topic, by_age);
    else
        TAILQ_INSERT_HEAD(&m->ended, topic, by_age);
}

void memory_topic_note_end(struct memory *m, struct memory_topic *topic,
                           const struct publication *p, enum topic_end end, uint64_t now_us)
{
    due_set(m, topic, !end && p->end_after_ms ? now_us + p->end_after_ms * 1000 : 0);
    if (!end)
        return;
    uint64_t kept_us = now_us + m->config->log_ttl_ms * 1000;
    topic->end = end;
    topic->until_us = topic->expires_us > kept_us ? topic->expires_us : kept_us;
    TAILQ_REMOVE(&m->topics, topic, by_age);
    ended_insert(m, topic);
}

static void leave_lists(struct memory *m, struct memory_topic *topic)
{
    due_set(m, topic, 0);
    TAILQ_REMOVE(topic->end ? &m->ended : &m->topics, topic, by_age);
}

/* --- forgetting ------------------------------------------------------------------------------ */

void memory_topic_forget(struct memory *m, struct memory_topic *topic)
{
    struct memory_space *space = topic->space;
    if (topic->last > space->horizon) {
        space->horizon = topic->last;
        space->pruned = topic->last;
    }
    log_trim(m, topic, 0);
    leave_lists(m, topic);
    m->topic_count--;
    HASH_DEL(space->topics, topic);
    free(topic->name);
    free(topic);
    if (memory_space_is_idle(space))
        memory_space_rest(m, space);
}

static void ended_prune(struct memory *m, uint64_t now_us)
{
    for (int n = 0; n < PRUNE_STEP; n++) {
        struct memory_topic *first = TAILQ_FIRST(&m->ended);
        if (!first || first->until_us >= now_us)
            return;
        memory_topic_forget(m, first);
    }
}

void memory_topic_prune_all(struct memory *m, uint64_t now_us)
{
    for (int n = 0; n < PRUNE_STEP; n++) {
        struct memory_topic *oldest = TAILQ_FIRST(&m->topics);
        if (!oldest || oldest->last + m->config->index_ttl_ms * 1000 >= now_us)
            break;
        memory_topic_forget(m, oldest);
    }
    ended_prune(m, now_us);
    if (m->topic_count > m->limits.topics)
        memory_topic_forget(m, TAILQ_FIRST(TAILQ_EMPTY(&m->topics) ? &m->ended : &m->topics));
}

void memory_topic_expire_all(struct memory *m, uint64_t now_us)
{
    struct memory_topic *topic = TAILQ_FIRST(&m->logs);
    for (int n = 0; n < PRUNE_STEP; n++) {
        struct memory_topic *oldest = topic;
        if (!oldest)
            return;
        topic = TAILQ_NEXT(oldest, in_logs); /* which, by its log_ttl, may expire sooner */
        memory_topic_expire(m, oldest, now_us);
    }
}

struct memory_topic *memory_topic_find(struct memory_space *space, struct slice name)
{
    struct memory_topic *topic;
    HASH_FIND(hh, space->topics, name.ptr, name.len, topic);
    return topic;
}

struct memory_topic *memory_topic_new(struct memory *m, struct memory_space *space,
                                      struct slice name)
{
    struct memory_topic *topic = mem_zero(1, sizeof(*topic));
    if (memory_space_is_idle(space))
        memory_space_wake(m, space);
    topic->space = space;
    topic->name = slice_dup(name);
    HASH_ADD_KEYPTR(hh, space->topics, topic->name, name.len, topic);
    TAILQ_INSERT_TAIL(&m->topics, topic, by_age);
    m->topic_count++;
    return topic;
}

struct memory_topic *memory_topic_live(struct memory *m, struct memory_space *space,
                                       struct slice name, uint64_t now_us)
{
    struct memory_topic *topic = memory_topic_find(space, name);
    if (!topic || !topic->end || topic->until_us >= now_us)
        return topic;
    memory_topic_forget(m, topic);
    return NULL;
}

/* --- an event more --------------------------------------------------------------------------- */

/* An end trims and shortens nothing that is there, unless it says so. */
static void log_keep(struct memory *m, struct memory_topic *topic, const struct publication *p,
                     uint64_t now_us)
{
    uint64_t ttl_ms = p->log_ttl_ms ? p->log_ttl_ms : m->config->log_ttl_ms;
    uint64_t expires_us = now_us + ttl_ms * 1000;
    if (!p->ends || p->log_ttl_ms || expires_us > topic->expires_us)
        topic->expires_us = expires_us;
    if (!p->ends || p->log_max)
        memory_log_trim(&topic->log, p->log_max ? p->log_max : m->config->log_max_events);
}

/* Takes over the event's reference. */
void memory_topic_append(struct memory *m, struct memory_topic *topic, struct event *ev,
                         const struct publication *p, uint64_t now_us)
{
    uint64_t id = event_id(ev);
    memory_topic_expire(m, topic, now_us);
    if (topic->log.ring.count)
        TAILQ_REMOVE(&m->logs, topic, in_logs);
    TAILQ_INSERT_TAIL(&m->logs, topic, in_logs);
    TAILQ_REMOVE(&m->topics, topic, by_age);
    TAILQ_INSERT_TAIL(&m->topics, topic, by_age);

    m->log_bytes -= topic->log.bytes;
    memory_log_put(&topic->log, (struct memory_entry){ev, id, topic->last});
    log_keep(m, topic, p, now_us);
    m->log_bytes += topic->log.bytes;
    topic->last = id;

    while (m->log_bytes > m->limits.bytes) {
        struct memory_topic *oldest = TAILQ_FIRST(&m->logs);
        log_trim(m, oldest, oldest->log.ring.count - 1);
    }
}
