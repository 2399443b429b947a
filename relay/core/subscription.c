/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/subscription.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/core/pattern.h"

struct subscription {
    atomic_uint refs;
    struct subscription_request request;
    char *memory[]; /* the request's lists, then its texts */
};

void subscription_request_reset(struct subscription_request *r)
{
    free(r->ns);
    strings_reset(&r->topics);
    strings_reset(&r->types);
    grant_unref(r->grant);
    free(r->heartbeat_event);
    *r = (struct subscription_request){0};
}

size_t subscription_request_patterns(const struct subscription_request *r)
{
    size_t count = 0;
    for (size_t i = 0; i < r->topics.count; i++)
        count += name_is_pattern(slice_of(r->topics.items[i]));
    return count;
}

bool subscription_request_is_within(const struct subscription_request *r,
                                    const struct strings *patterns)
{
    for (size_t i = 0; i < r->topics.count; i++) {
        bool found = false;
        for (size_t p = 0; p < patterns->count && !found; p++)
            found = pattern_includes(slice_of(patterns->items[p]), slice_of(r->topics.items[i]));
        if (!found)
            return false;
    }
    return patterns->count > 0;
}

static size_t strings_size(const struct strings *strings)
{
    size_t size = strings->count * sizeof(strings->items[0]);
    for (size_t i = 0; i < strings->count; i++)
        size += strlen(strings->items[i]) + 1;
    return size;
}

static size_t text_size(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static char *copy_string(char **at, const char *text)
{
    char *copy = *at;
    *at = stpcpy(copy, text) + 1;
    return copy;
}

static struct strings copy_strings(char ***slots, char **at, const struct strings *from)
{
    struct strings copy = {*slots, from->count};
    *slots += from->count;
    for (size_t i = 0; i < from->count; i++)
        copy.items[i] = copy_string(at, from->items[i]);
    return copy;
}

/* One allocation for all of it: there are as many as there are clients. */
static struct subscription *copy_request(const struct subscription_request *request,
                                         const struct strings *topics, struct grant *grant)
{
    size_t slot_bytes = (topics->count + request->types.count) * sizeof(char *);
    struct subscription *s =
        mem_zero(1, sizeof(*s) + strings_size(topics) + strings_size(&request->types) +
                        text_size(request->ns) + text_size(request->heartbeat_event));
    char **slots = s->memory, *at = (char *)s->memory + slot_bytes;
    atomic_init(&s->refs, 1);
    s->request = *request;
    s->request.topics = copy_strings(&slots, &at, topics);
    s->request.types = copy_strings(&slots, &at, &request->types);
    s->request.ns = copy_string(&at, request->ns);
    if (request->heartbeat_event)
        s->request.heartbeat_event = copy_string(&at, request->heartbeat_event);
    s->request.grant = grant ? grant_ref(grant) : NULL;
    return s;
}

struct subscription *subscription_new(struct subscription_request *request)
{
    struct subscription *s = copy_request(request, &request->topics, request->grant);
    subscription_request_reset(request);
    return s;
}

struct subscription *subscription_renewed(const struct subscription *s, struct grant *grant)
{
    return copy_request(&s->request, &s->request.topics, grant);
}

struct subscription *subscription_of_topics(const struct subscription *s,
                                            const struct strings *topics)
{
    return copy_request(&s->request, topics, s->request.grant);
}

struct subscription *subscription_ref(struct subscription *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void subscription_unref(struct subscription *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    grant_unref(s->request.grant);
    free(s);
}

const struct subscription_request *subscription_request(const struct subscription *s)
{
    return &s->request;
}

enum config_control subscription_control(const struct subscription *s,
                                         enum config_control configured)
{
    const struct flow_request *flow = &s->request.flow;
    return flow->no_controls ? CONTROL_OFF : flow->has_control ? CONTROL_ON : configured;
}

struct slice subscription_ns(const struct subscription *s)
{
    return slice_of(s->request.ns);
}

const char *subscription_first_topic(const struct subscription *s)
{
    return s->request.topics.count ? s->request.topics.items[0] : "";
}

bool subscription_wants_topic(const struct subscription *s, struct slice topic)
{
    const struct strings *names = &s->request.topics;
    for (size_t i = 0; i < names->count; i++)
        if (pattern_matches(slice_of(names->items[i]), topic))
            return true;
    return false;
}

bool subscription_wants_type(const struct subscription *s, struct slice type)
{
    const struct strings *types = &s->request.types;
    if (types->count == 0)
        return true;
    if (!type.ptr)
        return false;
    for (size_t i = 0; i < types->count; i++)
        if (slice_is(type, types->items[i]))
            return true;
    return false;
}

/* As its stream is shown it. */
static struct slice shown_type(const struct subscription *s, const struct event *ev)
{
    struct slice type = event_type(ev);
    if (!(s->request.event_format & EVENT_SWAPS_TYPE) || !event_is_untyped(ev))
        return type;
    return type.ptr ? SLICE_NONE : event_topic(ev);
}

bool subscription_wants_event(const struct subscription *s, const struct event *ev)
{
    return subscription_wants_type(s, shown_type(s, ev)) && grant_matches(s->request.grant, ev);
}
