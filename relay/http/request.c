/* SPDX-License-Identifier: Apache-2.0 */
/* GET /events taken apart, and what all requests share. */
#include "relay/http/request.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/event.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/http/request_parts.h"

enum { HEARTBEAT_MAX_MS = 3600 * 1000 }; /* where the relay sends none by itself */

/* --- shared --- */

/* Finds a parameter that may stand only once; SLICE_NONE when it is absent. */
static enum err find_single(const struct request_view *view, const char *name, struct slice *out,
                            struct problem *problem)
{
    bool found = false;
    *out = SLICE_NONE;
    for (size_t i = 0; i < view->query_count; i++) {
        if (!slice_is(view->query[i].name, name))
            continue;
        if (found)
            return request_refuse(problem, 400, "%s: stands twice in the query, expected once",
                                  name);
        found = true;
        *out = view->query[i].value;
        if (!out->ptr)
            *out = SLICE_LIT("");
    }
    return OK;
}

enum err request_parse_ns(const struct request_view *view, char **out, struct problem *problem)
{
    struct slice ns;
    enum err e = find_single(view, "ns", &ns, problem);
    if (e != OK)
        return e;
    if (!ns.ptr) {
        const char *granted = view->grant ? grant_fields(view->grant)->ns : NULL;
        ns = granted ? slice_of(granted) : SLICE_LIT("default");
    }
    if (!name_ns_valid(ns)) {
        (void)request_refuse(problem, 400,
                             "ns: expected a namespace of 1 to 64 characters A-Z a-z 0-9 _ -, "
                             "not ");
        request_show(problem, ns);
        return ERR_INVALID;
    }
    *out = slice_dup(ns);
    return OK;
}

/* --- streams --- */

/* What the URL, or the grant, stands for where the query names none. */
static enum err take_topics(const struct strings *topics, const struct config *config,
                            struct subscription_request *r, struct problem *problem)
{
    if (topics->count > config->max_topics)
        return request_refuse(problem, 403,
                              "topic: your credentials name %zu, and max_topics is "
                              "%llu; ask for some of them",
                              topics->count, (unsigned long long)config->max_topics);
    for (size_t i = 0; i < topics->count; i++)
        strings_add(&r->topics, slice_of(topics->items[i]));
    return OK;
}

static enum err parse_topics(const struct request_view *view, const struct config *config,
                             struct subscription_request *r, struct problem *problem)
{
    for (size_t i = 0; i < view->query_count; i++) {
        struct slice topic = view->query[i].value;
        if (!slice_is(view->query[i].name, "topic"))
            continue;
        if (view->topics)
            return request_refuse(problem, 400,
                                  "topic: this path has topics of its own; ask for others at "
                                  "/events");
        if (!topic.ptr || !name_pattern_valid(topic)) {
            (void)request_refuse(problem, 400,
                                 "topic: expected 1 to 512 bytes of UTF-8 in tokens separated by "
                                 "dots, without spaces; * stands for one whole token, > at the "
                                 "end for one or more; not ");
            request_show(problem, topic);
            return ERR_INVALID;
        }
        if (strings_have(&r->topics, topic))
            continue;
        if (r->topics.count >= config->max_topics)
            return request_refuse(problem, 400, "topic: expected at most %llu different ones",
                                  (unsigned long long)config->max_topics);
        strings_add(&r->topics, topic);
    }
    if (r->topics.count == 0 && view->topics)
        return take_topics(view->topics, config, r, problem);
    if (r->topics.count == 0 && view->grant && grant_fields(view->grant)->topics.count)
        return take_topics(&grant_fields(view->grant)->topics, config, r, problem);
    if (r->topics.count == 0)
        return request_refuse(problem, 400,
                              "topic: missing; ask for at least one, as in /events?topic=news");
    return OK;
}

