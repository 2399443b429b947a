/* SPDX-License-Identifier: Apache-2.0 */
/* What event.c (what an event is) and event_form.c (the bytes that streams are sent of it) share,
 * for them only. */
#pragma once
#include <stdatomic.h>

#include "common/event.h"

struct event_form {
    struct slice frame, chunk;                /* the frame, and what makes a chunk of it around */
    _Atomic(const struct gzip_block *) block; /* NULL: not made yet */
    bool block_counted;                       /* written before `block` is */
};

struct event_other; /* a form that is not its own */

/* One allocation: the struct, then its texts and the frame. */
struct event {
    atomic_uint refs;
    uint32_t special; /* where its match is in this allocation, in its flat form (0: it has none),
                         and HAS_…; so that one test tells all of them */
    uint64_t id, prev;
    uint64_t arrival_us;
    union {
        uint64_t twin;
        uint64_t first_id; /* of several that were joined */
    };
    uint64_t ttl_ms; /* 0: none */
    enum lane_kind lane : 8;
    enum topic_end end : 8;
    atomic_bool stored; /* its bytes are not counted */
    uint8_t type_slot;
    bool is_untyped, is_piece;    /* piece: its data is a part of a text, whatever it looks like */
    uint32_t count;               /* events */
    uint32_t slot;                /* a hash of topic and key */
    uint32_t end_after_ms;        /* 0: none */
    struct slice ns, topic, type; /* into the same allocation … */
    struct slice key;             /* … or `type`; of coalesced and appended events */
    struct event_form own;        /* into it, too */
    _Atomic(struct event_other *) others; /* those that were asked for */
};

/* event_live_bytes(). */
void event_count_in(size_t bytes);
void event_count_out(size_t bytes);

/* Around what is appended as a frame: room for the head of its chunk, whose length is known only
 * then, and its end. */
void event_form_open(struct buf *b);
void event_form_close(struct buf *b);
/* The frame stands there, with all that around it. */
void event_form_place(struct event_form *form, char *frame, size_t len);
/* Blocks and other forms go, as the event does. */
void event_form_free_all(struct event *ev);
