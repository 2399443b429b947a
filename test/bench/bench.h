/* SPDX-License-Identifier: Apache-2.0 */
/* One run: everything that belongs to it, and what was measured. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "ledger.h"
#include "loop.h"
#include "options.h"
#include "process.h"
#include "publisher.h"
#include "redis_client.h"
#include "streams.h"

/* A moment, for differences. */
struct mark {
    uint64_t at_ns, deliveries, bytes, plain_bytes, events;
    struct cpu_time server, redis, own;
    struct redis_stats stats;
};

/* What happened between two marks. */
struct span {
    double seconds;
    uint64_t deliveries, events; /* events: published and complete */
    uint64_t bytes, plain_bytes; /* received; of the event streams, inflated */
    struct cpu_time server, redis, own;
    struct redis_stats stats; /* Redis commands */
};

struct bench {
    struct options options;
    struct loop loop;
    struct ledger ledger;
    struct publisher publisher;
    struct streams streams;
    struct processes server, redis;
    struct redisContext *control; /* NULL: no Redis to ask */
    bool opening;                 /* streams are to be opened */

    uint64_t pss_before, pss_after; /* of the server: without streams, and with idle ones */
    struct span idle, run;          /* run: the measured time, or the storm until all caught up */
    uint64_t live_ns;               /* storm: from the first connect until all had the marker */
    char failure[256];              /* why the run was given up; empty: it was not */
};

bool bench_init(struct bench *b, int argc, char **argv); /* false: a message is on stderr */
void bench_reset(struct bench *b);
void bench_mark(struct bench *b, struct mark *out);
void bench_span(const struct mark *from, const struct mark *to, struct span *out);
/* Serves everything for @ms. False: the run is to end. */
bool bench_run_for(struct bench *b, uint64_t ms);
/* Serves everything until @done, or nothing has moved for --timeout. False: the run is to end. */
bool bench_run_until(struct bench *b, bool (*done)(const struct bench *b), const char *what);
bool bench_all_settled(const struct bench *b);
bool bench_all_complete(const struct bench *b);
void bench_fail(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bench_say(const struct bench *b, const char *format, ...) /* progress, to stderr */
    __attribute__((format(printf, 2, 3)));

/* The two kinds of runs. Leave the results in *b. */
void bench_steady(struct bench *b);
void bench_storm(struct bench *b);

void report_text(const struct bench *b);
bool report_json(const struct bench *b); /* to options.json; false: a message is on stderr */
bool report_is_good(const struct bench *b);
