/* SPDX-License-Identifier: Apache-2.0 */
/* Other topics for an open stream: docs/protocol.md, 4.8. It is in the index for a new topic at
 * once, so that nothing is missed from the moment on at which Redis has acknowledged it; which that
 * was says a read of the new topics alone, as of a stream that is live only. A page of the log that
 * is on its way lacks them: it is asked for again. */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/core/connection_topic.h"
#include "relay/core/pattern.h"
#include "relay/fanout/stream_parts.h"

/* Until the bus has said from where on new topics are complete. */
struct look {
    struct note_read *note;
    struct note_control *asked; /* who waits for that */
    struct strings fresh;       /* to be told of: not those that somebody else's look is about */
    TAILQ_ENTRY(look) link;
};

static struct stream_topics *topics_of(const struct stream *s)
{
    return s->subs[0].owner;
}

/* --- the index -------------------------------------------------------------------------------- */

void stream_topics_enter(struct stream *s)
{
    const struct subscription_request *request = subscription_request(s->client.sub);
    struct topic_sub *subs = stream_subs(s);
    for (size_t i = 0; i < s->sub_count; i++)
        interest_add(s->shared->interest, slice_of(request->ns), slice_of(request->topics.items[i]),
                     &subs[i], s);
}

static void leave_index(struct stream *s, struct topic_sub *subs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (subs[i].node)
            interest_remove(s->shared->interest, subscription_ns(s->client.sub), &subs[i]);
}

void stream_topics_leave(struct stream *s)
{
    leave_index(s, stream_subs(s), s->sub_count);
}

/* What is known of topics that stay: which have ended, and from where on they are owed. */
static void copy_known(struct stream *s, const struct strings *next, struct topic_sub *subs,
                       uint64_t *owed_from)
{
    const struct strings *old = &subscription_request(s->client.sub)->topics;
    for (size_t i = 0; i < next->count; i++) {
        size_t k = strings_find(old, slice_of(next->items[i]));
        owed_from[i] = UINT64_MAX;
        if (k == old->count)
            continue;
        subs[i].marked = stream_subs(s)[k].marked;
        owed_from[i] = s->has_new_topics ? topics_of(s)->owed_from[k] : 0;
    }
}

static void hang_topics(struct stream *s)
{
    struct stream_topics *topics = mem_zero(1, sizeof(*topics));
    topics->inline_count = s->sub_count;
    TAILQ_INIT(&topics->looks);
    s->subs[0].owner = topics;
    s->has_new_topics = true;
}

/* The new ones first: what is in both stays watched. */
static void swap_topics(struct stream *s, const struct strings *next)
{
    struct topic_sub *before = stream_subs(s);
    struct topic_sub *subs = mem_zero(next->count + 1, sizeof(*subs));
    uint64_t *owed_from = mem_zero(next->count + 1, sizeof(*owed_from));
    uint32_t before_count = s->sub_count;
    bool was_inline = !s->has_new_topics;
    struct subscription *sub = subscription_of_topics(s->client.sub, next);
    for (size_t i = 0; i < next->count; i++)
        interest_add(s->shared->interest, subscription_ns(sub), slice_of(next->items[i]), &subs[i],
                     s);
    copy_known(s, next, subs, owed_from);
    leave_index(s, before, before_count);
    if (was_inline) {
        hang_topics(s);
    } else {
        free(before);
        free(topics_of(s)->owed_from);
    }
    topics_of(s)->subs = subs;
    topics_of(s)->owed_from = owed_from;
    s->sub_count = (uint32_t)next->count;
    client_renew(&s->client, sub);
    subscription_unref(sub);
}

/* --- its connection's ------------------------------------------------------------------------- */

static void put_own(const struct stream *s, struct strings *out)
{
    struct connection_id id;
    struct buf topic = {0};
    stream_id(s, &id);
    connection_topic_put(&topic, &id);
    strings_add(out, buf_slice(&topic));
    buf_reset(&topic);
}

uint32_t stream_count_asked(const struct stream *s)
{
    return stream_asked_topics(s);
}

