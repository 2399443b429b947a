/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a stream that says `finite=1` has anything to come: an EventSource comes back after every
 * end but 204, which only who asks for it can be given. docs/protocol.md, 4.3. */
#include "common/clock.h"
#include "common/mem.h"
#include "relay/http/routes_parts.h"

/* So many of the events that would be next are looked at, a page at a time, until one of them is
 * wanted: mostly the first page tells. A client that wants few of many, and is told of no position
 * in between, would else come back for ever. */
enum { LOOK_EVENTS = 32, LOOK_EVENTS_ON = 256, LOOK_EVENTS_MOST = 4096 };

/* Gaps are something to come, too, if the stream is told of them: else its cursor would not move,
 * and it came back for ever. What is over only replaces others, which are not sent. */
static bool has_wanted(const struct routes *r, const struct note_read *answer)
{
    uint64_t offset_us = (uint64_t)bus_clock_offset_us(r->node->bus);
    struct event_clock now = {.wall_us = clock_wall_us() + offset_us};
    for (size_t i = 0; i < answer->count; i++) {
        const struct event *ev = answer->events[i];
        bool is_gap = !event_topic(ev).ptr;
        if (is_gap ? event_frame(ev).len > 0
                   : subscription_wants_event(answer->sub, ev) && !event_is_over(ev, &now))
            return true;
    }
    return false;
}

static bool is_over(const struct routes *r, const struct note_read *answer)
{
    return answer->final && answer->end_count == subscription_request(answer->sub)->topics.count &&
           !has_wanted(r, answer);
}

static void reply_over(struct routes *r, const struct routes_visit *v)
{
    struct routes_headers h = {0};
    metrics_add(r->node->metrics[r->worker], M_STREAMS_OVER, 1);
    routes_reply(r, v->call, 204, NULL, NULL, &h);
}

/* Things may have changed meanwhile: then the request begins anew, or is refused. */
static bool is_still_good(struct routes *r, struct routes_visit *v)
{
    if (routes_visit_is_outdated(r, v)) {
        routes_visit_anew(r, v);
        return false;
    }
    enum err revoked = v->grant ? admission_check_revoked(r->admission, v->grant) : OK;
    if (revoked == ERR_AGAIN)
        routes_wait_trust(r, v);
    else if (revoked)
        routes_refuse(r, v, 401, SLICE_LIT("revoked"));
    return !revoked;
}

static void look_on(struct routes *r, struct routes_visit *v, const struct note_read *before);

static void on_looked(struct routes *r, struct routes_visit *v, const struct note_read *answer)
{
    if (!is_still_good(r, v))
        return;
    if (answer && is_over(r, answer)) {
        reply_over(r, v);
        return;
    }
    if (answer && !answer->final && !has_wanted(r, answer) && v->looked_over < LOOK_EVENTS_MOST) {
        look_on(r, v, answer);
        return;
    }
    v->looked = true;
    v->path->serve(r, v);
}

static struct note_read *read_page(const struct routes *r, struct subscription *sub,
                                   enum cursor_kind kind, uint64_t cursor, uint32_t events)
{
    struct note_read *read = mem_zero(1, sizeof(*read));
    read->kind = kind;
    read->cursor = cursor;
    read->sub = sub;
    read->max_events = events;
    read->budget = events;
    read->max_bytes = r->config->queue_max_bytes;
    return read;
}

static void look_on(struct routes *r, struct routes_visit *v, const struct note_read *before)
{
    enum cursor_kind kind = before->kind == CURSOR_SNAPSHOT ? CURSOR_SNAPSHOT : CURSOR_ID;
    struct note_read *read =
        read_page(r, subscription_ref(before->sub), kind, before->end, LOOK_EVENTS_ON);
    read->gap_told = before->gap_told;
    v->looked_over += LOOK_EVENTS_ON;
    routes_wait_read(r, v, read, on_looked);
}

/* What its first page would be asked with. */
static struct note_read *read_new(const struct routes *r, const struct routes_visit *v,
                                  const struct subscription_request *request)
{
    struct subscription_request copy = {.ns = slice_dup(slice_of(request->ns)),
                                        .cursor = request->cursor,
                                        .cursor_is_local = request->cursor_is_local,
                                        .cursor_value = request->cursor_value,
                                        .flow = request->flow,
                                        .event_format = request->event_format,
                                        .grant = v->grant ? grant_ref(v->grant) : NULL};
    for (size_t i = 0; i < request->topics.count; i++)
        strings_add(&copy.topics, slice_of(request->topics.items[i]));
    for (size_t i = 0; i < request->types.count; i++)
        strings_add(&copy.types, slice_of(request->types.items[i]));
    return read_page(r, subscription_new(&copy), request->cursor, request->cursor_value,
                     LOOK_EVENTS);
}

bool routes_finite_waits(struct routes *r, struct routes_visit *v,
                         const struct subscription_request *request)
{
    if (!request->finite || v->looked || subscription_request_patterns(request))
        return false;
    routes_wait_read(r, v, read_new(r, v, request), on_looked);
    return true;
}
