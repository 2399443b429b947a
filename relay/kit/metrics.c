/* SPDX-License-Identifier: Apache-2.0 */
/* The table of metrics, and the sums over all threads. */
#include "relay/kit/metrics.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/kit/metrics_parts.h"

#define CACHE_LINE 64

struct metrics_histogram {
    atomic_uint_fast64_t buckets[METRICS_BUCKETS + 1]; /* the last: above all bounds */
    atomic_uint_fast64_t sum_us;
};

/* Padded, so that no other thread's data shares its cache lines. */
struct metrics {
    char before[CACHE_LINE];
    atomic_uint_fast64_t values[METRIC_COUNT];
    struct metrics_histogram histograms[HISTOGRAM_COUNT];
    struct strings types;          /* set once */
    atomic_uint_fast64_t *by_type; /* a slot more than types; NULL: there are none */
    char after[CACHE_LINE];
};

#define ROW(which, kind_, name_, label_, value_, help_)                                            \
    [which] = {.kind = kind_, .name = name_, .label = label_, .value = value_, .help = help_}
#define GAUGE(which, name, help) ROW(which, METRIC_GAUGE, name, NULL, NULL, help)
#define GAUGE_OF(which, name, label, value, help) ROW(which, METRIC_GAUGE, name, label, value, help)
#define COUNTER(which, name, help) ROW(which, METRIC_COUNTER, name, NULL, NULL, help)
#define COUNTER_OF(which, name, label, value, help)                                                \
    ROW(which, METRIC_COUNTER, name, label, value, help)

static const char clients_help[] = "Streams, by what they are doing.";
static const char redis_help[] = "Whether the connection to Redis stands.";
static const char full_help[] = "Streams that came while the node was full, by its answer.";
static const char auth_help[] = "Decisions about credentials, by what came of them.";
static const char cache_help[] =
    "Tokens that were verified before on this worker, and that were not.";
static const char tickets_help[] =
    "Tickets: issued, opened a stream, replaced its open stream, refused.";
static const char closed_help[] = "Streams that have ended, by reason.";
static const char http_help[] = "HTTP responses, by class of status.";
static const char pauses_help[] = "Times that waiting connections were left waiting, by reason.";
static const char dropped_help[] = "Events that were not delivered where they could have been.";
static const char reads_help[] =
    "Reads for clients: answered from memory, or from the log for all who ask the same.";
static const char ended_help[] =
    "Topics whose end came to this node, which had subscribers of them.";
static const char messages_help[] =
    "Messages of bridged channels that came to this node, by what became of them.";
static const char entries_help[] =
    "Entries of bridged streams that this node moved on, by what became of them.";
static const char pipes_help[] = "Pipes that are over, by what became of them.";
static const char gaps_help[] = "Gap events told to clients, by reason.";

