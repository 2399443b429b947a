/* SPDX-License-Identifier: Apache-2.0 */
/* Open the streams, publish for a while, see that everything came. */
#include "bench.h"

enum {
    SETTLE_MS = 500, /* for servers that do not tell when a stream is subscribed */
    STEADY_MS = 300, /* until memory that connecting took is given back */
};

static bool connect_all(struct bench *b)
{
    b->pss_before = processes_pss(&b->server);
    bench_say(b, "connecting %llu clients", (unsigned long long)b->options.clients);
    b->opening = true;
    if (!bench_run_until(b, bench_all_settled, "connecting"))
        return false;
    b->opening = false;
    if (streams_failed(&b->streams))
        bench_fail(b, "%llu streams failed to open",
                   (unsigned long long)streams_failed(&b->streams));
    return !b->failure[0] &&
           bench_run_for(b, b->options.ready == READY_HEAD ? SETTLE_MS : STEADY_MS);
}

static bool stay_idle(struct bench *b)
{
    struct mark from, to;
    if (b->options.idle_ms)
        bench_say(b, "idle");
    bench_mark(b, &from);
    if (b->options.idle_ms && !bench_run_for(b, b->options.idle_ms))
        return false;
    bench_mark(b, &to);
    bench_span(&from, &to, &b->idle);
    b->pss_after = processes_pss(&b->server);
    return true;
}

static bool publish(struct bench *b)
{
    struct mark from, to;
    bench_say(b, "publishing");
    publisher_start(&b->publisher);
    if (!bench_run_for(b, b->options.warmup_ms))
        return false;
    b->publisher.flags = LEDGER_MEASURED;
    bench_mark(b, &from);
    bool ok = bench_run_for(b, b->options.duration_ms);
    bench_mark(b, &to);
    bench_span(&from, &to, &b->run);
    publisher_stop(&b->publisher);
    return ok;
}

void bench_steady(struct bench *b)
{
    if (!connect_all(b) || !stay_idle(b))
        return;
    if (b->options.duration_ms == 0)
        return;
    if (publish(b))
        bench_run_until(b, bench_all_complete, "waiting for the last events");
    streams_verify(&b->streams);
}
