/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/match.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/pattern.h"
#include "relay/core/publication_fields.h"
#include "relay/memory/memory_log.h"
#include "relay/memory/memory_once.h"

/* Topics that one call forgets or whose logs it clears because of their age: bounds the work of one
 * publish. */
enum { PRUNE_STEP = 8 };

struct memory_space;

struct topic {
    struct memory_space *space;
    char *name;
    uint64_t last;       /* id */
    uint64_t expires_us; /* of the log */
    struct memory_log log;
    TAILQ_ENTRY(topic) by_age, in_logs;
    UT_hash_handle hh;
};

struct memory_space {
    char *ns;
    uint64_t seq, horizon;
    uint64_t pruned; /* what pruning last raised the horizon to */
    bool open;
    struct topic *topics;
    TAILQ_ENTRY(memory_space) idle; /* while it is not open and has no topic */
    UT_hash_handle hh;
};

TAILQ_HEAD(topic_list, topic);

struct memory {
    uint64_t twins; /* marks given to ephemeral events on several topics */
    struct memory_limits limits;
    struct config *config;
    struct memory_space *spaces;
    TAILQ_HEAD(, memory_space) idle; /* longest first */
    size_t idle_count;
    uint64_t floor; /* highest id of a forgotten namespace: none is given twice, even if the clock
                       is set back */
    struct topic_list topics; /* of all namespaces, that published to longest ago first */
    struct topic_list logs;   /* those of them whose log is not empty, in the same order */
    size_t topic_count;
    size_t log_bytes;
    struct memory_once *once;
};

/* --- namespaces ------------------------------------------------------------------------------ */

static bool space_is_idle(const struct memory_space *space)
{
    return !space->open && !space->topics;
}

static void space_free(struct memory *m, struct memory_space *space)
{
    HASH_DEL(m->spaces, space);
    free(space->ns);
    free(space);
}

static void idle_remove(struct memory *m, struct memory_space *space)
{
    TAILQ_REMOVE(&m->idle, space, idle);
    m->idle_count--;
}

static void idle_add(struct memory *m, struct memory_space *space)
{
    TAILQ_INSERT_TAIL(&m->idle, space, idle);
    if (++m->idle_count <= m->limits.spaces)
        return;
    struct memory_space *oldest = TAILQ_FIRST(&m->idle);
    idle_remove(m, oldest);
    if (oldest->seq > m->floor)
        m->floor = oldest->seq;
    space_free(m, oldest);
}

static struct memory_space *space_find(const struct memory *m, struct slice ns)
{
    struct memory_space *space;
    HASH_FIND(hh, m->spaces, ns.ptr, ns.len, space);
    return space;
}

static struct memory_space *space_get(struct memory *m, struct slice ns, uint64_t now_us)
{
    struct memory_space *space = space_find(m, ns);
    if (space)
        return space;
    space = mem_zero(1, sizeof(*space));
    space->ns = slice_dup(ns);
    space->seq = now_us > m->floor ? now_us : m->floor;
    space->horizon = space->seq;
    HASH_ADD_KEYPTR(hh, m->spaces, space->ns, ns.len, space);
    idle_add(m, space);
    return space;
}

/* --- topics ---------------------------------------------------------------------------------- */

static void log_trim(struct memory *m, struct topic *topic, size_t keep)
{
    if (topic->log.ring.count == 0)
        return;
    m->log_bytes -= topic->log.bytes;
    memory_log_trim(&topic->log, keep);
    m->log_bytes += topic->log.bytes;
    if (topic->log.ring.count == 0)
        TAILQ_REMOVE(&m->logs, topic, in_logs);
}

static void log_expire(struct memory *m, struct topic *topic, uint64_t now_us)
{
    if (topic->log.ring.count && topic->expires_us < now_us)
        log_trim(m, topic, 0);
}

/* Says so in the horizon: a cursor below it may have missed something. */
static void topic_forget(struct memory *m, struct topic *topic)
{
    struct memory_space *space = topic->space;
    if (topic->last > space->horizon) {
        space->horizon = topic->last;
        space->pruned = topic->last;
    }
    log_trim(m, topic, 0);
    TAILQ_REMOVE(&m->topics, topic, by_age);
    m->topic_count--;
    HASH_DEL(space->topics, topic);
    free(topic->name);
    free(topic);
    if (space_is_idle(space))
        idle_add(m, space);
}

