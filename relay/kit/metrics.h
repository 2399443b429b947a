/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, gauges and histograms: one set per thread, written by that thread only (relaxed
 * atomics, no locks), added up when they are read. One table in metrics.c gives each its name,
 * labels and help. */
#pragma once
#include <stdint.h>
#include "common/buf.h"
#include "common/strings.h"

enum { METRICS_TYPES_MAX = 64 }; /* of events, that are counted one by one */

enum metric {
    /* gauges */
    M_CLIENTS_OPENING,
    M_CLIENTS_REPLAY,
    M_CLIENTS_LIVE,
    M_CLIENTS_CLOSING, /* sse_relay_clients{state=} */
    M_CONNECTIONS,     /* HTTP connections, streams or not */
    M_HTTP_BODY_BYTES, /* request bodies held */
    M_QUEUED_EVENTS,
    M_QUEUED_BYTES, /* over all client queues */
    M_STREAMS_PAUSED,
    M_PENDING_EVENTS,
    M_PENDING_BYTES, /* … and what waits for a flush */
    M_EVENT_BYTES,   /* of events on the node: set when it is asked for */
    M_TOPICS,        /* names with subscribers */
    M_REDIS_UP_SUBSCRIBER,
    M_REDIS_UP_COMMANDS,
    M_REDIS_UP_INBOX,        /* sse_relay_redis_connected{connection=} */
    M_REDIS_CLOCK_OFFSET_US, /* signed: how far Redis's clock is ahead of ours */
    M_REDIS_HEARD,           /* the subscriber connection hears what is published */
    M_CHANNELS,              /* Redis subscriptions */
    M_INBOX_LAG,             /* entries waiting in namespace inboxes */
    M_BRIDGES_READING,       /* bridged streams of which this node has the lease … */
    M_BRIDGE_LAG,            /* … and entries that wait in them */
    M_LOOP_LAG_US,           /* duration of the longest loop turn of the last period */
    M_PUBLISH_WAITING,       /* publish requests that wait for Redis */
    M_DRAINING,
    M_CLIENTS_GZIP, /* streams that are sent compressed */
    M_PIPES_OPEN,
    /* counters */
    M_STREAMS_OPENED,
    M_STREAMS_BEHIND,
    M_MEMORY_FULL,     /* times that events took more than memory.events … */
    M_MEMORY_RELIEVED, /* … and that a stream had to let go for it */
    M_FULL_TOLD, /* status="200": who came while the node was full, and was told to come again … */
    M_FULL_REFUSED, /* status="503": … or refused */
    M_AUTH_GRANTED, /* result="granted": credentials that were accepted */
    M_AUTH_MISSING,
    M_AUTH_INVALID,
    M_AUTH_FORBIDDEN,
    M_AUTH_UNDECIDED,
    M_TOKEN_CACHE_HIT,
    M_TOKEN_CACHE_MISS,
    M_TICKETS_ISSUED,
    M_TICKETS_TAKEN,
    M_TICKETS_REPLACED,
    M_TICKETS_REFUSED,
    M_CLOSED_CLIENT,
    M_CLOSED_SLOW,
    M_CLOSED_LIFETIME,
    M_CLOSED_DRAIN,
    M_CLOSED_ERROR,
    M_CLOSED_EXPIRED,
    M_CLOSED_REVOKED,
    M_CLOSED_STALLED,
    M_CLOSED_ENDED,
    M_CLOSED_REPLACED, /* sse_relay_streams_closed_total{reason=} */
    M_HTTP_2XX,
    M_HTTP_4XX,
    M_HTTP_5XX,      /* sse_relay_http_responses_total{class=} */
    M_HTTP_TIMEOUTS, /* connections closed for dribbling or idling */
    M_HTTP_EVICTED,  /* …to make room for new ones */
    M_HTTP_BODIES_REFUSED,
    M_ACCEPTED,
    M_ACCEPT_PAUSE_RATE,
    M_ACCEPT_PAUSE_CONNECTIONS,
    M_ACCEPT_PAUSE_FILES, /* sse_relay_accept_pauses_total{reason=} */
    M_EVENTS_RECEIVED,
    M_ENDED_DONE,
    M_ENDED_CANCELLED,
    M_ENDED_TIMEOUT, /* sse_relay_topics_ended_total{reason=} */
    M_EVENTS_PUBLISHED,
    M_EVENTS_DELIVERED,
    M_EVENTS_REPLAYED,
    M_EVENTS_EXPIRED,
    M_EVENTS_MERGED,
    M_EVENTS_JOINED,
    M_DROPPED_SLOW,
    M_DROPPED_POLICY,
    M_DROPPED_INVALID,
    M_DROPPED_MATCH,  /* sse_relay_events_dropped_total{reason=} */
    M_DROPPED_INBOX,  /* reason="inbox": refused entries of an inbox */
    M_DROPPED_BRIDGE, /* reason="bridge": messages and entries of bridges that are no events */
    M_GAP_TRIMMED,
    M_GAP_EXPIRED,
    M_GAP_UNKNOWN_ID,
    M_GAP_OVERFLOW,
    M_GAP_REDIS_LOST, /* sse_relay_gaps_total{reason=} */
    M_BYTES_OUT,
    M_WRITES,
    M_GZIP_FRAMES, /* compressed, and their bytes before and after */
    M_GZIP_PLAIN_BYTES,
    M_GZIP_PACKED_BYTES,
    M_REDIS_RECONNECTS,
    M_REDIS_COMMANDS,
    M_REDIS_ERRORS,
    M_PROBE_MISSES,
    M_REPAIRS,
    M_HOLES,        /* repairs of single topics */
    M_READS_MEMORY, /* clients' reads answered from memory … */
    M_READS_LOG,    /* … and reads of the log for one or more of the others */
    M_READS_SLOW,
    M_STREAMS_OVER, /* answered with 204 */
    M_INBOX_MOVED,  /* entries moved on from inboxes */
    M_BRIDGED_MESSAGES,
    M_BRIDGED_MESSAGES_DROPPED, /* sse_relay_bridged_messages_total{outcome=} */
    M_BRIDGED_ENTRIES,
    M_BRIDGED_ENTRIES_DROPPED,
    M_BRIDGED_ENTRIES_ENDED, /* sse_relay_bridged_entries_total{outcome=} */
    M_PUBLISH_REFUSED,
    M_PUBLISH_ENDED,
    M_PUBLISH_RETRIED,
    M_PUBLISH_TIMED_OUT,
    M_PIPE_EVENTS,
    M_PIPE_DONE,
    M_PIPE_BROKEN,
    M_PIPE_ENDED,
    M_PIPE_REFUSED,
    M_PIPE_FULL,
    M_PIPE_TIMEOUT,
    M_PIPE_FAILED,
    M_PIPE_DRAIN, /* sse_relay_pipes_ended_total{outcome=} */
    METRIC_COUNT
};