static enum err parse_types(const struct request_view *view, struct subscription_request *r,
                            struct problem *problem)
{
    for (size_t i = 0; i < view->query_count; i++) {
        struct slice type = view->query[i].value;
        if (!slice_is(view->query[i].name, "event"))
            continue;
        if (!publication_text_valid(FIELD_EVENT, type)) {
            (void)request_refuse(problem, 400, "event: expected an event type of ");
            publication_put_expected(FIELD_EVENT, &problem->detail);
            buf_puts(&problem->detail, ", not ");
            request_show(problem, type);
            return ERR_INVALID;
        }
        if (strings_have(&r->types, type))
            continue;
        if (r->types.count >= REQUEST_TYPES_MAX)
            return request_refuse(problem, 400, "event: expected at most %d different ones",
                                  REQUEST_TYPES_MAX);
        strings_add(&r->types, type);
    }
    return OK;
}

/* The header wins. In the query the last one does: EventSource libraries append theirs to an URL
 * that may have one. */
static struct slice find_last_event_id(const struct request_view *view)
{
    struct slice found = slice_trim(view->last_event_id);
    if (found.len > 0)
        return found;
    found = SLICE_NONE;
    for (size_t i = 0; i < view->query_count; i++) {
        struct slice name = view->query[i].name, value = slice_trim(view->query[i].value);
        bool ours = slice_is(name, "lastEventId") || slice_is(name, "lastEventID") ||
                    slice_is(name, "last_event_id") || slice_is(name, "Last-Event-ID");
        if (ours && value.len > 0)
            found = value;
    }
    return found;
}

bool request_cursor(const struct request_view *view, uint64_t *out)
{
    struct slice text = find_last_event_id(view);
    return text.ptr && slice_u64(text, EVENT_ID_MAX, out) == OK;
}

/* Nobody knows all that a pattern has ever matched. */
static enum err set_whole(struct subscription_request *r, struct problem *problem)
{
    if (subscription_request_patterns(r))
        return request_refuse(problem, 400,
                              "replay: whole is for topics without wildcards; ask for replay=all");
    r->cursor = CURSOR_WHOLE;
    return OK;
}

static enum err parse_replay(struct slice text, const struct config *config,
                             struct subscription_request *r, struct problem *problem)
{
    uint64_t n;
    if (slice_is(text, "all")) {
        r->cursor = CURSOR_ALL;
        return OK;
    }
    if (slice_is(text, "whole"))
        return set_whole(r, problem);
    if (slice_u64(text, config->replay_max_events, &n) == OK) {
        r->cursor = n > 0 ? CURSOR_LAST : CURSOR_NONE;
        r->cursor_value = n;
        return OK;
    }
    (void)request_refuse(problem, 400,
                         "replay: expected all or a number from 0 to %llu, or whole, not ",
                         (unsigned long long)config->replay_max_events);
    request_show(problem, text);
    return ERR_INVALID;
}

/* A + of a time zone that was not percent-encoded arrives as a space: "…T10:00:00 01:00". */
static enum err parse_time(struct slice text, uint64_t *out_us)
{
    char copy[64];
    if (clock_parse_rfc3339(text, out_us) == OK)
        return OK;
    if (text.len < 20 || text.len >= sizeof(copy) || text.ptr[text.len - 6] != ' ')
        return ERR_INVALID;
    memcpy(copy, text.ptr, text.len);
    copy[text.len - 6] = '+';
    return clock_parse_rfc3339((struct slice){copy, text.len}, out_us);
}

/* Any number of seconds that anybody means is below it. */
#define YEAR_2001_MS UINT64_C(978307200000)