static void topics_prune(struct memory *m, uint64_t now_us)
{
    for (int n = 0; n < PRUNE_STEP; n++) {
        struct topic *oldest = TAILQ_FIRST(&m->topics);
        if (!oldest || oldest->last + m->config->index_ttl_ms * 1000 >= now_us)
            break;
        topic_forget(m, oldest);
    }
    if (m->topic_count > m->limits.topics)
        topic_forget(m, TAILQ_FIRST(&m->topics));
}

static void logs_expire(struct memory *m, uint64_t now_us)
{
    for (int n = 0; n < PRUNE_STEP; n++) {
        struct topic *oldest = TAILQ_FIRST(&m->logs);
        if (!oldest || oldest->expires_us >= now_us)
            return;
        log_trim(m, oldest, 0);
    }
}

static struct topic *topic_find(struct memory_space *space, struct slice name)
{
    struct topic *topic;
    HASH_FIND(hh, space->topics, name.ptr, name.len, topic);
    return topic;
}

static struct topic *topic_new(struct memory *m, struct memory_space *space, struct slice name)
{
    struct topic *topic = mem_zero(1, sizeof(*topic));
    if (space_is_idle(space))
        idle_remove(m, space);
    topic->space = space;
    topic->name = slice_dup(name);
    HASH_ADD_KEYPTR(hh, space->topics, topic->name, name.len, topic);
    TAILQ_INSERT_TAIL(&m->topics, topic, by_age);
    m->topic_count++;
    return topic;
}

/* Takes over the event's reference. */
static void topic_append(struct memory *m, struct topic *topic, struct event *ev, uint64_t now_us)
{
    uint64_t id = event_id(ev);
    log_expire(m, topic, now_us);
    if (topic->log.ring.count)
        TAILQ_REMOVE(&m->logs, topic, in_logs);
    TAILQ_INSERT_TAIL(&m->logs, topic, in_logs);
    TAILQ_REMOVE(&m->topics, topic, by_age);
    TAILQ_INSERT_TAIL(&m->topics, topic, by_age);

    m->log_bytes -= topic->log.bytes;
    memory_log_put(&topic->log, (struct memory_entry){ev, id, topic->last});
    memory_log_trim(&topic->log, m->config->log_max_events);
    m->log_bytes += topic->log.bytes;
    topic->last = id;
    topic->expires_us = now_us + m->config->log_ttl_ms * 1000;

    while (m->log_bytes > m->limits.bytes) {
        struct topic *oldest = TAILQ_FIRST(&m->logs);
        log_trim(m, oldest, oldest->log.ring.count - 1);
    }
}

/* --- what the store asks --------------------------------------------------------------------- */

void memory_open(struct memory *m, struct slice ns, uint64_t seen, uint64_t now_us)
{
    struct memory_space *space = space_get(m, ns, now_us);
    if (space_is_idle(space))
        idle_remove(m, space);
    space->open = true;
    if (seen > space->seq)
        space->seq = seen;
    topics_prune(m, now_us);
}

void memory_close(struct memory *m, struct slice ns)
{
    struct memory_space *space = space_find(m, ns);
    if (!space || !space->open)
        return;
    space->open = false;
    if (space_is_idle(space))
        idle_add(m, space);
}

static bool is_wanted(const struct store_look *look, struct slice topic)
{
    if (look->moved_only || !look->names)
        return true; /* names may be very many; store_look_settle() sorts them out */
    for (size_t i = 0; i < look->names->count; i++) {
        struct slice name = slice_of(look->names->items[i]);
        if (name_is_pattern(name) && pattern_matches(name, topic))
            return true;
    }
    return false;
}

static void look_for_moved(struct memory_space *space, struct store_look *look)
{
    struct topic *topic, *tmp;
    HASH_ITER (hh, space->topics, topic, tmp) {
        struct slice name = slice_of(topic->name);
        if (topic->last > look->cursor && is_wanted(look, name))
            store_look_add(look, name, topic->last);
    }
}

void memory_look(struct memory *m, struct store_look *look, uint64_t now_us)
{
    struct memory_space *space = space_get(m, slice_of(look->ns), now_us);
    const struct strings *names = look->moved_only ? NULL : look->names;
    bool search = !names;
    look->position = look->upto = space->seq;
    look->horizon = space->horizon;
    look->pruned = space->pruned == space->horizon;
    for (size_t i = 0; names && i < names->count; i++) {
        struct slice name = slice_of(names->items[i]);
        struct topic *topic = topic_find(space, name);
        if (topic)
            store_look_add(look, name, topic->last);
        search |= name_is_pattern(name);
    }
    if (search)
        look_for_moved(space, look);
    if (look->names)
        store_look_settle(look);
}