/* clang-format off */
const struct metrics_row metrics_rows[METRIC_COUNT] = {
    GAUGE_OF(M_CLIENTS_OPENING, "clients", "state", "opening", clients_help),
    GAUGE_OF(M_CLIENTS_REPLAY, "clients", "state", "replay", clients_help),
    GAUGE_OF(M_CLIENTS_LIVE, "clients", "state", "live", clients_help),
    GAUGE_OF(M_CLIENTS_CLOSING, "clients", "state", "closing", clients_help),
    GAUGE(M_CLIENTS_GZIP, "gzip_clients", "Streams that are sent compressed."),
    GAUGE(M_CONNECTIONS, "connections", "Open HTTP connections, streams or not."),
    GAUGE(M_HTTP_BODY_BYTES, "http_body_bytes", "Bytes of request bodies that are held."),
    GAUGE(M_QUEUED_EVENTS, "queued_events", "Events that wait in client queues."),
    GAUGE(M_QUEUED_BYTES, "queued_bytes", "Bytes that wait in client queues."),
    GAUGE(M_STREAMS_PAUSED, "paused_streams", "Streams whose lanes wait until they are resumed."),
    GAUGE(M_PENDING_EVENTS, "pending_events", "Events of lanes that wait for their stream's flush."),
    GAUGE(M_PENDING_BYTES, "pending_bytes", "Bytes of lanes that wait for their stream's flush."),
    GAUGE(M_EVENT_BYTES, "event_bytes", "Bytes of events in memory, each counted once."),
    GAUGE(M_TOPICS, "topics", "Topics and patterns with subscribers, added up over the workers."),
    GAUGE_OF(M_REDIS_UP_SUBSCRIBER, "redis_connected", "connection", "subscriber", redis_help),
    GAUGE_OF(M_REDIS_UP_COMMANDS, "redis_connected", "connection", "commands", redis_help),
    GAUGE_OF(M_REDIS_UP_INBOX, "redis_connected", "connection", "inbox", redis_help),
    GAUGE(M_REDIS_HEARD, "redis_heard", "Whether what is published comes back as a message."),
    ROW(M_REDIS_CLOCK_OFFSET_US, METRIC_SIGNED, "redis_clock_offset_seconds", NULL, NULL,
        "How far the clock of Redis is ahead of this machine's."),
    GAUGE(M_CHANNELS, "channels", "Redis channels and patterns subscribed to."),
    GAUGE(M_INBOX_LAG, "inbox_waiting_entries", "Entries that wait in namespace inboxes."),
    GAUGE(M_BRIDGES_READING, "bridges_reading", "Bridged streams that this node reads, as it has their lease."),
    GAUGE(M_BRIDGE_LAG, "bridge_waiting_entries", "Entries that wait in the bridged streams that this node reads."),
    GAUGE(M_PUBLISH_WAITING, "publish_waiting", "Publish requests that wait for Redis."),
    GAUGE(M_PIPES_OPEN, "pipes", "Requests that publish their body as it arrives."),
    ROW(M_LOOP_LAG_US, METRIC_PER_SET, "loop_lag_seconds", NULL, NULL,
        "Longest turn of a thread's event loop in the last period."),
    ROW(M_DRAINING, METRIC_LARGEST, "draining", NULL, NULL, "Whether the node is draining."),
    COUNTER(M_STREAMS_OPENED, "streams_opened_total", "Streams that have been opened."),
    COUNTER(M_STREAMS_BEHIND, "streams_behind_total", "Times that a slow stream went back to the log to read on from there."),
    COUNTER(M_MEMORY_FULL, "memory_full_total", "Times that events came to take more memory than memory.events."),
    COUNTER(M_MEMORY_RELIEVED, "memory_relieved_total", "Times that a slow stream let go of what waited for it, as events took too much memory."),
    COUNTER_OF(M_FULL_TOLD, "full_answers_total", "status", "200", full_help),
    COUNTER_OF(M_FULL_REFUSED, "full_answers_total", "status", "503", full_help),
    COUNTER_OF(M_AUTH_GRANTED, "auth_requests_total", "result", "granted", auth_help),
    COUNTER_OF(M_AUTH_MISSING, "auth_requests_total", "result", "missing", auth_help),
    COUNTER_OF(M_AUTH_INVALID, "auth_requests_total", "result", "invalid", auth_help),
    COUNTER_OF(M_AUTH_FORBIDDEN, "auth_requests_total", "result", "forbidden", auth_help),
    COUNTER_OF(M_AUTH_UNDECIDED, "auth_requests_total", "result", "undecided", auth_help),
    COUNTER_OF(M_TOKEN_CACHE_HIT, "token_cache_total", "result", "hit", cache_help),
    COUNTER_OF(M_TOKEN_CACHE_MISS, "token_cache_total", "result", "miss", cache_help),
    COUNTER_OF(M_TICKETS_ISSUED, "tickets_total", "what", "issued", tickets_help),
    COUNTER_OF(M_TICKETS_TAKEN, "tickets_total", "what", "taken", tickets_help),
    COUNTER_OF(M_TICKETS_REPLACED, "tickets_total", "what", "replaced", tickets_help),
    COUNTER_OF(M_TICKETS_REFUSED, "tickets_total", "what", "refused", tickets_help),
    COUNTER_OF(M_CLOSED_CLIENT, "streams_closed_total", "reason", "client", closed_help),
    COUNTER_OF(M_CLOSED_SLOW, "streams_closed_total", "reason", "slow", closed_help),
    COUNTER_OF(M_CLOSED_LIFETIME, "streams_closed_total", "reason", "lifetime", closed_help),
    COUNTER_OF(M_CLOSED_DRAIN, "streams_closed_total", "reason", "drain", closed_help),
    COUNTER_OF(M_CLOSED_ERROR, "streams_closed_total", "reason", "error", closed_help),
    COUNTER_OF(M_CLOSED_EXPIRED, "streams_closed_total", "reason", "token-expired", closed_help),
    COUNTER_OF(M_CLOSED_REVOKED, "streams_closed_total", "reason", "revoked", closed_help),
    COUNTER_OF(M_CLOSED_STALLED, "streams_closed_total", "reason", "stalled", closed_help),
    COUNTER_OF(M_CLOSED_ENDED, "streams_closed_total", "reason", "ended", closed_help),
    COUNTER_OF(M_CLOSED_REPLACED, "streams_closed_total", "reason", "replaced", closed_help),
    COUNTER_OF(M_HTTP_2XX, "http_responses_total", "class", "2xx", http_help),
    COUNTER_OF(M_HTTP_4XX, "http_responses_total", "class", "4xx", http_help),
    COUNTER_OF(M_HTTP_5XX, "http_responses_total", "class", "5xx", http_help),
    COUNTER(M_HTTP_TIMEOUTS, "http_timeouts_total", "Connections closed for dribbling or idling."),
    COUNTER(M_HTTP_EVICTED, "http_evicted_total", "Connections closed to make room for new ones."),
    COUNTER(M_HTTP_BODIES_REFUSED, "http_bodies_refused_total", "Requests refused as too many bodies were under way."),
    COUNTER(M_ACCEPTED, "connections_accepted_total", "HTTP connections that have been accepted."),
    COUNTER_OF(M_ACCEPT_PAUSE_RATE, "accept_pauses_total", "reason", "rate", pauses_help),
    COUNTER_OF(M_ACCEPT_PAUSE_CONNECTIONS, "accept_pauses_total", "reason", "connections", pauses_help),
    COUNTER_OF(M_ACCEPT_PAUSE_FILES, "accept_pauses_total", "reason", "files", pauses_help),
    COUNTER(M_EVENTS_RECEIVED, "events_received_total", "Events that have arrived from the bus."),
    COUNTER_OF(M_ENDED_DONE, "topics_ended_total", "reason", "end", ended_help),
    COUNTER_OF(M_ENDED_CANCELLED, "topics_ended_total", "reason", "cancelled", ended_help),
    COUNTER_OF(M_ENDED_TIMEOUT, "topics_ended_total", "reason", "timeout", ended_help),
    COUNTER(M_EVENTS_PUBLISHED, "events_published_total", "Events accepted at POST /publish."),
    COUNTER(M_EVENTS_DELIVERED, "events_delivered_total", "Events handed to client sockets."),
    COUNTER(M_EVENTS_REPLAYED, "events_replayed_total", "Events read from the log for clients."),
    COUNTER(M_EVENTS_EXPIRED, "events_expired_total", "Events whose ttl passed before the socket of a stream that wanted them took them."),
    COUNTER(M_EVENTS_MERGED, "events_merged_total", "Events that a later one of the same topic and key replaced before they were sent."),
    COUNTER(M_EVENTS_JOINED, "events_joined_total", "Events that were sent as a part of the block before them."),
    COUNTER_OF(M_DROPPED_SLOW, "events_dropped_total", "reason", "slow", dropped_help),
    COUNTER_OF(M_DROPPED_POLICY, "events_dropped_total", "reason", "policy", dropped_help),
    COUNTER_OF(M_DROPPED_INVALID, "events_dropped_total", "reason", "invalid", dropped_help),
    COUNTER_OF(M_DROPPED_MATCH, "events_dropped_total", "reason", "match", dropped_help),
    COUNTER_OF(M_DROPPED_INBOX, "events_dropped_total", "reason", "inbox", dropped_help),
    COUNTER_OF(M_DROPPED_BRIDGE, "events_dropped_total", "reason", "bridge", dropped_help),
    COUNTER_OF(M_GAP_TRIMMED, "gaps_total", "reason", "trimmed", gaps_help),
    COUNTER_OF(M_GAP_EXPIRED, "gaps_total", "reason", "expired", gaps_help),
    COUNTER_OF(M_GAP_UNKNOWN_ID, "gaps_total", "reason", "unknown-id", gaps_help),
    COUNTER_OF(M_GAP_OVERFLOW, "gaps_total", "reason", "overflow", gaps_help),
    COUNTER_OF(M_GAP_REDIS_LOST, "gaps_total", "reason", "redis-lost", gaps_help),
    COUNTER(M_BYTES_OUT, "sent_bytes_total", "Bytes written to streams."),
    COUNTER(M_WRITES, "socket_writes_total", "System calls that wrote to streams."),
    COUNTER(M_GZIP_FRAMES, "gzip_frames_total", "Frames compressed, each once for all clients."),
    COUNTER(M_GZIP_PLAIN_BYTES, "gzip_plain_bytes_total", "Bytes of those frames before."),
    COUNTER(M_GZIP_PACKED_BYTES, "gzip_packed_bytes_total", "Bytes of those frames after."),
    COUNTER(M_REDIS_RECONNECTS, "redis_reconnects_total", "Times a Redis connection was made anew."),
    COUNTER(M_REDIS_COMMANDS, "redis_commands_total", "Commands sent to Redis."),
    COUNTER(M_REDIS_ERRORS, "redis_errors_total", "Error replies from Redis."),
    COUNTER(M_PROBE_MISSES, "redis_probe_misses_total", "Periods in which nothing came back."),
    COUNTER(M_REPAIRS, "log_repairs_total", "Reads of the log for what the live path did not bring."),
    COUNTER(M_HOLES, "holes_total", "Topics of which the live path had left out an event."),
    COUNTER_OF(M_READS_MEMORY, "replay_reads_total", "source", "memory", reads_help),
    COUNTER_OF(M_READS_LOG, "replay_reads_total", "source", "log", reads_help),
    COUNTER(M_STREAMS_OVER, "streams_over_total", "Streams answered with 204: finite, and all that they ask for has ended and was had."),
    COUNTER(M_READS_SLOW, "slow_reads_total", "Pages of the log asked for by streams that are behind."),
    COUNTER(M_INBOX_MOVED, "inbox_moved_total", "Entries moved on from namespace inboxes."),
    COUNTER_OF(M_BRIDGED_MESSAGES, "bridged_messages_total", "outcome", "published", messages_help),
    COUNTER_OF(M_BRIDGED_MESSAGES_DROPPED, "bridged_messages_total", "outcome", "dropped", messages_help),
    COUNTER_OF(M_BRIDGED_ENTRIES, "bridged_entries_total", "outcome", "published", entries_help),
    COUNTER_OF(M_BRIDGED_ENTRIES_DROPPED, "bridged_entries_total", "outcome", "dropped", entries_help),
    COUNTER_OF(M_BRIDGED_ENTRIES_ENDED, "bridged_entries_total", "outcome", "ended", entries_help),
    COUNTER(M_PUBLISH_REFUSED, "publish_refused_total", "Publish requests that were refused."),
    COUNTER(M_PUBLISH_ENDED, "publish_ended_total", "Publish requests with a topic that had ended."),
    COUNTER(M_PUBLISH_RETRIED, "publish_retried_total", "Publish requests sent to Redis again."),
    COUNTER(M_PUBLISH_TIMED_OUT, "publish_timed_out_total", "Publish requests given up at publish.timeout."),
    COUNTER(M_PIPE_EVENTS, "pipe_events_total", "Events published by pipes."),
    COUNTER_OF(M_PIPE_DONE, "pipes_ended_total", "outcome", "done", pipes_help),
    COUNTER_OF(M_PIPE_BROKEN, "pipes_ended_total", "outcome", "broken", pipes_help),
    COUNTER_OF(M_PIPE_ENDED, "pipes_ended_total", "outcome", "ended", pipes_help),
    COUNTER_OF(M_PIPE_REFUSED, "pipes_ended_total", "outcome", "refused", pipes_help),
    COUNTER_OF(M_PIPE_FULL, "pipes_ended_total", "outcome", "full", pipes_help),
    COUNTER_OF(M_PIPE_TIMEOUT, "pipes_ended_total", "outcome", "timeout", pipes_help),
    COUNTER_OF(M_PIPE_FAILED, "pipes_ended_total", "outcome", "failed", pipes_help),
    COUNTER_OF(M_PIPE_DRAIN, "pipes_ended_total", "outcome", "drain", pipes_help),
};