static enum err parse_since(struct slice text, uint64_t now_us, struct subscription_request *r,
                            struct problem *problem)
{
    uint64_t n;
    r->cursor = CURSOR_SINCE;
    if (slice_u64(text, EVENT_ID_MAX, &n) == OK) {
        if (n > 0 && n < YEAR_2001_MS)
            return request_refuse(problem, 400,
                                  "since: expected Unix time in milliseconds, not seconds; %llu "
                                  "would be before 2001",
                                  (unsigned long long)n);
        r->cursor_value = n < EVENT_ID_MAX / 1000 ? n * 1000 : EVENT_ID_MAX;
        return OK;
    }
    if (text.len > 1 && text.ptr[0] == '-' &&
        slice_duration_ms((struct slice){text.ptr + 1, text.len - 1}, &n) == OK) {
        r->cursor_value = n < now_us / 1000 ? now_us - n * 1000 : 0;
        r->cursor_is_local = true;
        return OK;
    }
    if (parse_time(text, &r->cursor_value) == OK) {
        if (r->cursor_value > EVENT_ID_MAX) /* beyond all ids: the year 2255 */
            r->cursor_value = EVENT_ID_MAX;
        return OK;
    }
    (void)request_refuse(problem, 400,
                         "since: expected Unix milliseconds, a time such as 2026-01-02T03:04:05Z, "
                         "or a duration back from now such as -10m, not ");
    request_show(problem, text);
    return ERR_INVALID;
}

/* A parameter that is on, off, or absent: *out stays. */
static enum err parse_flag(const struct request_view *view, const char *name, bool *out,
                           struct problem *problem)
{
    struct slice text;
    enum err e = find_single(view, name, &text, problem);
    if (e != OK || !text.ptr)
        return e;
    bool on = slice_is(text, "1") || slice_is(text, "true");
    if (on || slice_is(text, "0") || slice_is(text, "false")) {
        *out = on;
        return OK;
    }
    (void)request_refuse(problem, 400, "%s: expected 1 or true, 0 or false, not ", name);
    request_show(problem, text);
    return ERR_INVALID;
}

/* Patterns may match too many topics, too, but that is known only to who looks. */
static enum err set_snapshot(const struct config *config, struct subscription_request *r,
                             struct problem *problem)
{
    size_t topics = r->topics.count - subscription_request_patterns(r);
    if (topics > config->snapshot_max)
        return request_refuse(problem, 400,
                              "snapshot: is of at most %llu topics (snapshot.max), not of %zu",
                              (unsigned long long)config->snapshot_max, topics);
    r->cursor = CURSOR_SNAPSHOT;
    return OK;
}

/* All of them are checked, also those that another one beats: a URL is right or wrong whatever the
 * client's history. */
static enum err parse_cursor(const struct request_view *view, const struct config *config,
                             uint64_t now_us, struct subscription_request *r,
                             struct problem *problem)
{
    struct slice last_id = find_last_event_id(view), replay, since;
    bool snapshot = false;
    enum err e;
    if ((e = find_single(view, "replay", &replay, problem)) != OK ||
        (e = find_single(view, "since", &since, problem)) != OK ||
        (e = parse_flag(view, "snapshot", &snapshot, problem)) != OK)
        return e;
    r->cursor = CURSOR_NONE;
    if (snapshot && (replay.ptr || since.ptr))
        return request_refuse(problem, 400, "snapshot: stands for itself, without %s",
                              replay.ptr ? "replay" : "since");
    if (snapshot && (e = set_snapshot(config, r, problem)) != OK)
        return e;
    if (since.ptr && (e = parse_since(since, now_us, r, problem)) != OK)
        return e;
    if (replay.ptr && (e = parse_replay(replay, config, r, problem)) != OK)
        return e;
    if (last_id.ptr)
        r->cursor =
            slice_u64(last_id, EVENT_ID_MAX, &r->cursor_value) == OK ? CURSOR_ID : CURSOR_UNKNOWN;
    if (r->cursor != CURSOR_ID && r->cursor != CURSOR_LAST && r->cursor != CURSOR_SINCE)
        r->cursor_value = 0;
    return OK;
}

