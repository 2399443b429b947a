/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/tail.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/buf.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "common/ring.h"
#include "relay/core/id_map.h"

enum {
    TOPICS_MAX = 65536,
    TAIL_COST = 192,  /* about what a topic takes beside its name … */
    EVENT_COST = 192, /* … and an event beside its frame */
    TOPIC_SHARE = 4,  /* no topic takes more than this part of all bytes */
    RING_START = 8,
};

/* Looking for an event on all topics costs 3 ms with 65,536 of them, and a failover may ask for
 * thousands of events. To map all ids costs some times as much, once, and what is added meanwhile
 * is mapped, too, until that was as much again. Nobody pays who does not ask. */
enum {
    MAP_AFTER = 8,       /* searches, since it was dropped */
    MAP_TOPICS = 256,    /* with fewer a search is cheap */
    MAP_EVENTS = 524288, /* with more of them they are searched for: bounds the map */
};

struct tail {
    char *key; /* ns, NUL, topic; NULL: it is gone, but for the map */
    size_t key_len;
    uint64_t from, last; /* every event with from < id <= last is in the ring, in order of ids */
    uint64_t began;      /* its chain has been heard from there on: below it nothing was */
    size_t bytes;
    struct ring ring;
    enum topic_end end;     /* the topic has ended, by the event `last` */
    struct event **events;  /* its slots */
    TAILQ_ENTRY(tail) link; /* by when it was last added to */
    UT_hash_handle hh;
};

struct tails {
    struct tail *table;
    TAILQ_HEAD(tail_list, tail) order;
    struct tail *full; /* those before it in the order have no events, but for their chain */
    size_t count, bytes, events;
    uint32_t max_events;
    size_t max_bytes;
    struct id_map *map; /* which tails have, or had, the events; NULL: nobody asks */
    size_t map_max;
    unsigned searches;
    struct tail_list gone; /* tails that the map may still name … */
    size_t gone_count;     /* … at most TOPICS_MAX of them */
    struct buf key;        /* scratch */
};

/* --- which topics have an event --------------------------------------------------------------- */

static void map_drop(struct tails *tails)
{
    struct tail *t;
    while ((t = TAILQ_FIRST(&tails->gone))) {
        TAILQ_REMOVE(&tails->gone, t, link);
        free(t);
    }
    id_map_free(tails->map);
    tails->map = NULL;
    tails->gone_count = tails->searches = 0;
}

/* Something is added: when the map is full, this is the time for it to go. */
static void map_add(struct tails *tails, struct tail *t, const struct event *ev)
{
    if (!tails->map)
        return;
    if (id_map_count(tails->map) < tails->map_max)
        id_map_add(tails->map, event_id(ev), t);
    else
        map_drop(tails);
}

/* --- one topic -------------------------------------------------------------------------------- */

static struct event **slot_at(const struct tail *t, uint32_t i)
{
    return &t->events[ring_at(&t->ring, i)];
}

static void account(struct tails *tails, struct tail *t, size_t more, size_t less)
{
    t->bytes = t->bytes + more - less;
    tails->bytes = tails->bytes + more - less;
}

static size_t event_cost(const struct event *ev)
{
    return event_frame(ev).len + EVENT_COST;
}