/* What it was asked for: without the topic of its connection, unless that was. */
static void put_asked(const struct stream *s, struct strings *out)
{
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    uint32_t count = stream_asked_topics(s);
    for (size_t i = 0; i < count; i++)
        strings_add(out, slice_of(topics->items[i]));
}

void stream_address(struct stream *s)
{
    struct strings own = {0}, next = {0};
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    put_own(s, &own);
    if (!strings_have(topics, slice_of(own.items[0]))) {
        put_asked(s, &next);
        strings_add(&next, slice_of(own.items[0]));
        swap_topics(s, &next);
        topics_of(s)->is_addressed = true;
        topics_of(s)->owed_from[next.count - 1] = 0; /* it had it all the time */
        if (s->read)
            stream_read_anew(s);
    }
    strings_reset(&own);
    strings_reset(&next);
}

/* --- from where on ---------------------------------------------------------------------------- */

static void answer(struct stream *s, struct note_control *asked, unsigned status, const char *why)
{
    note_control_answer(asked, status, why);
    inbox_push(bus_inbox(s->shared->node->bus), &asked->note.item);
}

static void answer_topics(struct stream *s, struct note_control *asked)
{
    struct buf json = {0};
    struct strings topics = {0};
    put_asked(s, &topics);
    stream_blocks_put_topics(&json, &topics);
    buf_putc(&json, '\0');
    answer(s, asked, 200, json.ptr);
    buf_reset(&json);
    strings_reset(&topics);
}

static void look_free(struct stream *s, struct look *look)
{
    TAILQ_REMOVE(&topics_of(s)->looks, look, link);
    strings_reset(&look->fresh);
    free(look);
}

/* Of topics that are not known yet to be live: whoever asks for them again waits like the first. */
static void look_start(struct stream *s, const struct strings *awaited, struct strings *fresh,
                       struct note_control *asked)
{
    struct look *look = mem_zero(1, sizeof(*look));
    struct note_read *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_READ;
    note->worker = s->shared->worker;
    note->owner = s;
    note->sub = subscription_of_topics(s->client.sub, awaited);
    note->kind = CURSOR_NONE;
    note->max_events = 1;
    note->max_bytes = 1;
    *look = (struct look){.note = note, .asked = asked, .fresh = *fresh};
    *fresh = (struct strings){0};
    TAILQ_INSERT_TAIL(&topics_of(s)->looks, look, link);
    inbox_push(bus_inbox(s->shared->node->bus), &note->note.item);
}

/* They are complete from there on. */
static void settle_owed(struct stream *s, const struct strings *names, uint64_t from)
{
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    for (size_t i = 0; i < topics->count; i++)
        if (topics_of(s)->owed_from[i] > from && strings_have(names, slice_of(topics->items[i])))
            topics_of(s)->owed_from[i] = from;
}

uint64_t stream_owed_from(const struct stream *s, const char *topic)
{
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    uint64_t from = UINT64_MAX;
    if (!s->has_new_topics || !topic)
        return 0;
    for (size_t i = 0; i < topics->count; i++)
        if (topics_of(s)->owed_from[i] < from &&
            pattern_matches(slice_of(topics->items[i]), slice_of(topic)))
            from = topics_of(s)->owed_from[i];
    return from;
}

bool stream_topics_looked(struct stream *s, struct note_read *note)
{
    struct look *look;
    TAILQ_FOREACH (look, &topics_of(s)->looks, link)
        if (look->note == note)
            break;
    settle_owed(s, &subscription_request(note->sub)->topics, note->end);
    if (look->fresh.count)
        stream_blocks_put_subscribed(s, &look->fresh, note->end);
    answer_topics(s, look->asked);
    look_free(s, look);
    stream_mark_dirty(s);
    bool ended = stream_ends_looked(s, note);
    note_read_free(note);
    return ended;
}

void stream_topics_close(struct stream *s)
{
    struct look *look;
    if (!s->has_new_topics)
        return;
    while ((look = TAILQ_FIRST(&topics_of(s)->looks))) {
        look->note->owner = NULL;
        atomic_store_explicit(&look->note->cancelled, true, memory_order_relaxed);
        answer(s, look->asked, 404, "the connection has ended");
        look_free(s, look);
    }
}