enum histogram {
    H_FANOUT,
    /* bus arrival to last flush, seconds */ H_LATENCY,
    /* publish (the id's clock) to flush, seconds */ H_FLUSH_INTERVAL,
    HISTOGRAM_COUNT
};

struct metrics; /* one thread's set */

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);
/* Events are counted by these types, too: type i in slot i + 1, all others in slot 0. Before other
 * threads see the set. */
void metrics_set_types(struct metrics *m, const struct strings *types);
void metrics_add(struct metrics *m, enum metric which, uint64_t n); /* owner thread */
void metrics_sub(struct metrics *m, enum metric which, uint64_t n); /* owner thread; gauges */
void metrics_set(struct metrics *m, enum metric which, uint64_t n); /* owner thread; gauges */
/* So many events of the type in @slot were delivered. Only where there are types. Owner thread. */
void metrics_add_type(struct metrics *m, unsigned slot, uint64_t n);
void metrics_observe_us(struct metrics *m, enum histogram which, uint64_t us,
                        uint64_t times); /* owner thread */

/* Any thread: the sum (M_LOOP_LAG_US and M_DRAINING: the largest). */
uint64_t metrics_total(struct metrics *const *sets, size_t count, enum metric which);
/* Appends Prometheus text format 0.0.4: each metric with HELP and TYPE; loop lag once per set with
 * worker="0"…, the last set being the bus (worker="bus"); sse_relay_build_info{version,node,redis};
 * process start time, resident memory, open files. */
void metrics_put_prometheus(struct buf *b, struct metrics *const *sets, size_t count,
                            const char *version, const char *node, const char *bus_kind);
/* Appends the same as one JSON object:
 * {"sse_relay_clients":{"live":3,…},"sse_relay_streams_opened_total":5,…}, histograms with count,
 * sum, p50, p99. */
void metrics_put_json(struct buf *b, struct metrics *const *sets, size_t count);