/* How many of the ring's events have an id up to @id. */
static uint32_t events_upto(const struct tail *t, uint64_t id)
{
    uint32_t low = 0, high = t->ring.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (event_id(*slot_at(t, middle)) <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool events_have(const struct tail *t, uint64_t id)
{
    uint32_t upto = events_upto(t, id);
    return upto && event_id(*slot_at(t, upto - 1)) == id;
}

static bool is_of(const struct tail *t, struct slice ns)
{
    return t->key_len > ns.len && !t->key[ns.len] && memcmp(t->key, ns.ptr, ns.len) == 0;
}

static struct slice topic_of(const struct tail *t, struct slice ns)
{
    return (struct slice){t->key + ns.len + 1, t->key_len - ns.len - 1};
}

/* Puts it at index @at; what is behind moves up. */
static void events_insert(struct tails *tails, struct tail *t, uint32_t at, struct event *ev)
{
    if (t->ring.count == t->ring.cap)
        t->events = ring_grow(&t->ring, t->events, sizeof(*t->events), RING_START);
    for (uint32_t i = t->ring.count++; i > at; i--)
        *slot_at(t, i) = *slot_at(t, i - 1);
    *slot_at(t, at) = event_ref(ev);
    tails->events++;
    account(tails, t, event_cost(ev), 0);
    map_add(tails, t, ev);
}

static void events_drop_oldest(struct tails *tails, struct tail *t)
{
    struct event *ev = t->events[ring_pop(&t->ring)];
    t->from = event_id(ev);
    tails->events--;
    account(tails, t, 0, event_cost(ev));
    event_unref(ev);
}

/* --- all topics ------------------------------------------------------------------------------- */

static void order_remove(struct tails *tails, struct tail *t)
{
    if (tails->full == t)
        tails->full = TAILQ_NEXT(t, link);
    TAILQ_REMOVE(&tails->order, t, link);
}

static void order_append(struct tails *tails, struct tail *t)
{
    TAILQ_INSERT_TAIL(&tails->order, t, link);
    tails->full = tails->full ? tails->full : t;
}

static void events_drop_all(struct tails *tails, struct tail *t)
{
    while (t->ring.count)
        events_drop_oldest(tails, t);
    free(t->events);
    t->events = NULL;
    t->ring = (struct ring){0};
}

static void tail_free(struct tails *tails, struct tail *t)
{
    events_drop_all(tails, t);
    account(tails, t, 0, TAIL_COST + t->key_len);
    HASH_DEL(tails->table, t);
    order_remove(tails, t);
    tails->count--;
    free(t->key);
    t->key = NULL;
    if (!tails->map) {
        free(t);
        return;
    }
    TAILQ_INSERT_TAIL(&tails->gone, t, link);
    if (++tails->gone_count > TOPICS_MAX)
        map_drop(tails);
}

static struct tail *find_key(struct tails *tails, struct slice key)
{
    struct tail *t;
    HASH_FIND(hh, tails->table, key.ptr, key.len, t);
    return t;
}

static struct tail *find(struct tails *tails, struct slice ns, struct slice topic)
{
    buf_clear(&tails->key);
    name_put_lookup(&tails->key, ns, topic);
    return find_key(tails, buf_slice(&tails->key));
}

static struct tail *tail_new(struct tails *tails, struct slice key, uint64_t last)
{
    struct tail *t = mem_zero(1, sizeof(*t));
    t->key = mem_dup(key.ptr, key.len);
    t->key_len = key.len;
    t->from = t->last = t->began = last;
    HASH_ADD_KEYPTR(hh, tails->table, t->key, t->key_len, t);
    order_append(tails, t);
    tails->count++;
    account(tails, t, TAIL_COST + t->key_len, 0);
    return t;
}

/* @t has just been used: it goes last. */
static void trim(struct tails *tails, struct tail *t)
{
    while (t->ring.count > tails->max_events ||
           (t->ring.count && t->bytes > tails->max_bytes / TOPIC_SHARE))
        events_drop_oldest(tails, t);
    if (TAILQ_NEXT(t, link)) {
        order_remove(tails, t);
        order_append(tails, t);
    }
    /* Events go first: the chains cost little, and without them nobody sees what is missing. */
    while (tails->bytes > tails->max_bytes && tails->full && tails->full != t) {
        events_drop_all(tails, tails->full);
        tails->full = TAILQ_NEXT(tails->full, link);
    }
    while (tails->count > TOPICS_MAX || tails->bytes > tails->max_bytes) {
        struct tail *oldest = TAILQ_FIRST(&tails->order);
        if (oldest == t)
            return;
        tail_free(tails, oldest);
    }
}

struct tails *tails_new(void)
{
    struct tails *tails = mem_zero(1, sizeof(*tails));
    TAILQ_INIT(&tails->order);
    TAILQ_INIT(&tails->gone);
    return tails;
}

void tails_free(struct tails *tails)
{
    if (!tails)
        return;
    struct tail *t;
    while ((t = TAILQ_FIRST(&tails->order)))
        tail_free(tails, t);
    map_drop(tails);
    buf_reset(&tails->key);
    free(tails);
}

void tails_limit(struct tails *tails, uint32_t max_events, size_t max_bytes)
{
    struct tail *t, *next;
    tails->max_events = max_events;
    tails->max_bytes = max_bytes;
    for (t = TAILQ_FIRST(&tails->order); t; t = next) {
        next = TAILQ_NEXT(t, link);
        while (t->ring.count > max_events)
            events_drop_oldest(tails, t);
        if (tails->bytes > max_bytes)
            tail_free(tails, t);
    }
}

/* --- adding ----------------------------------------------------------------------------------- */

enum tail_add tails_add(struct tails *tails, struct event *ev)
{
    uint64_t id = event_id(ev), prev = event_prev(ev);
    assert(id);
    struct tail *t = find_key(tails, event_key(ev));
    /* A chain that begins here tells nothing of what was before: Redis may have lost it. */
    if (!t)
        t = tail_new(tails, event_key(ev), prev && prev < id ? prev : id - 1);
    if (id <= t->began)
        return TAIL_KNOWN;
    if (id <= t->from)
        return TAIL_OLD;
    if (id <= t->last)
        return events_have(t, id) ? TAIL_KNOWN : TAIL_LATE;
    /* A `prev` that is not below the id says nothing; one below the last that is known comes from a
     * Redis that has forgotten it: what we have heard is whole all the same. */
    if (prev < id && prev > t->last)
        return TAIL_HOLE;
    t->last = id;
    t->end = event_end(ev);
    events_insert(tails, t, t->ring.count, ev);
    trim(tails, t);
    return TAIL_NEXT;
}

void tails_insert(struct tails *tails, struct event *ev)
{
    struct tail *t = find_key(tails, event_key(ev));
    if (!t || event_id(ev) <= t->from)
        return; /* that far back it is not whole anyway */
    events_insert(tails, t, events_upto(t, event_id(ev)), ev);
    trim(tails, t);
}

void tails_fill(struct tails *tails, struct slice ns, struct slice topic, uint64_t from,
                uint64_t upto, uint64_t last, struct event *const *events, size_t count)
{
    struct tail *t = find(tails, ns, topic);
    if (!t) { /* from the end on, downwards: as if an event after @last had just been added */
        last = last ? last : from;
        t = tail_new(tails, buf_slice(&tails->key), last);
        upto = last;
    }
    if (from >= t->from || upto < t->from)
        return; /* brings nothing, or leaves something out between */
    while (count && event_id(events[count - 1]) > t->from)
        count--;
    size_t room = t->ring.count < tails->max_events ? tails->max_events - t->ring.count : 0;
    size_t first = count > room ? count - room : 0;
    for (size_t i = first; i < count; i++)
        events_insert(tails, t, (uint32_t)(i - first), events[i]);
    t->from = first ? event_id(events[first - 1]) : from;
    trim(tails, t);
}

void tails_fill_end(struct tails *tails, struct slice ns, struct slice topic, uint64_t last,
                    enum topic_end end)
{
    struct tail *t = find(tails, ns, topic);
    if (t && t->last == last)
        t->end = end;
}

/* --- twins ------------------------------------------------------------------------------------ */

static void map_make(struct tails *tails)
{
    struct tail *t;
    tails->map = id_map_new(2 * tails->events);
    tails->map_max = 2 * tails->events;
    TAILQ_FOREACH (t, &tails->order, link)
        for (uint32_t i = 0; i < t->ring.count; i++)
            id_map_add(tails->map, event_id(*slot_at(t, i)), t);
}

static bool is_twin(const struct tail *t, const struct event *ev)
{
    struct slice ns = event_ns(ev);
    return events_have(t, event_id(ev)) && is_of(t, ns) &&
           !slice_eq(topic_of(t, ns), event_topic(ev));
}

static const struct tail *find_mapped(const struct tails *tails, const struct event *ev)
{
    const struct tail *t;
    size_t at = 0;
    while ((t = id_map_next(tails->map, event_id(ev), &at)))
        if (is_twin(t, ev)) /* it may have gone since, and others with it */
            return t;
    return NULL;
}

static const struct tail *find_twin(struct tails *tails, const struct event *ev)
{
    const struct tail *t;
    if (tails->map)
        return find_mapped(tails, ev);
    if (tails->count >= MAP_TOPICS && tails->events <= MAP_EVENTS &&
        ++tails->searches > MAP_AFTER) {
        map_make(tails);
        return find_mapped(tails, ev);
    }
    TAILQ_FOREACH (t, &tails->order, link)
        if (is_twin(t, ev))
            return t;
    return NULL;
}

char *tails_twin(struct tails *tails, struct event *ev)
{
    const struct tail *t = find_twin(tails, ev);
    return t ? slice_dup(topic_of(t, event_ns(ev))) : NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

uint64_t tails_last(struct tails *tails, struct slice ns, struct slice topic)
{
    const struct tail *t = find(tails, ns, topic);
    return t ? t->last : 0;
}

enum topic_end tails_ended(struct tails *tails, struct slice ns, struct slice topic)
{
    const struct tail *t = find(tails, ns, topic);
    return t ? t->end : END_NONE;
}

bool tails_cover(struct tails *tails, struct slice ns, struct slice topic, uint64_t cursor)
{
    const struct tail *t = find(tails, ns, topic);
    return t && cursor >= t->from;
}

size_t tails_read(struct tails *tails, struct slice ns, struct slice topic, uint64_t cursor,
                  const struct event_clock *now, struct event **out, size_t max)
{
    const struct tail *t = find(tails, ns, topic);
    size_t count = 0;
    if (!t)
        return 0;
    for (uint32_t i = events_upto(t, cursor); i < t->ring.count && count < max; i++) {
        struct event *ev = *slot_at(t, i);
        if (!event_is_spent(ev, now))
            out[count++] = ev;
    }
    return count;
}

/* --- dropping --------------------------------------------------------------------------------- */

void tails_drop(struct tails *tails, struct slice ns, struct slice topic)
{
    struct tail *t = find(tails, ns, topic);
    if (t)
        tail_free(tails, t);
}

void tails_drop_all(struct tails *tails, struct slice ns)
{
    struct tail *t, *next;
    for (t = TAILQ_FIRST(&tails->order); t; t = next) {
        next = TAILQ_NEXT(t, link);
        if (is_of(t, ns))
            tail_free(tails, t);
    }
}

void tails_drop_unless(struct tails *tails, bool (*keep)(void *arg, struct slice key), void *arg)
{
    struct tail *t, *next;
    for (t = TAILQ_FIRST(&tails->order); t; t = next) {
        next = TAILQ_NEXT(t, link);
        if (!keep(arg, (struct slice){t->key, t->key_len}))
            tail_free(tails, t);
    }
}
