/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/bus_reads_parts.h"

struct bus_job *bus_reads_job_new(const struct bus_sources *sources, struct note_read *note)
{
    struct bus_job *job = mem_zero(1, sizeof(*job));
    job->sources = sources;
    job->note = note;
    if (note->looks)
        return job;
    job->space = bus_spaces_find(sources->spaces, subscription_ns(note->sub));
    assert(job->space); /* a worker watches before it reads */
    bus_space_use(job->space);
    return job;
}

void bus_reads_job_end(struct bus_job *job)
{
    const struct bus_sources *sources = job->sources;
    job->note->era = bus_outbox_era(sources->outbox);
    bus_outbox_post(sources->outbox, job->note->worker, &job->note->note);
    if (job->space)
        bus_space_release(sources->spaces, job->space);
    free(job);
}

bool bus_reads_job_is_cancelled(const struct bus_job *job)
{
    return atomic_load_explicit(&job->note->cancelled, memory_order_relaxed);
}

static void note_events_room(struct note_read *note, size_t count)
{
    note->events = mem_alloc((count ? count : 1) * sizeof(*note->events));
    note->count = 0;
}

static void note_put_gap(struct bus_job *job, uint64_t from, const struct replay_item *gap)
{
    struct note_read *note = job->note;
    const struct config *config = job->sources->base->config;
    note->events[note->count++] =
        gap_event(config, subscription_control(note->sub, config->control_events),
                  gap->moves ? gap->id : 0, from, gap->id, gap->reason);
    if (!note->looks) /* else nobody is told */
        bus_outbox_count_gap(job->sources->outbox, gap->reason);
}

static int compare_ends(const void *topic, const void *end)
{
    return strcmp(topic, ((const struct note_end *)end)->topic);
}

static void note_put_end(struct note_read *note, const char *topic, uint64_t id,
                         enum topic_end reason)
{
    note->ends = mem_grow(note->ends, note->end_count, sizeof(*note->ends));
    note->ends[note->end_count++] = (struct note_end){slice_dup(slice_of(topic)), id, reason};
}

/* Of what the look has seen of all its topics, those of this client. */
static void note_put_ends(struct note_read *note, const struct replay *r)
{
    const struct strings *names = &subscription_request(note->sub)->topics;
    for (size_t i = 0; i < names->count && r->end_count; i++) {
        const struct note_end *end =
            bsearch(names->items[i], r->ends, r->end_count, sizeof(*r->ends), compare_ends);
        if (end)
            note_put_end(note, end->topic, end->id, end->reason);
    }
}

void bus_reads_job_fill_unknown(struct bus_job *job, const struct replay *r)
{
    struct replay_item gap = {.id = r->position, .moves = true, .reason = GAP_UNKNOWN_ID};
    struct note_read *note = job->note;
    note_events_room(note, 1);
    note_put_gap(job, UINT64_MAX, &gap);
    note->start = 0;
    note->end = r->position;
    note->final = true;
    note_put_ends(note, r);
}

/* Nobody has the cursor 0 from us: who gives it asks for all that there is, and claims to have been
 * there before none of it. */
static bool is_before_all(uint64_t cursor, const struct replay_item *gap)
{
    return cursor == 0 && gap->from == 0 && gap->reason != GAP_OVERFLOW;
}

void bus_reads_job_fill(struct bus_job *job, const struct replay *r)
{
    struct note_read *note = job->note;
    bool resumes = note->kind == CURSOR_ID;
    uint64_t cursor = resumes ? note->cursor : 0;
    note_events_room(note, r->count);
    for (size_t i = 0; i < r->count; i++) {
        const struct replay_item *item = &r->items[i];
        if (item->id <= cursor)
            continue;
        if (item->event) {
            note->events[note->count++] = event_ref(item->event);
            metrics_add(job->sources->base->metrics, M_EVENTS_REPLAYED, !note->looks);
        } else if (item->id > note->gap_told && !(resumes && is_before_all(cursor, item))) {
            note->gap_told = item->id;
            note_put_gap(job, item->from > cursor ? item->from : cursor, item);
        }
    }
    note->start = resumes ? cursor : r->start;
    if (resumes && !cursor && !note->count && r->final) /* from here on it has been there */
        note->start = r->end;
    note->end = r->end;
    note->final = r->final;
    if (!resumes)
        note->horizon = r->horizon;
    note_put_ends(note, r);
}

/* --- from memory ------------------------------------------------------------------------------ */

static int compare_events(const void *a, const void *b)
{
    return event_compare(*(struct event *const *)a, *(struct event *const *)b);
}

static bool tails_have_all(struct bus_job *job)
{
    const struct subscription_request *request = subscription_request(job->note->sub);
    for (size_t i = 0; i < request->topics.count; i++) {
        struct slice name = slice_of(request->topics.items[i]);
        if (name_is_pattern(name) ||
            !tails_cover(job->sources->base->tails, slice_of(request->ns), name, job->note->cursor))
            return false;
    }
    return true;
}