void memory_range(struct memory *m, struct store_range *range, uint64_t now_us)
{
    static const struct memory_log empty;
    struct memory_space *space = space_find(m, slice_of(range->ns));
    struct topic *topic = space ? topic_find(space, slice_of(range->topic)) : NULL;
    if (topic)
        log_expire(m, topic, now_us);
    memory_log_read(topic ? &topic->log : &empty, range, now_us);
}

bool memory_has_ids(const struct memory *m, struct slice ns, size_t count, uint64_t now_us)
{
    const struct memory_space *space = space_find(m, ns);
    uint64_t position = space ? space->seq : m->floor;
    position = position > now_us ? position : now_us;
    return position < EVENT_ID_MAX && count <= EVENT_ID_MAX - position;
}

static void post_log(struct memory *m, struct memory_space *space, struct event_fields *fields,
                     uint64_t now_us)
{
    /* Not the event that goes out live: what is read from a log has no time of arrival. */
    struct event *ev = store_event(m->config, fields, 0);
    struct topic *topic = topic_find(space, fields->topic);
    bool is_new = !topic;
    if (is_new)
        topic = topic_new(m, space, fields->topic);
    topic_append(m, topic, ev, now_us);
    if (is_new)
        topics_prune(m, now_us); /* afterwards: it is the last in the list now, and stays */
}

/* Of the event on any of its topics; its match is put into @match. */
static struct event_fields fields_of(const struct publication *p, struct slice ns,
                                     struct buf *match)
{
    bool readable = p->match.ptr && match_put(match, p->match) == OK;
    return (struct event_fields){
        .retry_ms = publication_has(p, FIELD_RETRY) ? (int64_t)p->retry_ms : -1,
        .has_prev = true,
        .has_match = p->match.ptr != NULL,
        .ttl_ms = p->ttl_ms,
        .ns = ns,
        .type = p->event,
        .data = p->data,
        .match = readable ? buf_slice(match) : SLICE_NONE,
        .lane = p->lane,
        .has_lane = publication_has(p, FIELD_PRIORITY),
        .key = p->key,
    };
}

size_t memory_publish(struct memory *m, struct slice ns, const struct publication *p,
                      uint64_t now_us, uint64_t arrival_us, struct event **events, uint64_t *id)
{
    if (p->once.ptr && memory_once_find(m->once, ns, p->once, now_us, id))
        return 0;
    struct buf match = {0};
    struct event_fields fields = fields_of(p, ns, &match);
    logs_expire(m, now_us);
    if (p->ephemeral && p->topics.count > 1)
        fields.twin = ++m->twins;
    if (!p->ephemeral) {
        struct memory_space *space = space_get(m, ns, now_us);
        space->seq = space->seq + 1 > now_us ? space->seq + 1 : now_us;
        fields.id = space->seq;
        for (size_t i = 0; i < p->topics.count; i++) {
            fields.topic = slice_of(p->topics.items[i]);
            post_log(m, space, &fields, now_us);
        }
    }
    for (size_t i = 0; i < p->topics.count; i++) {
        fields.topic = slice_of(p->topics.items[i]);
        events[i] = store_event(m->config, &fields, arrival_us);
    }
    if (p->once.ptr) {
        uint64_t ttl_ms = p->once_ttl_ms ? p->once_ttl_ms : m->config->once_ttl_ms;
        memory_once_put(m->once, ns, p->once, fields.id, now_us, now_us + ttl_ms * 1000);
    }
    buf_reset(&match);
    *id = fields.id;
    return p->topics.count;
}

/* --- all of it ------------------------------------------------------------------------------- */

struct memory *memory_new(const struct memory_limits *limits, struct config *config)
{
    assert(limits->topics && limits->spaces && limits->bytes && limits->once);
    struct memory *m = mem_zero(1, sizeof(*m));
    m->limits = *limits;
    m->config = config_ref(config);
    m->once = memory_once_new(limits->once);
    TAILQ_INIT(&m->idle);
    TAILQ_INIT(&m->topics);
    TAILQ_INIT(&m->logs);
    return m;
}

void memory_configure(struct memory *m, struct config *config)
{
    struct config *old = m->config;
    m->config = config_ref(config);
    config_unref(old);
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    struct topic *topic;
    while ((topic = TAILQ_FIRST(&m->topics)))
        topic_forget(m, topic);
    struct memory_space *space, *tmp;
    HASH_ITER (hh, m->spaces, space, tmp)
        space_free(m, space);
    memory_once_free(m->once);
    config_unref(m->config);
    free(m);
}