/* Decades in steps of 1, 2.5, 5: fine enough for percentiles, few enough to scrape. */
const struct metrics_bound metrics_bounds[METRICS_BUCKETS] = {
    {50, "0.00005"},  {100, "0.0001"},  {250, "0.00025"},  {500, "0.0005"},  {1000, "0.001"},
    {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},   {25000, "0.025"}, {50000, "0.05"},
    {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},   {1000000, "1"},   {2500000, "2.5"},
    {5000000, "5"},   {10000000, "10"},
};

const struct metrics_family metrics_histograms[HISTOGRAM_COUNT] = {
    [H_FANOUT] = {"fanout_seconds", "From an event's arrival at the node to its last write."},
    [H_LATENCY] = {"latency_seconds", "From publishing (the clock in the id) to the write."},
    [H_FLUSH_INTERVAL] = {"flush_interval_seconds", "Between two flushes of a stream's lanes."},
};
/* clang-format on */

const struct metrics_family metrics_types_family = {
    "events_delivered_by_type_total", "Events handed to client sockets, by their type."};

struct metrics *metrics_new(void)
{
    return mem_zero(1, sizeof(struct metrics));
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    strings_reset(&m->types);
    free(m->by_type);
    free(m);
}

void metrics_set_types(struct metrics *m, const struct strings *types)
{
    assert(!m->by_type && types->count <= METRICS_TYPES_MAX);
    if (!types->count)
        return;
    for (size_t i = 0; i < types->count; i++)
        strings_add(&m->types, slice_of(types->items[i]));
    m->by_type = mem_zero(types->count + 1, sizeof(*m->by_type));
}

