/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include <stdio.h>
#include <string.h>

static double per(double amount, uint64_t count)
{
    return count ? amount / (double)count : 0;
}

static double rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

static double cpu_sum(struct cpu_time t)
{
    return t.user_s + t.system_s;
}

static uint64_t fault_sum(const struct bench *b)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FAULT_KINDS; i++)
        sum += b->streams.faults[i];
    return sum;
}

bool report_is_good(const struct bench *b)
{
    return !b->failure[0] && fault_sum(b) == 0 && b->ledger.failed == 0;
}

static double connect_seconds(const struct bench *b)
{
    const struct streams *s = &b->streams;
    return s->ready_ns > s->start_ns ? (double)(s->ready_ns - s->start_ns) / 1e9 : 0;
}

static double pss_per_client(const struct bench *b)
{
    double more = (double)b->pss_after - (double)b->pss_before;
    return b->pss_after ? per(more, b->streams.ready) : 0;
}

/* --- text --- */

static void text_latency(const char *name, const struct histogram *h)
{
    if (h->count)
        printf("%-12s p50 %.3f  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms\n", name,
               (double)histogram_at(h, .5) / 1e6, (double)histogram_at(h, .9) / 1e6,
               (double)histogram_at(h, .99) / 1e6, (double)histogram_at(h, .999) / 1e6,
               (double)h->max_ns / 1e6);
}

static void text_cpu(const char *name, struct cpu_time cpu, const struct span *span,
                     const char *what, uint64_t count)
{
    printf("%-12s", name);
    if (count)
        printf(" %.3f us per %s (user %.3f, system %.3f),", per(cpu_sum(cpu) * 1e6, count), what,
               per(cpu.user_s * 1e6, count), per(cpu.system_s * 1e6, count));
    printf(" %.1f%% of a core\n", cpu_sum(cpu) / span->seconds * 100);
}

static void text_commands(const struct span *span)
{
    if (span->stats.count == 0)
        return;
    printf("%-12s", "commands");
    for (size_t i = 0; i < span->stats.count; i++)
        printf(" %s %llu", span->stats.items[i].name,
               (unsigned long long)span->stats.items[i].calls);
    printf("\n");
}

static void text_cost(const struct bench *b, const struct span *span, const char *what,
                      uint64_t count)
{
    if (b->server.count)
        text_cpu("server cpu", span->server, span, what, count);
    if (b->redis.count)
        text_cpu("redis cpu", span->redis, span, b->options.storm ? what : "event",
                 b->options.storm ? count : span->events);
    text_cpu("own cpu", span->own, span, what, 0);
    text_commands(span);
}

/* What a delivery takes on the wire: of HTTP's chunks, gzip and heartbeats nothing is left out. */
static void text_wire(const struct bench *b)
{
    const struct span *run = &b->run;
    double wire = per((double)run->bytes, run->deliveries);
    double plain = per((double)run->plain_bytes, run->deliveries);
    if (run->deliveries == 0)
        return;
    printf("%-12s %.1f bytes per delivery", "wire", wire);
    if (b->streams.gzip_streams)
        printf(" for %.1f inflated (%.1f%%)", plain, wire / plain * 100);
    printf("\n");
}

/* Asked for compressed streams, a server may send plain ones: that must not pass for a result. */
static void text_gzip(const struct bench *b)
{
    const struct streams *s = &b->streams;
    if (b->options.gzip && s->gzip_streams == 0)
        printf("%-12s the server sent plain streams\n", "gzip");
    else if (b->options.gzip)
        printf("%-12s %llu of %llu streams\n", "gzip", (unsigned long long)s->gzip_streams,
               (unsigned long long)s->ready);
}

static void text_steady(const struct bench *b)
{
    const struct span *run = &b->run;
    if (b->options.idle_ms && b->server.count)
        printf("%-12s %.2f%% of a core over %.1f s\n", "idle cpu",
               cpu_sum(b->idle.server) / b->idle.seconds * 100, b->idle.seconds);
    if (run->seconds <= 0)
        return;
    printf("%-12s %llu in %.2f s, %.0f/s\n", "events", (unsigned long long)run->events,
           run->seconds, rate(run->events, run->seconds));
    printf("%-12s %llu, %.0f/s, %.1f MB/s\n", "deliveries", (unsigned long long)run->deliveries,
           rate(run->deliveries, run->seconds), rate(run->bytes, run->seconds) / 1e6);
    text_wire(b);
    text_latency("latency", &b->streams.latency);
    text_latency("publish", &b->publisher.ack);
    if (run->deliveries)
        text_cost(b, run, "delivery", run->deliveries);
    else
        text_cost(b, run, "event", run->events);
}

