/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_outbox.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/core/event_set.h"

enum {
    WORKER_BEHIND = 256, /* notes: a worker's inbox holds more of them */
    SENT_MAX = 65536,
    READ_MAX = 16384,
};
static const double PAUSE_POLL_S = 0.002;

struct bus_outbox {
    /* for each event */
    unsigned worker_count;
    bool paused;
    unsigned era;
    struct note_events **batches; /* per worker, NULL: none begun */
    struct inbox *const *workers;
    struct event_set *sent; /* what went to the workers lately */
    /* now and then */
    struct event_set *read; /* what was lately read from the log for clients */
    const struct bus_base *base;
    ev_timer unpause;
};

static void batch_post(struct bus_outbox *outbox, unsigned worker)
{
    struct note_events *batch = outbox->batches[worker];
    if (!batch)
        return;
    outbox->batches[worker] = NULL;
    inbox_push(outbox->workers[worker], &batch->note.item);
}

/* Everything to a worker goes through here or a batch, so that it arrives in the order of its
 * making. */
void bus_outbox_post(struct bus_outbox *outbox, unsigned worker, struct note *note)
{
    batch_post(outbox, worker);
    inbox_push(outbox->workers[worker], &note->item);
}

unsigned bus_outbox_workers(const struct bus_outbox *outbox)
{
    return outbox->worker_count;
}

void bus_outbox_post_gap(struct bus_outbox *outbox, const char *ns, const struct note_gap *like)
{
    for (unsigned w = 0; w < outbox->worker_count; w++) {
        struct note_gap *gap = mem_alloc(sizeof(*gap));
        *gap = *like;
        gap->note.kind = NOTE_GAP;
        gap->ns = mem_dup(ns, strlen(ns));
        gap->topic = like->topic ? mem_dup(like->topic, strlen(like->topic)) : NULL;
        gap->unless = like->unless ? mem_dup(like->unless, strlen(like->unless)) : NULL;
        gap->late = like->late ? event_ref(like->late) : NULL;
        bus_outbox_post(outbox, w, &gap->note);
    }
}

static void batch_add(struct bus_outbox *outbox, unsigned worker, struct event *ev)
{
    struct note_events *batch = outbox->batches[worker];
    if (!batch) {
        batch = mem_alloc(sizeof(*batch));
        batch->note.kind = NOTE_EVENTS;
        batch->count = 0;
        outbox->batches[worker] = batch;
    }
    batch->events[batch->count++] = event_ref(ev);
    if (batch->count == NOTE_EVENTS_MAX)
        batch_post(outbox, worker);
}

void bus_outbox_send(struct bus_outbox *outbox, struct event *ev, uint64_t workers)
{
    if (event_id(ev))
        event_set_add(outbox->sent, ev, outbox->era);
    for (unsigned w = 0; w < outbox->worker_count; w++)
        if (workers & (UINT64_C(1) << w))
            batch_add(outbox, w, ev);
}

void bus_outbox_flush(struct bus_outbox *outbox)
{
    for (unsigned w = 0; w < outbox->worker_count; w++)
        batch_post(outbox, w);
    (void)bus_outbox_is_behind(outbox);
}

/* --- workers that do not keep up -------------------------------------------------------------- */

static bool is_any_above(const struct bus_outbox *outbox, size_t limit)
{
    for (unsigned w = 0; w < outbox->worker_count; w++)
        if (inbox_depth(outbox->workers[w]) > limit)
            return true;
    return false;
}

static void set_paused(struct bus_outbox *outbox, bool paused)
{
    const struct store *store = &outbox->base->store;
    if (outbox->paused == paused)
        return;
    outbox->paused = paused;
    store->ops->pause(store->impl, paused);
    if (paused)
        ev_timer_again(outbox->base->loop, &outbox->unpause);
    else
        ev_timer_stop(outbox->base->loop, &outbox->unpause);
}

static void on_unpause(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus_outbox *outbox = w->data;
    if (!is_any_above(outbox, WORKER_BEHIND / 2))
        set_paused(outbox, false);
}

bool bus_outbox_is_behind(struct bus_outbox *outbox)
{
    if (is_any_above(outbox, WORKER_BEHIND))
        set_paused(outbox, true);
    return outbox->paused;
}

bool bus_outbox_is_paused(const struct bus_outbox *outbox)
{
    return outbox->paused;
}

/* --- what went out lately --------------------------------------------------------------------- */

bool bus_outbox_has_sent(const struct bus_outbox *outbox, const struct event *ev)
{
    return event_set_has(outbox->sent, ev);
}

bool bus_outbox_has_sent_prev(const struct bus_outbox *outbox, const struct event *ev)
{
    return event_set_has_prev(outbox->sent, ev);
}

bool bus_outbox_reaches(const struct bus_outbox *outbox, uint64_t id)
{
    return event_set_reaches(outbox->sent, id);
}

void bus_outbox_add_read(struct bus_outbox *outbox, const struct event *ev)
{
    event_set_add(outbox->read, ev, outbox->era);
}

bool bus_outbox_had_read(const struct bus_outbox *outbox, const struct event *ev)
{
    return event_set_has_before(outbox->read, ev, outbox->era);
}

unsigned bus_outbox_era(const struct bus_outbox *outbox)
{
    return outbox->era;
}

void bus_outbox_begin_era(struct bus_outbox *outbox)
{
    outbox->era++;
}

static enum metric end_metric(enum topic_end end)
{
    static const enum metric metrics[] = {[END_DONE] = M_ENDED_DONE,
                                          [END_CANCELLED] = M_ENDED_CANCELLED,
                                          [END_TIMEOUT] = M_ENDED_TIMEOUT};
    return metrics[end];
}

void bus_outbox_count_received(struct bus_outbox *outbox, const struct event *ev)
{
    metrics_add(outbox->base->metrics, M_EVENTS_RECEIVED, 1);
    if (event_end(ev) != END_NONE)
        metrics_add(outbox->base->metrics, end_metric(event_end(ev)), 1);
}

void bus_outbox_count_gap(struct bus_outbox *outbox, enum gap_reason reason)
{
    metrics_add(outbox->base->metrics, gap_metric(reason), 1);
}

struct bus_outbox *bus_outbox_new(const struct bus_base *base, struct inbox *const *inboxes,
                                  unsigned workers)
{
    struct bus_outbox *outbox = mem_zero(1, sizeof(*outbox));
    outbox->base = base;
    outbox->workers = inboxes;
    outbox->worker_count = workers;
    outbox->batches = mem_zero(workers, sizeof(struct note_events *));
    outbox->sent = event_set_new(SENT_MAX, true);
    outbox->read = event_set_new(READ_MAX, false); /* a page has an event once */
    ev_init(&outbox->unpause, on_unpause);
    outbox->unpause.repeat = PAUSE_POLL_S;
    outbox->unpause.data = outbox;
    return outbox;
}

void bus_outbox_free(struct bus_outbox *outbox)
{
    if (!outbox)
        return;
    ev_timer_stop(outbox->base->loop, &outbox->unpause);
    for (unsigned w = 0; w < outbox->worker_count; w++)
        note_events_free(outbox->batches[w]);
    free(outbox->batches);
    event_set_free(outbox->sent);
    event_set_free(outbox->read);
    free(outbox);
}