/* One thread writes, so a load and a store do; a locked add would cost what the whole fan-out step
 * does. */
static void add(atomic_uint_fast64_t *value, uint64_t n)
{
    uint64_t old = atomic_load_explicit(value, memory_order_relaxed);
    atomic_store_explicit(value, old + n, memory_order_relaxed);
}

static uint64_t get(const atomic_uint_fast64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

void metrics_add(struct metrics *m, enum metric which, uint64_t n)
{
    add(&m->values[which], n);
}

void metrics_sub(struct metrics *m, enum metric which, uint64_t n)
{
    assert(metrics_rows[which].kind != METRIC_COUNTER);
    add(&m->values[which], -n); /* modulo 2^64 */
}

void metrics_set(struct metrics *m, enum metric which, uint64_t n)
{
    assert(metrics_rows[which].kind != METRIC_COUNTER);
    atomic_store_explicit(&m->values[which], n, memory_order_relaxed);
}

void metrics_add_type(struct metrics *m, unsigned slot, uint64_t n)
{
    add(&m->by_type[slot], n);
}

const struct strings *metrics_types(const struct metrics *m)
{
    return m->by_type ? &m->types : NULL;
}

uint64_t metrics_total_type(struct metrics *const *sets, size_t count, unsigned slot)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += get(&sets[i]->by_type[slot]);
    return sum;
}