static void text_storm(const struct bench *b)
{
    const struct streams *s = &b->streams;
    printf("%-12s %llu of %llu clients", "caught up", (unsigned long long)s->caught_up,
           (unsigned long long)b->options.clients);
    if (s->caught_up)
        printf(" in %.3f s", (double)(s->caught_up_ns - s->start_ns) / 1e9);
    if (b->live_ns)
        printf("; all live in %.3f s", (double)b->live_ns / 1e9);
    printf("\n%-12s %llu\n", "deliveries", (unsigned long long)s->deliveries);
    text_latency("catching up", &s->catching);
    text_latency("latency", &s->latency);
    text_cost(b, &b->run, "client", b->options.clients);
}

static void text_verdict(const struct bench *b)
{
    if (b->ledger.failed)
        printf("%-12s %llu refused: %s\n", "publish", (unsigned long long)b->ledger.failed,
               b->publisher.owner.error);
    if (fault_sum(b)) {
        printf("%-12s", "FAULTS");
        for (unsigned i = 0; i < FAULT_KINDS; i++)
            if (b->streams.faults[i])
                printf(" %s %llu", streams_fault_name(i), (unsigned long long)b->streams.faults[i]);
        printf("; first: %s\n", b->streams.first_fault);
    }
    if (b->failure[0])
        printf("%-12s %s\n", "FAILED", b->failure);
    if (report_is_good(b) && b->streams.deliveries)
        printf("%-12s every client got every event once%s\n", "verified",
               b->options.order == ORDER_ANY ? "" : ", in order");
}

void report_text(const struct bench *b)
{
    const struct options *o = &b->options;
    const struct streams *s = &b->streams;
    printf("%llu clients of %s, %u topic%s, %llu bytes of %s, %s%s", (unsigned long long)o->clients,
           o->host, o->topics.count, o->topics.count == 1 ? "" : "s", (unsigned long long)o->size,
           options_payload_name(o->payload), options_publish_name(o->publish),
           o->storm ? ", storm" : "");
    if (o->storm)
        printf(", %llu missed, cursor %s", (unsigned long long)o->missed,
               options_cursor_name(o->cursor));
    if (o->rate)
        printf(", %llu events/s", (unsigned long long)o->rate);
    else if (!o->storm)
        printf(", %llu in flight", (unsigned long long)o->window);
    printf("\n");
    printf("%-12s %llu in %.3f s, %.0f/s\n", "connected", (unsigned long long)s->ready,
           connect_seconds(b), rate(s->ready, connect_seconds(b)));
    text_latency("connecting", &s->connecting);
    if (b->pss_after && s->ready)
        printf("%-12s %.0f bytes for each client (PSS %.1f MB before, %.1f MB with them)\n",
               "memory", pss_per_client(b), (double)b->pss_before / 1e6,
               (double)b->pss_after / 1e6);
    text_gzip(b);
    if (o->storm)
        text_storm(b);
    else
        text_steady(b);
    text_verdict(b);
}

/* --- JSON --- */

static void json_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', f);
        fputc((unsigned char)*text < 32 ? ' ' : *text, f);
    }
    fputc('"', f);
}

static void json_latency(FILE *f, const char *name, const struct histogram *h)
{
    fprintf(
        f,
        "  \"%s\": {\"count\": %llu, \"mean\": %.6f, \"min\": %.6f, \"p50\": %.6f, \"p90\": %.6f, "
        "\"p99\": %.6f, \"p999\": %.6f, \"max\": %.6f},\n",
        name, (unsigned long long)h->count, histogram_mean(h) / 1e6, (double)h->min_ns / 1e6,
        (double)histogram_at(h, .5) / 1e6, (double)histogram_at(h, .9) / 1e6,
        (double)histogram_at(h, .99) / 1e6, (double)histogram_at(h, .999) / 1e6,
        (double)h->max_ns / 1e6);
}

