/* SPDX-License-Identifier: Apache-2.0 */
#include "common/event.h"
#include "common/buf.h"
#include "common/event_parts.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "common/sse.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HAS_TTL (UINT32_C(1) << 31)
#define HAS_LANE (UINT32_C(1) << 30)
#define HAS_END (UINT32_C(1) << 29)
#define HAS_ANY (HAS_TTL | HAS_LANE | HAS_END)

/* Its chunk is what its allocation ends with. */
static size_t own_bytes(const struct event *ev)
{
    return (size_t)(ev->own.chunk.ptr + ev->own.chunk.len - (const char *)ev);
}

/* Appends to the allocation under construction; the result's pointer holds the offset until
 * event_seal(). */
static size_t append(struct buf *b, struct slice s)
{
    size_t at = b->len;
    buf_put_slice(b, s);
    return at;
}

static struct buf event_open(size_t estimate)
{
    static const struct event blank;
    struct buf b = {0};
    buf_reserve(&b, sizeof blank + estimate);
    buf_put(&b, &blank, sizeof blank);
    return b;
}

/* Comes last: the event is whole then, and counted. */
static void set_frame(struct event *ev, size_t at, size_t len)
{
    event_form_place(&ev->own, (char *)ev + at, len);
    event_count_in(own_bytes(ev));
}

/* Ends the construction. Data full of line ends makes the buffer grow by doubling: events live in
 * many queues for long, so slack beyond a quarter is given back. */
static struct event *event_seal(struct buf *b)
{
    if (b->cap - b->len > b->cap / 4)
        b->ptr = mem_resize(b->ptr, b->len);
    struct event *ev = (struct event *)(void *)b->ptr;
    atomic_init(&ev->refs, 1);
    return ev;
}

/* CR, LF and NUL dropped, as in the frame, so that type filters see what clients see. */
static size_t append_type(struct buf *b, struct slice type)
{
    size_t at = b->len;
    struct slice rest = type;
    for (size_t i = 0; i <= type.len; i++) {
        if (i < type.len && type.ptr[i] != '\n' && type.ptr[i] != '\r' && type.ptr[i] != '\0')
            continue;
        rest.len = (size_t)(type.ptr + i - rest.ptr);
        buf_put_utf8(b, rest);
        rest.ptr = type.ptr + i + 1;
    }
    return at;
}

/* Returns 0 for an event without. */
static size_t append_match(struct buf *b, const struct event_fields *fields)
{
    if (!fields->has_match)
        return 0;
    return append(b, fields->match.len ? fields->match : (struct slice){"", 1});
}

/* CR, LF and NUL are dropped when it is written. */
static bool type_begins_with(struct slice type, struct slice prefix)
{
    size_t found = 0;
    for (size_t i = 0; i < type.len && found < prefix.len; i++) {
        char c = type.ptr[i];
        if (c == '\r' || c == '\n' || c == '\0')
            continue;
        if (c != prefix.ptr[found])
            return false;
        found++;
    }
    return found == prefix.len;
}

bool event_type_is_reserved(struct slice type, const char *prefix)
{
    struct slice own = slice_of(prefix);
    return type_begins_with(type, SLICE_LIT("relay.")) || (own.len && type_begins_with(type, own));
}

struct event *event_new(const struct event_fields *fields, uint64_t arrival_us)
{
    struct buf b =
        event_open(fields->ns.len + fields->topic.len + 2 * fields->type.len + fields->match.len +
                   fields->key.len + fields->data.len + 82 + CHUNK_HEAD_MAX + CHUNK_END_BYTES);
    size_t ns = b.len, topic = ns + fields->ns.len + 1;
    name_put_lookup(&b, fields->ns, fields->topic); /* event_key() */
    size_t type = fields->type.len > 0 ? append_type(&b, fields->type) : b.len;
    size_t type_end = b.len;
    bool has_slot = fields->lane == LANE_COALESCED || fields->lane == LANE_APPENDED;
    size_t key = has_slot && fields->key.len ? append(&b, fields->key) : type, key_end = b.len;
    size_t match = append_match(&b, fields);
    event_form_open(&b);
    size_t frame = b.len;
    sse_put_frame(&b, fields);
    size_t end = b.len;
    event_form_close(&b);

