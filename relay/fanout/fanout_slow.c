/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that do not keep up: what is counted and logged of them, and their end. */
#include "common/clock.h"
#include "relay/fanout/fanout_parts.h"

static void close_slow(struct fanout *f, struct stream *s)
{
    uint64_t held;
    if (s->client.state == CLIENT_CLOSING)
        return;
    stream_close(s, CLOSE_SLOW, false);
    if (log_limit_pass(&f->slow_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "ended a stream that reads too slowly; it may resume with its last id",
                "ns", subscription_request(s->client.sub)->ns, "topic",
                subscription_first_topic(s->client.sub), "not_logged", log_u64(held), NULL);
}

void fanout_doom(struct fanout *f, struct stream *s, bool drops)
{
    metrics_add(f->shared.metrics, M_DROPPED_SLOW, drops);
    stream_doom(s);
}

/* Once per burst: most of it is in the metrics. */
static void log_behind(struct fanout *f, const struct stream *s, enum client_push pushed)
{
    uint64_t held;
    if (!log_limit_pass(&f->behind_limit, clock_mono_us(), &held))
        return;
    log_put(LOG_INFO,
            pushed == CLIENT_BEHIND ? "a stream reads too slowly, and goes on from the log"
                                    : "dropped events of a stream that reads too slowly, as its "
                                      "policy is; it is told",
            "ns", subscription_request(s->client.sub)->ns, "topic",
            subscription_first_topic(s->client.sub), "not_logged", log_u64(held), NULL);
}

__attribute__((noinline)) void fanout_pushed(struct fanout *f, struct stream *s,
                                             enum client_push pushed)
{
    if (pushed == CLIENT_BEHIND || pushed == CLIENT_DROPPED)
        log_behind(f, s, pushed);
    if (!stream_flow_pushed(s, pushed))
        fanout_doom(f, s, pushed == CLIENT_FULL);
    else if (s->blocked)
        stream_account(s);
}

void fanout_close_doomed(struct fanout *f)
{
    struct stream_shared *shared = &f->shared;
    for (size_t i = 0; i < shared->doomed_count; i++) {
        struct stream *s = shared->doomed[i];
        if (!s) /* its connection has ended since */
            continue;
        s->doomed = false;
        if (stream_ends_are_all(s))
            stream_end(s, CLOSE_ENDED);
        else
            close_slow(f, s);
    }
    shared->doomed_count = 0;
}
