/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that streams are sent of an event, and how many there are of all events: its frame, or
 * that in another format, each also compressed. What not every stream needs is made when the first
 * asks, by whichever thread that is, and hung to the event. Claimed, so that workers which flush
 * the same event at the same time do not all make it; and not waited for, so that other streams do
 * not wait either. */
#include <assert.h>
#include <stdlib.h>

#include "common/chunk.h"
#include "common/clock.h"
#include "common/event_parts.h"
#include "common/mem.h"
#include "common/sse.h"

/* Stands for a block that a thread is making. */
static const struct gzip_block block_claimed;

struct event_other {
    struct event_form form;
    unsigned format;
    bool counted;
    atomic_bool made; /* until then only its maker looks at the rest */
    struct event_other *next;
    char *memory;
    size_t bytes;
};

/* --- counting --------------------------------------------------------------------------------- */

/* The one thing here that all events share: to find a counter of its node each would need a pointer
 * to it, and a process is one node. Counted where events are made and freed, so a delivery pays
 * nothing for it. */
static atomic_size_t live_bytes;

size_t event_live_bytes(void)
{
    return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}

void event_count_in(size_t bytes)
{
    atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
}

void event_count_out(size_t bytes)
{
    atomic_fetch_sub_explicit(&live_bytes, bytes, memory_order_relaxed);
}

/* --- a frame ---------------------------------------------------------------------------------- */

void event_form_open(struct buf *b)
{
    static const char room[CHUNK_HEAD_MAX];
    buf_put(b, room, sizeof room);
}

void event_form_close(struct buf *b)
{
    buf_put(b, CHUNK_END, CHUNK_END_BYTES);
}

/* The chunk's head is put before the frame last, to the right of the room that is kept. */
void event_form_place(struct event_form *form, char *frame, size_t len)
{
    assert(len <= UINT32_MAX);
    size_t head = len ? chunk_put_head(frame, (uint32_t)len) : 0;
    form->frame = (struct slice){frame, len};
    form->chunk = (struct slice){frame - head, head + len + CHUNK_END_BYTES};
}

struct slice event_form_frame(const struct event_form *form)
{
    return form->frame;
}

struct slice event_form_chunk(const struct event_form *form)
{
    return form->chunk;
}

/* --- compressed ------------------------------------------------------------------------------- */

static size_t block_bytes(const struct gzip_block *block)
{
    return sizeof(*block) + gzip_block_chunk(block).len;
}

/* What a log in this process has is not counted, nor is what hangs to it. */
static bool is_counted(const struct event *ev)
{
    return !atomic_load_explicit(&ev->stored, memory_order_relaxed);
}

const struct gzip_block *event_form_block(const struct event *ev, struct event_form *form,
                                          struct gzip *g)
{
    const struct gzip_block *block = atomic_load_explicit(&form->block, memory_order_acquire);
    if (!block &&
        atomic_compare_exchange_strong_explicit(&form->block, &block, &block_claimed,
                                                memory_order_acquire, memory_order_acquire)) {
        /* What has no topic is our own, and most of it for one client. */
        block = ev->topic.ptr ? gzip_pack(g, form->frame) : gzip_store(form->frame);
        form->block_counted = is_counted(ev);
        if (form->block_counted)
            event_count_in(block_bytes(block));
        atomic_store_explicit(&form->block, block, memory_order_release);
    }
    return block == &block_claimed ? NULL : block;
}

static void free_block(struct event_form *form)
{
    const struct gzip_block *block = atomic_load_explicit(&form->block, memory_order_relaxed);
    if (form->block_counted)
        event_count_out(block_bytes(block));
    free((void *)(uintptr_t)block);
}

/* --- in another format ------------------------------------------------------------------------ */

/* Most formats make no difference to most events. */
static unsigned format_of(const struct event *ev, unsigned format)
{
    if (!ev->topic.ptr) /* our own */
        return EVENT_PLAIN;
    return ev->is_untyped ? format : format & ~(unsigned)EVENT_SWAPS_TYPE;
}

/* One without an id is as old as its arrival here. */
static uint64_t time_ms_of(const struct event *ev)
{
    if (ev->id)
        return ev->id / 1000;
    uint64_t now = clock_mono_us();
    uint64_t age = ev->arrival_us && ev->arrival_us < now ? now - ev->arrival_us : 0;
    return (clock_wall_us() - age) / 1000;
}

static void make(struct event_other *other, const struct event *ev)
{
    struct buf b = {0};
    struct sse_form form = {.topic = ev->topic,
                            .swaps_type = other->format & EVENT_SWAPS_TYPE,
                            .as_json = other->format & EVENT_AS_JSON,
                            .is_piece = ev->is_piece,
                            .time_ms = time_ms_of(ev)};
    event_form_open(&b);
    size_t at = b.len;
    sse_put_form(&b, ev->own.frame, &form);
    size_t len = b.len - at;
    event_form_close(&b);
    other->memory = mem_resize(b.ptr, b.len);
    other->bytes = sizeof(*other) + b.len;
    event_form_place(&other->form, other->memory + at, len);
    other->counted = is_counted(ev);
    if (other->counted)
        event_count_in(other->bytes);
}

static struct event_other *find(struct event_other *first, unsigned format)
{
    while (first && first->format != format)
        first = first->next;
    return first;
}

/* The one that another thread has added meanwhile, or a new one. */
static struct event_other *add(struct event *ev, struct event_other *first, unsigned format)
{
    struct event_other *found, *other = mem_zero(1, sizeof(*other));
    other->format = format;
    do {
        found = find(first, format);
        if (found) {
            free(other);
            return found;
        }
        other->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&ev->others, &first, other,
                                                    memory_order_acq_rel, memory_order_acquire));
    make(other, ev);
    atomic_store_explicit(&other->made, true, memory_order_release);
    return other;
}

struct event_form *event_form(struct event *ev, unsigned format)
{
    format = format_of(ev, format);
    if (!format)
        return &ev->own;
    struct event_other *first = atomic_load_explicit(&ev->others, memory_order_acquire);
    struct event_other *other = find(first, format);
    if (!other)
        other = add(ev, first, format);
    return atomic_load_explicit(&other->made, memory_order_acquire) ? &other->form : NULL;
}

void event_form_free_all(struct event *ev)
{
    struct event_other *other = atomic_load_explicit(&ev->others, memory_order_acquire);
    free_block(&ev->own);
    while (other) {
        struct event_other *next = other->next;
        free_block(&other->form);
        if (other->counted)
            event_count_out(other->bytes);
        free(other->memory);
        free(other);
        other = next;
    }
}

const struct gzip_block *event_block(struct event *ev, struct gzip *g)
{
    return event_form_block(ev, &ev->own, g);
}
