/* SPDX-License-Identifier: Apache-2.0 */
/* An event as it travels from the bus to the sockets: immutable, counted, with its frame rendered
 * once per node. */
#pragma once
#include "common/event_fields.h"
#include "common/gzip.h"

/* What time it is for events, to know their age. */
struct event_clock {
    uint64_t wall_us; /* of whoever gives the ids */
    uint64_t mono_us; /* of this machine, as times of arrival are */
};

/* Whether a type, as it will be shown, is one of those that only the relay sends: it begins with
 * "relay.", or with @prefix (control_prefix; NULL or "": none). docs/protocol.md, 6. */
bool event_type_is_reserved(struct slice type, const char *prefix);

/* Immutable after event_new(); any thread may read. What event_block() adds is added once. */
struct event;

/* Renders the frame (sse.h) and copies what it needs. One reference for the caller.
 * @arrival_us: monotonic time at which the node received it, 0 when it was read from the log. */
struct event *event_new(const struct event_fields *fields, uint64_t arrival_us);
/* An event that is only bytes: control events, position blocks. @id moves the cursor, 0 does not.
 */
struct event *event_new_frame(uint64_t id, struct slice frame);
/* The same of one without an id; event_end() is @end, where it says how its topic has ended. */
struct event *event_new_end_frame(enum topic_end end, struct slice frame);
/* A copy of an event without an id, whose frame begins with the line of this one. It ages as the
 * event does. */
struct event *event_new_with_id(const struct event *ev, uint64_t id);
/* Bytes of all events that live in this process, with their compressed copies: each once, however
 * many queues hold it. Any thread; a moment old. */
size_t event_live_bytes(void);
/* It is not counted while a log in this process has it, which has a bound of its own: the queues
 * that hold it, too, cost nothing. By the thread of the log, which holds a reference. */
void event_set_stored(struct event *ev, bool stored);

struct event *event_ref(struct event *ev);
void event_unref(struct event *ev); /* NULL is fine; the last one frees */

uint64_t event_id(const struct event *ev);
/* For sorting: by id, and of one event on several topics by these, byte by byte. So it is the same
 * topic that a stream is sent such an event by, however it came. */
int event_compare(const struct event *a, const struct event *b);
/* The same, but for events that were joined: the first one's. */
uint64_t event_first_id(const struct event *ev);
/* The topic's id before this event's; 0: it was the first, EVENT_PREV_UNKNOWN: nobody said. */
uint64_t event_prev(const struct event *ev);
uint64_t event_arrival_us(const struct event *ev);
uint64_t event_twin(const struct event *ev);
bool event_has_match(const struct event *ev);
/* Its pairs, flat (match.h): the end alone where nobody has them. NULL: it has no match. */
const char *event_match(const struct event *ev);
bool event_has_ttl(const struct event *ev);
/* It has neither match nor ttl nor a lane, and ends nothing: one test for what most events have
 * not. */
bool event_is_plain(const struct event *ev);
/* Whether its own ttl has passed: then no socket is handed it any more. By its id; one without by
 * its arrival. */
bool event_is_over(const struct event *ev, const struct event_clock *now);
/* It is over, and not read from a log any more. A coalesced one is: it has replaced older ones, and
 * is taken off later, unsent. */
bool event_is_spent(const struct event *ev, const struct event_clock *now);
/* How many events it is: several where they were joined; 0: it is only bytes. */
uint32_t event_count(const struct event *ev);
enum lane_kind event_lane(const struct event *ev);
/* END_NONE: its topic goes on. */
enum topic_end event_end(const struct event *ev);
/* If nothing follows for so long, its topic is to end; 0: it is not. */
uint32_t event_end_after_ms(const struct event *ev);
/* Of coalesced and appended events: a hash of topic and key, and whether these are the same (of two
 * events that both have an id, or both none). */
uint32_t event_slot(const struct event *ev);
bool event_has_slot_of(const struct event *ev, const struct event *other);
/* The first @count of @events as one: of the lane appended, of one slot and type, in their order.
 * It has the last one's id, and their texts in a row as a client would have them, so that what ends
 * one line and what begins another stay apart. */
struct event *event_join(struct event *const *events, size_t count);
struct slice event_ns(const struct event *ev);
struct slice event_topic(const struct event *ev);
struct slice event_key(const struct event *ev);  /* ns, NUL, topic: to look its topic up by */
struct slice event_type(const struct event *ev); /* sanitised, SLICE_NONE when absent or empty */
/* It has no type of its own: where event_type() has one, that is its topic. Not of one whose topic
 * may be no type. */
bool event_is_untyped(const struct event *ev);
unsigned event_type_slot(const struct event *ev);
struct slice event_frame(const struct event *ev);
/* The frame as an HTTP chunk (common/chunk.h). Not of an empty one. */
struct slice event_chunk(const struct event *ev);
/* The frame for gzip streams, made by @g at the first call of any thread, and kept with the event;
 * borrowed. NULL while another thread is just making it: ask again in the next loop turn. */
const struct gzip_block *event_block(struct event *ev, struct gzip *g);

/* --- other formats ------------------------------------------------------------------------------
 */

/* How a stream may have events: a set of these. */
enum event_format {
    EVENT_PLAIN = 0,
    EVENT_AS_JSON = 1,    /* the data in an envelope with topic and time: docs/protocol.md, 4.9 */
    EVENT_SWAPS_TYPE = 2, /* one that is untyped has its topic as type where its plain frame has
                             none, and none where that has its topic */
};

/* The bytes of an event in one format; they live as long as it does. */
struct event_form;
/* Made at the first call of any thread. NULL while another thread is just making it: ask again in
 * the next loop turn. What has no topic is the same in all formats. */
struct event_form *event_form(struct event *ev, unsigned format);
struct slice event_form_frame(const struct event_form *form);
struct slice event_form_chunk(const struct event_form *form);
/* As event_block(); @form is @ev's. */
const struct gzip_block *event_form_block(const struct event *ev, struct event_form *form,
                                          struct gzip *g);
