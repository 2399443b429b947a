/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream asks for: immutable once made, shared by reference count between a worker's client
 * and the bus. */
#pragma once
#include "relay/core/flow_request.h"
#include "relay/core/format_request.h"
#include "relay/core/grant.h"

enum cursor_kind {
    CURSOR_NONE,    /* live only */
    CURSOR_ID,      /* Last-Event-ID: what was missed is told */
    CURSOR_UNKNOWN, /* a Last-Event-ID that is not ours */
    CURSOR_SINCE,   /* `value` is a time in microseconds, as ids are */
    CURSOR_LAST,    /* the last `value` events */
    CURSOR_ALL,
    CURSOR_WHOLE,    /* the same of exact topics; what their logs lack at the beginning is told */
    CURSOR_SNAPSHOT, /* the latest event of each topic */
};

/* From wherever the namespace stands: nothing is read for it. */
static inline bool cursor_is_live_only(enum cursor_kind kind)
{
    return kind == CURSOR_NONE || kind == CURSOR_UNKNOWN;
}

struct subscription_request {
    char *ns;
    struct strings topics; /* valid, without repeats; none: all were unsubscribed */
    struct strings types;  /* empty: all */
    enum cursor_kind cursor;
    bool cursor_is_local; /* CURSOR_SINCE: by this machine's clock, not by the one of the ids */
    uint64_t cursor_value;
    uint64_t heartbeat_ms; /* 0: as configured */
    char *heartbeat_event; /* their type; NULL: as configured */
    struct flow_request flow;
    struct format_request format;
    uint8_t event_format; /* what that comes to: a set of enum event_format */
    bool finite;          /* an answer of 204 is understood */
    struct grant *grant;  /* a reference; NULL: without authentication */
    bool route_grants;    /* its topics come with its path: they need not lie within the grant */
    bool route_requires;  /* its path asks for roles of the grant */
};

void subscription_request_reset(struct subscription_request *r);
/* How many of its topics are patterns. */
size_t subscription_request_patterns(const struct subscription_request *r);
/* Whether each of its topics and patterns asks only for what one of @patterns matches. */
bool subscription_request_is_within(const struct subscription_request *r,
                                    const struct strings *patterns);

struct subscription;

/* Takes over @request's contents (and leaves it empty). One reference for the caller. */
struct subscription *subscription_new(struct subscription_request *request);
/* A copy with another grant (a reference is taken): after a renewal. One reference for the caller.
 */
struct subscription *subscription_renewed(const struct subscription *s, struct grant *grant);
/* A copy with other topics (copied). */
struct subscription *subscription_of_topics(const struct subscription *s,
                                            const struct strings *topics);
struct subscription *subscription_ref(struct subscription *s);
void subscription_unref(struct subscription *s); /* any thread; NULL is fine */

const struct subscription_request *subscription_request(const struct subscription *s);
struct slice subscription_ns(const struct subscription *s);
/* The first of its topics, for the log; "" where there is none. */
const char *subscription_first_topic(const struct subscription *s);
/* What it is told that is no event: as configured, or nothing. */
enum config_control subscription_control(const struct subscription *s,
                                         enum config_control configured);
/* Whether one of its topics and patterns matches. */
bool subscription_wants_topic(const struct subscription *s, struct slice topic);
/* Whether it wants events of this type (SLICE_NONE: the event has none). */
bool subscription_wants_type(const struct subscription *s, struct slice type);
/* Whether an event of its topics is for it: it wants the type, and its grant has the match. */
bool subscription_wants_event(const struct subscription *s, const struct event *ev);