/* Moves what fits from the sorted @events into the note. */
static void note_take(struct bus_job *job, struct event *const *events, size_t count)
{
    struct note_read *note = job->note;
    size_t bytes = 0, i;
    uint64_t last = note->cursor;
    note_events_room(note, count);
    for (i = 0; i < count; i++) {
        if (event_id(events[i]) == last)
            continue; /* the same event through another topic */
        if (note->count && (note->count >= note->max_events ||
                            bytes + event_frame(events[i]).len > note->max_bytes))
            break;
        bytes += event_frame(events[i]).len;
        last = event_id(events[i]);
        note->events[note->count++] = event_ref(events[i]);
    }
    metrics_add(job->sources->base->metrics, M_EVENTS_REPLAYED, note->count);
    note->final = i == count;
    /* The last event may be on several topics, and only one of its messages may have come yet. */
    uint64_t seen = bus_space_seen(job->space), complete = seen ? seen - 1 : 0;
    note->end = note->final && complete > last ? complete : last;
    note->start = note->cursor;
}

static void put_ends_of_tails(struct bus_job *job)
{
    struct tails *tails = job->sources->base->tails;
    const struct subscription_request *request = subscription_request(job->note->sub);
    for (size_t i = 0; i < request->topics.count; i++) {
        struct slice ns = slice_of(request->ns), topic = slice_of(request->topics.items[i]);
        enum topic_end end = tails_ended(tails, ns, topic);
        if (end != END_NONE)
            note_put_end(job->note, topic.ptr, tails_last(tails, ns, topic), end);
    }
}

/* A cursor above what this node has seen may be of another node that is
 * ahead, or of nobody: the log knows. */
bool bus_reads_job_from_tails(struct bus_job *job)
{
    const struct bus_base *base = job->sources->base;
    const struct note_read *note = job->note;
    const struct strings *names = &subscription_request(note->sub)->topics;
    if (note->looks || note->kind != CURSOR_ID || !note->cursor ||
        note->cursor > bus_space_seen(job->space) || bus_space_is_unrepaired(job->space) ||
        bus_repairs_are_under_way(job->sources->repairs) || note->budget < note->max_events ||
        !tails_have_all(job))
        return false;
    size_t each = (size_t)note->max_events + 1, count = 0;
    int64_t offset_us = store_clock_offset_us(&base->store);
    struct event_clock now = {.wall_us = clock_wall_us() + (uint64_t)offset_us};
    struct event **events = NULL;
    for (size_t i = 0; i < names->count; i++) {
        events = mem_resize(events, (count + each) * sizeof(struct event *));
        count += tails_read(base->tails, slice_of(bus_space_ns(job->space)),
                            slice_of(names->items[i]), note->cursor, &now, events + count, each);
    }
    if (names->count > 1 && count)
        qsort(events, count, sizeof(*events), compare_events);
    note_take(job, events, count);
    free(events);
    if (note->final)
        put_ends_of_tails(job);
    metrics_add(base->metrics, M_READS_MEMORY, 1);
    bus_reads_job_end(job);
    return true;
}

/* Whether the log's last event of a topic says nothing new about the live path. If it does, it may
 * just be lost there, and taking it for known would hide that from those who are live. */
static bool may_learn(struct tails *tails, struct bus_space *space, const struct replay *r)
{
    const struct bus_names *names = bus_space_names(space);
    const struct store_name *name = bus_names_find(names, slice_of(r->names->items[0]));
    if (!name || !name->heard)
        return false;
    uint64_t since = bus_names_since(name), checked = bus_space_checked(space);
    uint64_t known = bus_names_have_patterns(names) || since < checked ? checked : since;
    return r->topic_last <= known || tails_last(tails, slice_of(r->ns), slice_of(name->name));
}

void bus_reads_learn(const struct bus_sources *sources, struct bus_space *space,
                     const struct replay *r)
{
    struct tails *tails = sources->base->tails;
    const struct strings *names = r->names;
    if (r->kind != CURSOR_ID || r->unknown || names->count != 1 || !r->final ||
        name_is_pattern(slice_of(names->items[0])) || !may_learn(tails, space, r))
        return;
    struct event **events = mem_alloc((r->count + 1) * sizeof(struct event *));
    bool whole = true;
    for (size_t i = 0; i < r->count; i++) {
        events[i] = r->items[i].event;
        whole &= events[i] != NULL;
    }
    if (whole) {
        struct slice ns = slice_of(r->ns), topic = slice_of(names->items[0]);
        tails_fill(tails, ns, topic, r->start, r->position, r->topic_last, events, r->count);
        tails_fill_end(tails, ns, topic, r->topic_last, r->topic_end);
    }
    free(events);
}
