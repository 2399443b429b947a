/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/match.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/pattern.h"
#include "relay/core/publication_fields.h"
#include "relay/memory/memory_parts.h"

/* --- what the store asks --------------------------------------------------------------------- */

void memory_open(struct memory *m, struct slice ns, uint64_t seen, uint64_t now_us)
{
    struct memory_space *space = memory_space_get(m, ns, now_us);
    if (memory_space_is_idle(space))
        memory_space_wake(m, space);
    space->open = true;
    if (seen > space->seq)
        space->seq = seen;
    memory_topic_prune_all(m, now_us);
}

void memory_close(struct memory *m, struct slice ns)
{
    struct memory_space *space = memory_space_find(m, ns);
    if (!space || !space->open)
        return;
    space->open = false;
    if (memory_space_is_idle(space))
        memory_space_rest(m, space);
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
    struct memory_topic *topic, *tmp;
    HASH_ITER (hh, space->topics, topic, tmp) {
        struct slice name = slice_of(topic->name);
        if (topic->last > look->cursor && is_wanted(look, name))
            store_look_add(look, name, topic->last, topic->end);
    }
}

void memory_look(struct memory *m, struct store_look *look, uint64_t now_us)
{
    struct memory_space *space = memory_space_get(m, slice_of(look->ns), now_us);
    const struct strings *names = look->moved_only ? NULL : look->names;
    bool search = !names;
    look->position = look->upto = space->seq;
    look->horizon = space->horizon;
    look->pruned = space->pruned == space->horizon;
    for (size_t i = 0; names && i < names->count; i++) {
        struct slice name = slice_of(names->items[i]);
        struct memory_topic *topic = memory_topic_live(m, space, name, now_us);
        if (topic)
            store_look_add(look, name, topic->last, topic->end);
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
    struct memory_space *space = memory_space_find(m, slice_of(range->ns));
    struct memory_topic *topic = space ? memory_topic_find(space, slice_of(range->topic)) : NULL;
    if (topic)
        memory_topic_expire(m, topic, now_us);
    memory_log_read(topic ? &topic->log : &empty, range, now_us);
}

bool memory_has_ids(const struct memory *m, struct slice ns, size_t count, uint64_t now_us)
{
    const struct memory_space *space = memory_space_find(m, ns);
    uint64_t position = space ? space->seq : m->floor;
    position = position > now_us ? position : now_us;
    return position < EVENT_ID_MAX && count <= EVENT_ID_MAX - position;
}

static void post_log(struct memory *m, struct memory_space *space, struct event_fields *fields,
                     const struct publication *p, uint64_t now_us)
{
    /* Not the event that goes out live: what is read from a log has no time of arrival. */
    struct event *ev = store_event(m->config, fields, 0);
    struct memory_topic *topic = memory_topic_find(space, fields->topic);
    bool is_new = !topic;
    if (is_new)
        topic = memory_topic_new(m, space, fields->topic);
    memory_topic_append(m, topic, ev, p, now_us);
    memory_topic_note_end(m, topic, p, fields->end, now_us);
    if (is_new)
        memory_topic_prune_all(m,
                               now_us); /* afterwards: it is the last in the list now, and stays */
}

/* Of the event on any of its topics; its match is put into @match. */
static struct event_fields fields_of(const struct publication *p, struct slice ns,
                                     enum topic_end end, struct buf *match)
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
        .has_lane = publication_has(p, FIELD_PRIORITY) || p->topics.count > 1, /* else instant */
        .key = p->key,
        .end = end,
        .end_after_ms = end ? 0 : p->end_after_ms,
    };
}

/* Whether one of its topics takes no more. */
static bool has_ended(struct memory *m, struct slice ns, const struct publication *p,
                      uint64_t now_us)
{
    struct memory_space *space = memory_space_find(m, ns);
    for (size_t i = 0; space && i < p->topics.count; i++) {
        struct slice name = slice_of(p->topics.items[i]);
        const struct memory_topic *topic = memory_topic_live(m, space, name, now_us);
        if (topic && topic->end)
            return true;
    }
    return false;
}

size_t memory_publish(struct memory *m, struct slice ns, const struct publication *p,
                      uint64_t now_us, uint64_t arrival_us, struct event **events, uint64_t *id)
{
    if (p->once.ptr && memory_once_find(m->once, ns, p->once, now_us, id))
        return 0;
    if (!p->ephemeral && has_ended(m, ns, p, now_us)) {
        *id = NOTE_ID_ENDED;
        return 0;
    }
    return memory_post(m, ns, p, p->ends ? END_DONE : END_NONE, now_us, arrival_us, events, id);
}

static int compare_topics(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of their bytes, as the library in Redis publishes to them: of several a stream has
 * the event by the first (event_compare()). */
static void sort_topics(const struct strings *topics, char *sorted[static PUBLICATION_TOPICS_MAX])
{
    memcpy(sorted, topics->items, topics->count * sizeof(*sorted));
    qsort(sorted, topics->count, sizeof(*sorted), compare_topics);
}

size_t memory_post(struct memory *m, struct slice ns, const struct publication *p,
                   enum topic_end end, uint64_t now_us, uint64_t arrival_us, struct event **events,
                   uint64_t *id)
{
    struct buf match = {0};
    struct event_fields fields = fields_of(p, ns, end, &match);
    char *topics[PUBLICATION_TOPICS_MAX];
    sort_topics(&p->topics, topics);
    memory_topic_expire_all(m, now_us);
    if (p->ephemeral && p->topics.count > 1)
        fields.twin = ++m->twins;
    if (!p->ephemeral) {
        struct memory_space *space = memory_space_get(m, ns, now_us);
        space->seq = space->seq + 1 > now_us ? space->seq + 1 : now_us;
        fields.id = space->seq;
        for (size_t i = 0; i < p->topics.count; i++) {
            fields.topic = slice_of(topics[i]);
            post_log(m, space, &fields, p, now_us);
        }
    }
    for (size_t i = 0; i < p->topics.count; i++) {
        fields.topic = slice_of(topics[i]);
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
    TAILQ_INIT(&m->ended);
    TAILQ_INIT(&m->due);
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
    struct memory_topic *topic;
    while ((topic = TAILQ_FIRST(TAILQ_EMPTY(&m->topics) ? &m->ended : &m->topics)))
        memory_topic_forget(m, topic);
    struct memory_space *space, *tmp;
    HASH_ITER (hh, m->spaces, space, tmp)
        memory_space_free(m, space);
    memory_once_free(m->once);
    config_unref(m->config);
    free(m);
}