/* For clients that give up a connection which was silent for less long than the configured time. */
static enum err parse_heartbeat(const struct request_view *view, const struct config *config,
                                struct subscription_request *r, struct problem *problem)
{
    struct slice text;
    uint64_t ms, min = config->heartbeat_min_ms;
    uint64_t max = config->heartbeat_ms ? config->heartbeat_ms : HEARTBEAT_MAX_MS;
    enum err e = find_single(view, "heartbeat", &text, problem);
    if (e != OK || !text.ptr)
        return e;
    if (slice_duration_ms(text, &ms) == OK && ms >= min && ms <= max) {
        r->heartbeat_ms = ms;
        return OK;
    }
    (void)request_refuse(problem, 400,
                         "heartbeat: expected a duration such as 4s, from %llums to %llums, not ",
                         (unsigned long long)min, (unsigned long long)max);
    request_show(problem, text);
    return ERR_INVALID;
}

static enum err refuse_value(const char *name, struct slice text, struct buf *expected,
                             struct problem *problem)
{
    (void)request_refuse(problem, 400, "%s: %.*s, not ", name, (int)expected->len, expected->ptr);
    request_show(problem, text);
    buf_reset(expected);
    return ERR_INVALID;
}

static enum err set_flow(const char *name, struct slice text, const struct config *config,
                         struct subscription_request *r, struct problem *problem)
{
    struct buf expected = {0};
    if (!text.ptr || flow_request_set(&r->flow, name, text, config, &expected) == OK)
        return OK;
    return refuse_value(name, text, &expected, problem);
}

/* The query wins over the header, which is checked all the same; and what a client says over what
 * its path has. */
static enum err parse_flow(const struct request_view *view, const struct config *config,
                           struct subscription_request *r, struct problem *problem)
{
    const struct {
        const char *name;
        struct slice header;
    } asked[] = {{"slow", view->slow},
                 {"buffer", view->buffer},
                 {"flush", SLICE_NONE},
                 {"control", SLICE_NONE}};
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        struct slice text;
        enum err e = find_single(view, asked[i].name, &text, problem);
        if (e == OK)
            e = set_flow(asked[i].name, asked[i].header, config, r, problem);
        if (e == OK)
            e = set_flow(asked[i].name, text, config, r, problem);
        if (e != OK)
            return e;
    }
    return OK;
}

static enum err parse_format(const struct request_view *view, struct subscription_request *r,
                             struct problem *problem)
{
    struct buf expected = {0};
    for (size_t i = 0; format_request_names[i]; i++) {
        const char *name = format_request_names[i];
        struct slice text;
        enum err e = find_single(view, name, &text, problem);
        if (e != OK)
            return e;
        if (text.ptr && format_request_set(&r->format, name, text, &expected) != OK)
            return refuse_value(name, text, &expected, problem);
    }
    return OK;
}

/* How refusals come is looked at where they are made: docs/protocol.md, 14.3. */
static enum err check_errors(const struct request_view *view, struct problem *problem)
{
    struct slice text;
    enum err e = find_single(view, "errors", &text, problem);
    if (e != OK || !text.ptr || slice_is(text, "event"))
        return e;
    (void)request_refuse(problem, 400, "errors: expected event, not ");
    request_show(problem, text);
    return ERR_INVALID;
}

enum err request_parse_stream(const struct request_view *view, const struct config *config,
                              uint64_t now_us, struct subscription_request *out,
                              struct problem *problem)
{
    struct subscription_request r = {0};
    enum err e = request_parse_ns(view, &r.ns, problem);
    if (e == OK)
        e = parse_topics(view, config, &r, problem);
    if (e == OK)
        e = parse_types(view, &r, problem);
    if (e == OK)
        e = parse_cursor(view, config, now_us, &r, problem);
    if (e == OK)
        e = parse_heartbeat(view, config, &r, problem);
    if (e == OK)
        e = parse_flag(view, "finite", &r.finite, problem);
    if (e == OK)
        e = parse_flow(view, config, &r, problem);
    if (e == OK)
        e = parse_format(view, &r, problem);
    if (e == OK)
        e = check_errors(view, problem);
    if (e == OK)
        e = request_check_stream(view, &r, problem);
    if (e != OK) {
        subscription_request_reset(&r);
        return e;
    }
    *out = r;
    return OK;
}
