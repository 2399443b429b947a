/* SPDX-License-Identifier: Apache-2.0 */
/* Many clients come at once, each with a Last-Event-ID, and want what they missed. */
#include "bench.h"
#include "common/mem.h"
#include <stdlib.h>

static bool publish_past(struct bench *b)
{
    const struct options *o = &b->options;
    b->publisher.flags = LEDGER_PAST;
    /* One before those that are missed: its id is where clients have been. */
    uint64_t all = o->cursor == CURSOR_NONE ? 0 : o->missed * o->topics.count + 1;
    for (uint64_t i = 0; i < all; i++)
        publisher_publish(&b->publisher, (uint32_t)(i % o->topics.count));
    if (!bench_run_until(b, bench_all_complete, "publishing what is to be missed"))
        return false;
    b->publisher.flags = LEDGER_MEASURED;
    if (b->ledger.failed)
        bench_fail(b, "a publish was refused");
    else if (all && ledger_get(&b->ledger, 1)->id == 0)
        bench_fail(b, "the answer to a publish has no id, so there are no cursors");
    return !b->failure[0];
}

/* Gives each client its cursor, and finds out what it has to get. */
static void set_cursors(struct bench *b)
{
    const struct options *o = &b->options;
    if (o->cursor == CURSOR_NONE)
        return;
    struct ledger_index *index = ledger_index_new(&b->ledger, o->topics.count);
    uint32_t *topics = mem_alloc(topics_set_max(&o->topics) * sizeof *topics);
    uint64_t events = b->ledger.count - 1;
    for (uint64_t i = 0; i < o->clients; i++) {
        struct stream *st = &b->streams.items[i];
        st->after = o->cursor == CURSOR_ONE ? 1 : 1 + i % events;
        size_t count = topics_set(&o->topics, st->number, topics);
        st->to_catch = ledger_index_sum(index, topics, count, st->after, b->ledger.count).count;
    }
    free(topics);
    ledger_index_free(index);
}

static bool all_caught_up(const struct bench *b)
{
    return streams_settled(&b->streams) && b->streams.caught_up >= b->streams.ready;
}

static bool storm(struct bench *b)
{
    struct mark from, to;
    bench_say(b, "storm of %llu clients", (unsigned long long)b->options.clients);
    b->pss_before = processes_pss(&b->server);
    bench_mark(b, &from);
    if (b->options.rate)
        publisher_start(&b->publisher);
    b->opening = true;
    bool ok = bench_run_until(b, all_caught_up, "storm");
    b->opening = false;
    publisher_stop(&b->publisher);
    bench_mark(b, &to);
    bench_span(&from, &to, &b->run);
    return ok;
}

/* An event on each topic, which whoever is live gets at once. */
static bool mark_live(struct bench *b)
{
    if (b->options.publish == PUBLISH_NONE)
        return true;
    b->publisher.flags = 0;
    for (uint32_t topic = 0; topic < b->options.topics.count; topic++)
        publisher_publish(&b->publisher, topic);
    if (!bench_run_until(b, bench_all_complete, "waiting for the marker"))
        return false;
    b->live_ns = loop_now_ns() - b->streams.start_ns;
    return true;
}

void bench_storm(struct bench *b)
{
    if (!publish_past(b))
        return;
    set_cursors(b);
    if (storm(b) && mark_live(b))
        b->pss_after = processes_pss(&b->server);
    streams_verify(&b->streams);
}
