#include "relay/subscription.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/mem.h"
#include "relay/pattern.h"

struct subscription {
    atomic_uint refs;
    struct stream_request request;
};

struct subscription *subscription_new(struct stream_request *request)
{
    struct subscription *s = mem_zero(1, sizeof(*s));
    atomic_init(&s->refs, 1);
    s->request = *request;
    *request = (struct stream_request){0};
    return s;
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
    stream_request_reset(&s->request);
    free(s);
}

const struct stream_request *subscription_request(const struct subscription *s)
{
    return &s->request;
}

struct slice subscription_ns(const struct subscription *s)
{
    return slice_of(s->request.ns);
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
