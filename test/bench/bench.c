/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "common/clock.h"
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PUBLISH_ERRORS_MAX = 100, FILES_BESIDES = 64 };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static bool raise_file_limit(uint64_t clients)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (clients + FILES_BESIDES <= limit.rlim_cur)
        return true;
    fprintf(stderr, "sse-bench: %llu clients: a process may open %llu files here (ulimit -n)\n",
            (unsigned long long)clients, (unsigned long long)limit.rlim_cur);
    return false;
}

static bool connect_redis(struct bench *b)
{
    const struct options *o = &b->options;
    if (strcmp(o->redis, "none") == 0)
        return true;
    b->control = redis_dial(o->redis);
    return b->control != NULL;
}

bool bench_init(struct bench *b, int argc, char **argv)
{
    *b = (struct bench){.loop = {-1}};
    const struct options *o = &b->options;
    if (!options_parse(&b->options, argc, argv))
        return false;
    if (o->help || o->version)
        return true;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1000ul); /* ns: the default adds 50 us to each wait */
    loop_init(&b->loop);
    uint32_t run = (uint32_t)(clock_wall_us() ^ (uint64_t)getpid() << 20);
    ledger_init(&b->ledger, run, o->topics.count);
    streams_init(&b->streams, &b->loop, o, &b->ledger);
    return raise_file_limit(o->clients) && processes_init(&b->server, &o->server_pids) &&
           processes_init(&b->redis, &o->redis_pids) && connect_redis(b) &&
           publisher_init(&b->publisher, &b->loop, o, &b->ledger, b->streams.receivers);
}

void bench_reset(struct bench *b)
{
    if (b->loop.fd >= 0) {
        publisher_reset(&b->publisher);
        streams_reset(&b->streams);
        ledger_reset(&b->ledger);
        loop_reset(&b->loop);
    }
    if (b->control)
        redisFree(b->control);
    processes_reset(&b->server);
    processes_reset(&b->redis);
    options_reset(&b->options);
}

static struct cpu_time own_cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct cpu_time){
        0,
        (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6,
    };
}

/* Without clients an event is complete when it is in the inbox; it is published when it has left.
 */
static uint64_t waiting_in_inbox(const struct bench *b)
{
    const struct options *o = &b->options;
    char key[256];
    if (o->publish != PUBLISH_INBOX || o->clients > 0 || !b->control)
        return 0;
    snprintf(key, sizeof key, "%s:{%s}:inbox", o->prefix, o->ns);
    long long len = redis_ask_number(b->control, "XLEN", key);
    return len > 0 ? (uint64_t)len : 0;
}

void bench_mark(struct bench *b, struct mark *out)
{
    out->stats.count = 0;
    if (b->control && !redis_stats_read(b->control, &out->stats))
        bench_say(b, "Redis does not tell its command counts");
    out->server = processes_cpu(&b->server);
    out->redis = processes_cpu(&b->redis);
    out->own = own_cpu();
    out->deliveries = b->streams.deliveries;
    out->bytes = b->streams.bytes;
    out->plain_bytes = b->streams.plain_bytes;
    out->events = b->ledger.count - b->ledger.open - b->ledger.failed - waiting_in_inbox(b);
    out->at_ns = loop_now_ns();
}

void bench_span(const struct mark *from, const struct mark *to, struct span *out)
{
    out->seconds = (double)(to->at_ns - from->at_ns) / 1e9;
    out->deliveries = to->deliveries - from->deliveries;
    out->bytes = to->bytes - from->bytes;
    out->plain_bytes = to->plain_bytes - from->plain_bytes;
    out->events = to->events - from->events;
    out->server = cpu_between(from->server, to->server);
    out->redis = cpu_between(from->redis, to->redis);
    out->own = cpu_between(from->own, to->own);
    out->stats = to->stats;
    redis_stats_subtract(&out->stats, &from->stats);
}

void bench_fail(struct bench *b, const char *format, ...)
{
    va_list args;
    if (b->failure[0])
        return;
    va_start(args, format);
    vsnprintf(b->failure, sizeof b->failure, format, args);
    va_end(args);
}

void bench_say(const struct bench *b, const char *format, ...)
{
    va_list args;
    if (b->options.quiet)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* One turn of everything, at most until @until_ns. False: the run is to end. */
static bool turn(struct bench *b, uint64_t until_ns)
{
    if (b->opening)
        streams_open(&b->streams, loop_now_ns());
    publisher_turn(&b->publisher);
    uint64_t wake = publisher_wake_ns(&b->publisher);
    if (b->opening && streams_wake_ns(&b->streams) < wake)
        wake = streams_wake_ns(&b->streams);
    loop_turn(&b->loop, wake < until_ns ? wake : until_ns);
    if (interrupted)
        bench_fail(b, "interrupted");
    if (publisher_is_down(&b->publisher))
        bench_fail(b, "a publishing connection broke");
    if (!b->opening && b->streams.opened && b->streams.ready == 0)
        bench_fail(b, "all streams are gone");
    if (b->ledger.failed > PUBLISH_ERRORS_MAX)
        bench_fail(b, "too many publishes were refused");
    return !b->failure[0];
}

bool bench_run_for(struct bench *b, uint64_t ms)
{
    uint64_t end_ns = loop_now_ns() + ms * 1000000;
    while (loop_now_ns() < end_ns)
        if (!turn(b, end_ns))
            return false;
    return true;
}

/* Changes whenever anything gets on. */
static uint64_t progress(const struct bench *b)
{
    const struct streams *s = &b->streams;
    return s->bytes + s->opened + s->ready + b->ledger.count + b->ledger.open + b->ledger.failed;
}

bool bench_run_until(struct bench *b, bool (*done)(const struct bench *b), const char *what)
{
    uint64_t patience_ns = b->options.timeout_ms * 1000000, last = progress(b);
    uint64_t moved_ns = loop_now_ns();
    while (!done(b)) {
        if (!turn(b, moved_ns + patience_ns))
            return false;
        uint64_t now = loop_now_ns();
        if (progress(b) != last)
            moved_ns = now;
        last = progress(b);
        if (now - moved_ns >= patience_ns) {
            bench_fail(b, "%s: nothing moved for %.1f s", what, (double)patience_ns / 1e9);
            return false;
        }
    }
    return true;
}

bool bench_all_settled(const struct bench *b)
{
    return streams_settled(&b->streams);
}

bool bench_all_complete(const struct bench *b)
{
    return b->ledger.open == 0;
}
