/* SPDX-License-Identifier: Apache-2.0 */
/* Topics that have ended, as one stream sees them: it is told of each once, after the topic's last
 * event, and where it asked for topics only and all of them have ended, it ends. docs/protocol.md,
 * 6.6. */
#include <stdlib.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/fanout/stream_parts.h"

/* While a stream reads the log it does not know yet whether an end that it hears of live is before
 * or behind what the page brings. So it keeps those until it is live. A topic that it named is told
 * of once, whichever way its end came; one that a pattern matched is told of by the page that has
 * its last event, or else live. */

enum { WAITING_MAX = 1024 }; /* of topics that patterns match */

struct stream_ends {
    struct note_end *waiting;
    size_t count;
};

static const struct strings *topics_of(const struct stream *s)
{
    return &subscription_request(s->client.sub)->topics;
}

/* The topic's place among those that were named; sub_count: a pattern has it. */
static size_t find_named(const struct stream *s, const char *topic)
{
    return strings_find(topics_of(s), slice_of(topic));
}

bool stream_ends_are_all(struct stream *s)
{
    const struct topic_sub *subs = stream_subs(s);
    uint32_t count = stream_asked_topics(s);
    for (size_t i = 0; i < count; i++)
        if (!subs[i].marked) /* a pattern never is */
            return false;
    return count > 0;
}

/* --- telling ---------------------------------------------------------------------------------- */

/* Its last event stands in the queue; or was left out, and then a block stands there in its place,
 * so that who comes back is not sent for it again. */
static void tell(struct stream *s, const struct note_end *end)
{
    struct client *c = &s->client;
    size_t named = find_named(s, end->topic);
    struct topic_sub *sub = named < s->sub_count ? &stream_subs(s)[named] : NULL;
    if (sub && sub->marked)
        return;
    if (sub)
        sub->marked = true;
    client_commit(c);
    if (c->out.told < end->id && stream_control(s) != CONTROL_OFF)
        client_put_position(c);
    if (stream_blocks_are_on(s))
        stream_blocks_put_end(s, end);
    stream_mark_dirty(s);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void keep(struct stream *s, const struct event *ev)
{
    char *topic = slice_dup(event_topic(ev));
    if (!s->ends)
        s->ends = mem_zero(1, sizeof(*s->ends));
    struct stream_ends *ends = s->ends;
    if (ends->count >= WAITING_MAX && find_named(s, topic) == s->sub_count) {
        free(topic);
        return;
    }
    ends->waiting = mem_grow(ends->waiting, ends->count, sizeof(*ends->waiting));
    ends->waiting[ends->count++] = (struct note_end){topic, event_id(ev), event_end(ev)};
}

void stream_ends_over(struct stream *s)
{
    if (s->ends)
        note_ends_free(s->ends->waiting, s->ends->count);
    free(s->ends);
    s->ends = NULL;
}

/* Those that no page has told. One behind the page came live, and all between: of that the client
 * has been given what it held, which tells nothing of an end that its filter left out. */
static void tell_waiting(struct stream *s, uint64_t upto)
{
    for (size_t i = 0; s->ends && i < s->ends->count; i++) {
        const struct note_end *end = &s->ends->waiting[i];
        if (end->id <= upto && find_named(s, end->topic) == s->sub_count)
            continue;
        client_stand_behind(&s->client, end->id);
        tell(s, end);
    }
    stream_ends_over(s);
}

/* --- what it hears of ------------------------------------------------------------------------- */

static bool is_live(const struct stream *s)
{
    return s->client.state == CLIENT_LIVE && !s->client.reading;
}

void stream_ends_live(struct stream *s, const struct event *ev)
{
    uint64_t id = event_id(ev);
    if (!id || s->doomed || s->client.state == CLIENT_CLOSING)
        return;
    if (!is_live(s)) {
        keep(s, ev);
        return;
    }
    char *topic = slice_dup(event_topic(ev));
    if (id > s->live_from || find_named(s, topic) < s->sub_count)
        tell(s, &(struct note_end){topic, id, event_end(ev)});
    free(topic);
    if (stream_ends_are_all(s))
        stream_doom(s);
}

/* The last events among those of the page whose topics no name stands for. */
static void tell_matched(struct stream *s, const struct note_read *note)
{
    for (size_t i = 0; i < note->count; i++) {
        const struct event *ev = note->events[i];
        if (event_end(ev) == END_NONE)
            continue;
        char *topic = slice_dup(event_topic(ev));
        if (find_named(s, topic) == s->sub_count)
            tell(s, &(struct note_end){topic, event_id(ev), event_end(ev)});
        free(topic);
    }
}

bool stream_ends_looked(struct stream *s, const struct note_read *note)
{
    if (!is_live(s)) /* its page says so, behind what it brings */
        return false;
    for (size_t i = 0; i < note->end_count; i++)
        if (find_named(s, note->ends[i].topic) < s->sub_count) /* else it has it no more */
            tell(s, &note->ends[i]);
    return note->end_count && stream_ends_are_all(s);
}

bool stream_ends_page(struct stream *s, const struct note_read *note)
{
    tell_matched(s, note);
    if (!is_live(s))
        return false;
    bool any = note->end_count || s->ends;
    for (size_t i = 0; i < note->end_count; i++)
        tell(s, &note->ends[i]);
    tell_waiting(s, note->end);
    return any && stream_ends_are_all(s);
}