    struct event *ev = event_seal(&b);
    const char *base = (const char *)ev;
    ev->id = fields->id;
    ev->prev = fields->has_prev ? fields->prev : EVENT_PREV_UNKNOWN;
    ev->arrival_us = arrival_us;
    ev->twin = fields->twin;
    ev->ttl_ms = fields->ttl_ms;
    ev->count = 1;
    ev->lane = fields->lane;
    ev->end = fields->end;
    ev->is_untyped = fields->is_untyped;
    ev->is_piece = fields->lane == LANE_APPENDED;
    ev->type_slot = fields->type_slot;
    ev->end_after_ms = (uint32_t)fields->end_after_ms;
    assert(match < HAS_END);
    ev->special = (uint32_t)match | (ev->ttl_ms ? HAS_TTL : 0) |
                  (ev->lane != LANE_INSTANT ? HAS_LANE : 0) | (ev->end != END_NONE ? HAS_END : 0);
    ev->ns = (struct slice){base + ns, topic - ns - 1};
    ev->topic = (struct slice){base + topic, type - topic};
    ev->type = type_end > type ? (struct slice){base + type, type_end - type} : SLICE_NONE;
    if (has_slot) {
        ev->key = (struct slice){base + key, key_end - key};
        ev->slot = (uint32_t)XXH3_64bits_withSeed(ev->topic.ptr, ev->topic.len, hash_seed) ^
                   (uint32_t)XXH3_64bits_withSeed(ev->key.ptr, ev->key.len, hash_seed + 1);
    }
    set_frame(ev, frame, end - frame);
    return ev;
}

struct event *event_new_frame(uint64_t id, struct slice frame)
{
    struct buf b = event_open(CHUNK_HEAD_MAX + frame.len + CHUNK_END_BYTES);
    event_form_open(&b);
    size_t at = append(&b, frame);
    event_form_close(&b);
    struct event *ev = event_seal(&b);
    ev->id = id;
    ev->prev = EVENT_PREV_UNKNOWN;
    set_frame(ev, at, frame.len);
    return ev;
}

struct event *event_new_end_frame(enum topic_end end, struct slice frame)
{
    struct event *ev = event_new_frame(0, frame);
    ev->end = end;
    return ev;
}

/* What its forms, and who counts it, go by. */
static void copy_marks(struct event *copy, const struct event *ev)
{
    copy->is_untyped = ev->is_untyped;
    copy->is_piece = ev->is_piece;
    copy->type_slot = ev->type_slot;
}

/* It stays an event without an id: where it came from, nobody could find it by this one. */
struct event *event_new_with_id(const struct event *ev, uint64_t id)
{
    struct buf b = event_open(ev->topic.len + CHUNK_HEAD_MAX + 32 + ev->own.frame.len);
    size_t topic = append(&b, ev->topic);
    event_form_open(&b);
    size_t frame = b.len;
    buf_printf(&b, "id: %llu\n", (unsigned long long)id);
    buf_put_slice(&b, ev->own.frame);
    size_t end = b.len;
    event_form_close(&b);

    struct event *copy = event_seal(&b);
    copy->prev = EVENT_PREV_UNKNOWN;
    copy->arrival_us = ev->arrival_us;
    copy->ttl_ms = ev->ttl_ms;
    copy->count = ev->count;
    copy->end = ev->end;
    copy_marks(copy, ev);
    copy->special = ev->special & (HAS_TTL | HAS_END);
    if (ev->topic.ptr)
        copy->topic = (struct slice){(const char *)copy + topic, ev->topic.len};
    set_frame(copy, frame, end - frame);
    return copy;
}

struct event *event_join(struct event *const *events, size_t count)
{
    const struct event *first = events[0], *last = events[count - 1];
    struct slice *frames = mem_alloc(count * sizeof(*frames));
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        frames[i] = events[i]->own.frame;
        bytes += frames[i].len;
    }
    struct buf b = event_open(first->topic.len + CHUNK_HEAD_MAX + CHUNK_END_BYTES + bytes);
    size_t topic = append(&b, first->topic);
    event_form_open(&b);
    size_t frame = b.len;
    sse_put_joined(&b, frames, count);
    size_t end = b.len;
    event_form_close(&b);
    free(frames);

    struct event *joined = event_seal(&b);
    joined->id = last->id;
    joined->prev = EVENT_PREV_UNKNOWN;
    for (size_t i = 0; i < count; i++)
        joined->count += events[i]->count;
    joined->first_id = first->id;
    copy_marks(joined, first);
    joined->arrival_us = last->arrival_us;
    joined->topic = (struct slice){(const char *)joined + topic, first->topic.len};
    set_frame(joined, frame, end - frame);
    return joined;
}

