/* SPDX-License-Identifier: Apache-2.0 */
/* What did not come. Redis's pub/sub promises nothing: an event may be found only after later ones
 * have been delivered, or be gone for good. Ids go up on every stream, so what is found late can
 * reach only those that have had nothing later. Everybody else who is owed it is told a gap that
 * covers it: once, and nobody who had it or reads the log anyway. docs/architecture.md, "What the
 * live path lost". */
#include "relay/core/connection_topic.h"
#include "relay/fanout/fanout_parts.h"

struct gap_offer {
    struct fanout *fanout;
    const struct note_gap *gap;
};

static void tell_gap(struct stream *s, const struct note_gap *gap, uint64_t from)
{
    const struct config *config = s->shared->config;
    client_put_control(
        &s->client, gap_event(config, subscription_control(s->client.sub, config->control_events),
                              gap->moves ? gap->to : 0, from, gap->to, gap->reason));
    metrics_add(s->shared->metrics, gap_metric(gap->reason), 1);
    stream_mark_dirty(s);
}

/* An event that turned up after later ones: who is not past it gets it now, or when it is
 * delivered; the others are told. */
static void offer_late(struct fanout *f, struct stream *s, const struct note_gap *gap)
{
    struct client *c = &s->client;
    struct event *ev = gap->late;
    bool has_it = gap->unless && subscription_wants_topic(c->sub, slice_of(gap->unless));
    if (c->cursor < gap->to || has_it || !subscription_wants_event(c->sub, ev))
        return;
    struct event_clock now = stream_clock(&f->shared);
    if (event_is_over(ev, &now)) { /* its absence is no gap */
        metrics_add(f->shared.metrics, M_EVENTS_EXPIRED, 1);
        client_pass_over_late(c, ev);
        if (c->out.more)
            stream_account(s);
        return;
    }
    enum client_push pushed = client_push_late(c, &f->shared.limits, ev);
    if (pushed != CLIENT_SKIPPED) {
        fanout_pushed(f, s, pushed);
        return;
    }
    if (outbox_has_output(&c->out)) /* others may have been let out */
        stream_mark_dirty(s);
    bool was_due = s->live_from && s->live_from < gap->to;
    /* The page that should have brought it was another server's. */
    bool was_in_page = gap->is_new && s->era != gap->era && s->start < gap->to;
    if (was_due || was_in_page)
        tell_gap(s, gap, gap->from);
}

static void on_gap_hit(void *owner, void *arg)
{
    struct gap_offer *offer = arg;
    struct fanout *f = offer->fanout;
    struct stream *s = owner;
    const struct note_gap *gap = offer->gap;
    if (!fanout_is_first_offer(f, s))
        return;
    bool live = s->client.state == CLIENT_LIVE && !s->client.reading;
    uint64_t owed_from = stream_owed_from(s, gap->topic);
    if (gap->to <= owed_from)
        return;
    if (gap->late) {
        if (live || (s->client.state == CLIENT_REPLAY && gap->is_new && s->era != gap->era))
            offer_late(f, s, gap);
        return;
    }
    if (!live) /* it still reads the log, and finds the gap there */
        return;
    /* The gaps of one repair come by where they begin: one that ends before what has been told is
     * part of that. */
    if (s->client.cursor >= gap->to || s->gap_told >= gap->to)
        return;
    s->gap_told = gap->to;
    uint64_t from = gap->from > s->client.cursor ? gap->from : s->client.cursor;
    tell_gap(s, gap, from > owed_from ? from : owed_from);
}

void fanout_take_gap(struct fanout *f, struct note_gap *note)
{
    struct gap_offer offer = {f, note};
    f->stamp++;
    if (note->topic && connection_topic_is(slice_of(note->topic)))
        fanout_address(f, slice_of(note->ns), slice_of(note->topic));
    if (note->topic) {
        interest_match(f->shared.interest, slice_of(note->ns), slice_of(note->topic), on_gap_hit,
                       &offer);
    } else {
        struct stream *s;
        LIST_FOREACH (s, &f->shared.all, all_link)
            if (slice_is(subscription_ns(s->client.sub), note->ns))
                on_gap_hit(s, &offer);
    }
    fanout_close_doomed(f);
    note_gap_free(note);
}