void metrics_observe_us(struct metrics *m, enum histogram which, uint64_t us, uint64_t times)
{
    struct metrics_histogram *h = &m->histograms[which];
    size_t i = 0;
    while (i < METRICS_BUCKETS && us > metrics_bounds[i].us)
        i++;
    add(&h->buckets[i], times);
    add(&h->sum_us, us * times);
}

uint64_t metrics_value(const struct metrics *m, enum metric which)
{
    return get(&m->values[which]);
}

uint64_t metrics_total(struct metrics *const *sets, size_t count, enum metric which)
{
    enum metric_kind kind = metrics_rows[which].kind;
    uint64_t sum = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t n = get(&sets[i]->values[which]);
        sum += n;
        if (n > largest)
            largest = n;
    }
    return kind == METRIC_PER_SET || kind == METRIC_LARGEST ? largest : sum;
}

void metrics_sum_histogram(struct metrics *const *sets, size_t count, enum histogram which,
                           struct metrics_distribution *out)
{
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < count; i++) {
        const struct metrics_histogram *h = &sets[i]->histograms[which];
        for (size_t j = 0; j <= METRICS_BUCKETS; j++) {
            uint64_t n = get(&h->buckets[j]);
            out->buckets[j] += n;
            out->count +=
                n; /* so that the count fits the buckets, whatever a thread adds meanwhile */
        }
        out->sum_us += get(&h->sum_us);
    }
}

uint64_t metrics_quantile_us(const struct metrics_distribution *d, double q)
{
    double rank = q * (double)d->count, below = 0;
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        double in = (double)d->buckets[i];
        if (in > 0 && below + in >= rank) {
            double from = i > 0 ? (double)metrics_bounds[i - 1].us : 0;
            double to = (double)metrics_bounds[i].us;
            return (uint64_t)(from + (to - from) * (rank - below) / in);
        }
        below += in;
    }
    return metrics_bounds[METRICS_BUCKETS - 1].us; /* at least */
}