void event_set_stored(struct event *ev, bool stored)
{
    if (atomic_exchange_explicit(&ev->stored, stored, memory_order_relaxed) == stored)
        return;
    if (stored)
        event_count_out(own_bytes(ev));
    else
        event_count_in(own_bytes(ev));
}

struct event *event_ref(struct event *ev)
{
    /* Whoever passes a reference on holds one, so nothing needs to be ordered here. */
    unsigned before = atomic_fetch_add_explicit(&ev->refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return ev;
}

void event_unref(struct event *ev)
{
    if (ev == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&ev->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    event_form_free_all(ev);
    event_count_out(own_bytes(ev));
    free(ev);
}

uint64_t event_id(const struct event *ev)
{
    return ev->id;
}

int event_compare(const struct event *a, const struct event *b)
{
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    size_t len = a->topic.len < b->topic.len ? a->topic.len : b->topic.len;
    int order = len ? memcmp(a->topic.ptr, b->topic.ptr, len) : 0;
    return order ? order : (a->topic.len > b->topic.len) - (a->topic.len < b->topic.len);
}

uint64_t event_prev(const struct event *ev)
{
    return ev->prev;
}

uint64_t event_arrival_us(const struct event *ev)
{
    return ev->arrival_us;
}

uint64_t event_twin(const struct event *ev)
{
    return ev->count > 1 ? 0 : ev->twin;
}

uint64_t event_first_id(const struct event *ev)
{
    return ev->count > 1 ? ev->first_id : ev->id;
}

bool event_has_match(const struct event *ev)
{
    return (ev->special & ~HAS_ANY) > 0;
}

bool event_is_plain(const struct event *ev)
{
    return ev->special == 0;
}

const char *event_match(const struct event *ev)
{
    return event_has_match(ev) ? (const char *)ev + (ev->special & ~HAS_ANY) : NULL;
}

bool event_has_ttl(const struct event *ev)
{
    return ev->special & HAS_TTL;
}

/* A clock that was set back makes nothing older. */
bool event_is_over(const struct event *ev, const struct event_clock *now)
{
    uint64_t born = ev->id ? ev->id : ev->arrival_us, at = ev->id ? now->wall_us : now->mono_us;
    return ev->ttl_ms && born && at > born && at - born > ev->ttl_ms * 1000;
}

bool event_is_spent(const struct event *ev, const struct event_clock *now)
{
    return ev->lane != LANE_COALESCED && event_is_over(ev, now);
}

uint32_t event_count(const struct event *ev)
{
    return ev->count;
}

enum lane_kind event_lane(const struct event *ev)
{
    return ev->lane;
}

enum topic_end event_end(const struct event *ev)
{
    return ev->end;
}

uint32_t event_end_after_ms(const struct event *ev)
{
    return ev->end_after_ms;
}

uint32_t event_slot(const struct event *ev)
{
    return ev->slot;
}

bool event_has_slot_of(const struct event *ev, const struct event *other)
{
    return ev->slot == other->slot && !ev->id == !other->id && ev->lane == other->lane &&
           slice_eq(ev->topic, other->topic) && slice_eq(ev->key, other->key);
}

struct slice event_ns(const struct event *ev)
{
    return ev->ns;
}

struct slice event_topic(const struct event *ev)
{
    return ev->topic;
}

struct slice event_key(const struct event *ev)
{
    return (struct slice){ev->ns.ptr, ev->ns.len + 1 + ev->topic.len};
}

struct slice event_type(const struct event *ev)
{
    return ev->type;
}

bool event_is_untyped(const struct event *ev)
{
    return ev->is_untyped;
}

unsigned event_type_slot(const struct event *ev)
{
    return ev->type_slot;
}

struct slice event_frame(const struct event *ev)
{
    return ev->own.frame;
}

struct slice event_chunk(const struct event *ev)
{
    return ev->own.chunk;
}