void stream_topics_over(struct stream *s)
{
    if (!s->has_new_topics)
        return;
    free(topics_of(s)->subs);
    free(topics_of(s)->owed_from);
    free(topics_of(s));
}

/* --- a change --------------------------------------------------------------------------------- */

static void put_difference(const struct strings *from, const struct strings *without,
                           struct strings *out)
{
    for (size_t i = 0; i < from->count; i++)
        if (!strings_have(without, slice_of(from->items[i])))
            strings_add_new(out, slice_of(from->items[i]));
}

/* What is asked for in both is there afterwards. */
static void put_next(const struct strings *old, const struct strings *add,
                     const struct strings *remove, struct strings *next)
{
    put_difference(old, remove, next);
    for (size_t i = 0; i < add->count; i++)
        strings_add_new(next, slice_of(add->items[i]));
}

/* Those of @add that are new, or that others have asked for and nobody was told of yet. */
static void put_awaited(struct stream *s, const struct strings *add, const struct strings *fresh,
                        struct strings *out)
{
    const struct look *look;
    for (size_t i = 0; i < fresh->count; i++)
        strings_add(out, slice_of(fresh->items[i]));
    if (!s->has_new_topics)
        return;
    TAILQ_FOREACH (look, &topics_of(s)->looks, link)
        for (size_t i = 0; i < add->count; i++)
            if (strings_have(&look->fresh, slice_of(add->items[i])))
                strings_add_new(out, slice_of(add->items[i]));
}

/* It is told that it has these no more: so not afterwards that it has them. */
static void forget_fresh(struct stream *s, const struct strings *gone)
{
    struct look *look;
    TAILQ_FOREACH (look, &topics_of(s)->looks, link) {
        struct strings kept = {0};
        put_difference(&look->fresh, gone, &kept);
        strings_reset(&look->fresh);
        look->fresh = kept;
    }
}

/* @next: what is asked for; the topic of its connection stays. */
static void take_topics(struct stream *s, struct strings *next)
{
    if (s->has_new_topics && topics_of(s)->is_addressed) {
        struct strings own = {0};
        put_own(s, &own);
        topics_of(s)->is_addressed = !strings_have(next, slice_of(own.items[0]));
        if (topics_of(s)->is_addressed)
            strings_add(next, slice_of(own.items[0]));
        strings_reset(&own);
    }
    swap_topics(s, next);
}

static bool change(struct stream *s, const struct strings *old, const struct strings *add,
                   struct strings *next, struct note_control *asked)
{
    struct strings fresh = {0}, gone = {0}, awaited = {0};
    put_difference(next, old, &fresh);
    put_difference(old, next, &gone);
    if (fresh.count || gone.count)
        take_topics(s, next);
    if (gone.count) {
        forget_fresh(s, &gone);
        stream_blocks_put_unsubscribed(s, &gone);
    }
    if (fresh.count && s->read)
        stream_read_anew(s);
    put_awaited(s, add, &fresh, &awaited);
    if (awaited.count)
        look_start(s, &awaited, &fresh, asked);
    else
        answer_topics(s, asked);
    stream_mark_dirty(s);
    bool ended = gone.count && stream_ends_are_all(s);
    strings_reset(&awaited);
    strings_reset(&fresh);
    strings_reset(&gone);
    return ended;
}

static void refuse_many(struct stream *s, size_t count, struct note_control *asked)
{
    struct buf why = {0};
    buf_printf(&why, "subscribe: the stream would have %zu topics, and max_topics is %llu", count,
               (unsigned long long)s->shared->config->max_topics);
    buf_putc(&why, '\0');
    answer(s, asked, 400, why.ptr);
    buf_reset(&why);
}

bool stream_topics_change(struct stream *s, const struct strings *add, const struct strings *remove,
                          struct note_control *asked)
{
    struct strings old = {0}, next = {0};
    bool ended = false;
    put_asked(s, &old);
    put_next(&old, add, remove, &next);
    if (next.count > s->shared->config->max_topics)
        refuse_many(s, next.count, asked);
    else
        ended = change(s, &old, add, &next, asked);
    strings_reset(&old);
    strings_reset(&next);
    return ended;
}