static void json_span(FILE *f, const char *name, const struct span *span)
{
    fprintf(f, "  \"%s\": {\"seconds\": %.6f, \"events\": %llu, \"events_per_second\": %.3f,\n",
            name, span->seconds, (unsigned long long)span->events,
            rate(span->events, span->seconds));
    fprintf(f, "    \"deliveries\": %llu, \"deliveries_per_second\": %.3f,\n",
            (unsigned long long)span->deliveries, rate(span->deliveries, span->seconds));
    fprintf(f, "    \"bytes\": %llu, \"plain_bytes\": %llu,\n", (unsigned long long)span->bytes,
            (unsigned long long)span->plain_bytes);
    fprintf(f, "    \"bytes_per_delivery\": %.3f, \"plain_bytes_per_delivery\": %.3f,\n",
            per((double)span->bytes, span->deliveries),
            per((double)span->plain_bytes, span->deliveries));
    fprintf(f, "    \"server_user_s\": %.6f, \"server_system_s\": %.6f,\n", span->server.user_s,
            span->server.system_s);
    fprintf(f, "    \"redis_user_s\": %.6f, \"redis_system_s\": %.6f,\n", span->redis.user_s,
            span->redis.system_s);
    fprintf(f, "    \"own_user_s\": %.6f, \"own_system_s\": %.6f,\n", span->own.user_s,
            span->own.system_s);
    fprintf(f, "    \"server_us_per_delivery\": %.6f, \"redis_us_per_event\": %.6f,\n",
            per(cpu_sum(span->server) * 1e6, span->deliveries),
            per(cpu_sum(span->redis) * 1e6, span->events));
    fprintf(f, "    \"commands\": {");
    for (size_t i = 0; i < span->stats.count; i++)
        fprintf(f, "%s\"%s\": %llu", i ? ", " : "", span->stats.items[i].name,
                (unsigned long long)span->stats.items[i].calls);
    fprintf(f, "}},\n");
}

static void json_setting(FILE *f, const struct options *o)
{
    fprintf(
        f, "  \"clients\": %llu, \"topics\": %u, \"topics_per_client\": %u, \"patterns\": %u,\n",
        (unsigned long long)o->clients, o->topics.count, o->topics.per_client, o->topics.patterns);
    fprintf(f, "  \"size\": %llu, \"window\": %llu, \"rate\": %llu, \"publish\": \"%s\",\n",
            (unsigned long long)o->size, (unsigned long long)(o->rate || o->storm ? 0 : o->window),
            (unsigned long long)o->rate, options_publish_name(o->publish));
    fprintf(f, "  \"payload\": \"%s\", \"gzip\": %s,\n", options_payload_name(o->payload),
            o->gzip ? "true" : "false");
    fprintf(f, "  \"storm\": %s, \"missed\": %llu, \"cursor\": \"%s\",\n",
            o->storm ? "true" : "false", (unsigned long long)(o->storm ? o->missed : 0),
            options_cursor_name(o->cursor));
}

static void json_result(FILE *f, const struct bench *b)
{
    const struct streams *s = &b->streams;
    fprintf(f, "  \"ready\": %llu, \"connect_seconds\": %.6f, \"connects_per_second\": %.3f,\n",
            (unsigned long long)s->ready, connect_seconds(b), rate(s->ready, connect_seconds(b)));
    fprintf(f, "  \"gzip_streams\": %llu,\n", (unsigned long long)s->gzip_streams);
    fprintf(f, "  \"caught_up\": %llu, \"caught_up_seconds\": %.6f, \"live_seconds\": %.6f,\n",
            (unsigned long long)s->caught_up,
            s->caught_up ? (double)(s->caught_up_ns - s->start_ns) / 1e9 : 0,
            (double)b->live_ns / 1e9);
    fprintf(f, "  \"pss_before\": %llu, \"pss_after\": %llu, \"bytes_per_client\": %.1f,\n",
            (unsigned long long)b->pss_before, (unsigned long long)b->pss_after, pss_per_client(b));
    json_latency(f, "latency_ms", &s->latency);
    json_latency(f, "publish_ms", &b->publisher.ack);
    json_latency(f, "connecting_ms", &s->connecting);
    json_latency(f, "catching_up_ms", &s->catching);
    json_span(f, "idle", &b->idle);
    json_span(f, "run", &b->run);
}

static void json_verdict(FILE *f, const struct bench *b)
{
    fprintf(f, "  \"published\": %llu, \"refused\": %llu, \"deliveries\": %llu,\n",
            (unsigned long long)b->ledger.count, (unsigned long long)b->ledger.failed,
            (unsigned long long)b->streams.deliveries);
    fprintf(f, "  \"faults\": {");
    for (unsigned i = 0; i < FAULT_KINDS; i++)
        fprintf(f, "%s\"%s\": %llu", i ? ", " : "", streams_fault_name(i),
                (unsigned long long)b->streams.faults[i]);
    fprintf(f, "},\n  \"first_fault\": ");
    json_text(f, b->streams.first_fault);
    fprintf(f, ",\n  \"failure\": ");
    json_text(f, b->failure);
    fprintf(f, ",\n  \"ok\": %s\n", report_is_good(b) ? "true" : "false");
}

bool report_json(const struct bench *b)
{
    const char *path = b->options.json;
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (!f) {
        perror(path);
        return false;
    }
    fprintf(f, "{\n");
    json_setting(f, &b->options);
    json_result(f, b);
    json_verdict(f, b);
    fprintf(f, "}\n");
    return (f == stdout ? fflush(f) : fclose(f)) == 0;
}
