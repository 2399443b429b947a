/* SPDX-License-Identifier: Apache-2.0 */
/* The settings themselves: what the options of the table (config_table.h) are read into, and what
 * else the command line asks for. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/lane.h"
#include "common/strings.h"
#include "relay/kit/log.h"

enum config_control { CONTROL_ON, CONTROL_ID, CONTROL_OFF };
/* What becomes of a stream whose client does not keep up: docs/protocol.md, 4.7. */
enum slow_policy {
    SLOW_BLOCK, /* it reads on from the log */
    SLOW_DROP_OLDEST,
    SLOW_DROP_NEWEST,
    SLOW_DISCONNECT,
    SLOW_COUNT,
};
struct config_lane {
    struct slice pattern; /* borrowed from the entry of `lanes` */
    enum lane_kind lane;
};
struct stencil;
/* One of `bridges`. Texts are its own; NULL where there is none. */
struct config_bridge {
    bool is_stream;
    bool is_glob; /* the channel is one */
    char *source; /* the channel or glob; the stream */
    char *group;  /* of a stream */
    char *ns;     /* the namespace that it publishes in */
    struct stencil *topic;
    char *event, *key;
    /* What is looked for in each message or entry: with a slash in front a JSON Pointer into the
     * data, else a field of the entry. That of data is never NULL for a stream. */
    char *topic_field, *event_field, *data_field;
    enum lane_kind lane;
    bool has_lane;
};
enum config_park { PARK_SUSPENDED, PARK_HANDOVER };

struct config {
    struct strings listen;
    char *redis; /* URL, may hold a password: print with config_print_url() */
    char *redis_user, *redis_password, *redis_password_file;  /* "": as the URL says */
    char *redis_ca, *redis_cert, *redis_key, *redis_tls_name; /* "": none, or the default */
    char *sentinel_user, *sentinel_password, *sentinel_password_file;
    char *prefix, *node;
    uint64_t workers; /* resolved: never 0 */
    uint64_t heartbeat_ms, heartbeat_min_ms, retry_ms, max_lifetime_ms, drain_ms;
    char *heartbeat_event; /* "" : comment heartbeats */
    uint64_t queue_max_events, queue_max_bytes;
    uint64_t flush_ms, flush_min_ms, flush_max_ms; /* of lanes */
    enum slow_policy slow;
    struct strings lanes;        /* "pattern=priority" */
    struct strings slow_allowed; /* words of enum slow_policy */
    uint64_t slow_reads;         /* pages per worker and second */
    uint64_t slow_max_dropped;   /* events of one connection; 0: any number */
    uint64_t stall_timeout_ms;   /* 0: never */
    uint64_t snapshot_max, log_max_events_limit;
    uint64_t redis_check_ms;
    uint64_t tail_max_events, tail_max_bytes;
    uint64_t memory_events; /* bytes; 0: no bound */
    uint64_t log_max_events, log_ttl_ms, index_ttl_ms, once_ttl_ms;
    uint64_t replay_max_events, redis_probe_ms;
    uint64_t publish_timeout_ms /* 0: nothing waits */, publish_max_waiting,
        publish_max_waiting_bytes;
    uint64_t publish_wait_replicas; /* 0: do not ask for confirmation */
    uint64_t pipe_max_ms, pipe_silence_ms, pipe_max_open;
    uint64_t max_event_bytes, max_topics, max_clients /* 0: by the file limit */, max_header_bytes;
    uint64_t full_percent /* 0: never */, full_rate /* per second; 0: none */;
    enum config_park park;           /* of the connections of streams: front.h */
    uint64_t socket_unsent;          /* bytes; 0: the system's */
    uint64_t accept_rate;            /* per second and address; 0: no limit */
    uint64_t http_idle_timeout_ms;   /* between requests */
    uint64_t publish_max_held_bytes; /* 0: by max_event_bytes */
    struct strings cors_origins, cors_headers, hosts, inbox_namespaces;
    char *bridges;           /* JSON: config_bridges.h */
    struct strings compress; /* patterns; empty: nothing */
    bool io_uring, events_type_from_topic;
    struct strings metrics_types;       /* at most METRICS_TYPES_MAX */
    enum config_control control_events; /* ID: none, but the id may move by itself */
    char *control_prefix;
    char *auth_file, *auth_key_file, *auth_issuer, *auth_audience, *auth_cookie; /* "": none */
    struct strings auth_algs;
    bool auth_query, auth_metrics;
    uint64_t auth_leeway_ms, auth_notice_ms /* 0: never */, auth_timeout_ms;
    uint64_t auth_max_token_life_ms;    /* 0: any */
    uint64_t ticket_reconnect_grace_ms; /* 0: used once */
    enum log_level logging_level;
    enum log_format logging_format;

    /* No options, but what is told of some: */
    bool password_on_command_line;            /* the start warns of it */
    bool node_is_default, workers_is_default; /* printed as "" and 0 */
    struct config_lane *lane_rules;           /* `lanes`, as many as it has; NULL: none */
    struct config_bridge *bridge_list;        /* `bridges` */
    size_t bridge_count;
    char *explain;      /* the token, with CONFIG_EXPLAIN; - is standard input */
    char *redis_origin; /* the flag, variable or file that `redis` is from; NULL: its default */
};

/* What the command line asks for besides running. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,
    CONFIG_PRINT,
    CONFIG_HELP,
    CONFIG_VERSION,
    CONFIG_DOCS,
    CONFIG_EXPLAIN
};
