/* The table of options, and the life of a loaded configuration. */
#include "relay/config.h"
#include <assert.h>
#include <stdlib.h>
#include "common/mem.h"
#include "relay/config_load.h"

#define SECOND UINT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define KB UINT64_C(1024)
#define MB (1024 * KB)
#define DECADE (3650 * DAY) /* "for ever", and still a number of milliseconds that Redis takes */

#define FIELD(member) .offset = offsetof(struct config, member)
#define RANGE(low, high) .min = (low), .max = (high)

static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_choices[] = {"logfmt", "json", NULL};
static_assert(sizeof(enum log_level) == sizeof(unsigned), "enum options are stored as unsigned");
static_assert(sizeof(enum log_format) == sizeof(unsigned), "enum options are stored as unsigned");

/* Options of one group stand together: --help prints a heading where the group changes. */
const struct config_option config_options[] = {
    {.name = "listen",
     .type = CONFIG_STRINGS,
     FIELD(listen),
     RANGE(1, 64),
     .initial = "127.0.0.1:8080",
     .group = "Network",
     .check = config_check_listen,
     .help = "Address and port to serve HTTP on; repeat it for several",
     .allowed = "host:port with a port from 0 (any free one) to 65535; IPv6 as [::]:8080"},
    {.name = "max_clients",
     .type = CONFIG_COUNT,
     FIELD(max_clients),
     RANGE(0, 10000000),
     .initial = "0",
     .described = "what the open-files limit allows",
     .group = "Network",
     .help = "Streams at a time; 0 means as many as the open-files limit allows"},
    {.name = "max_header_bytes",
     .type = CONFIG_SIZE,
     FIELD(max_header_bytes),
     RANGE(KB, 64 * KB),
     .initial = "8KB",
     .group = "Network",
     .help = "Memory for the request line and headers of one request"},
    {.name = "cors.origins",
     .type = CONFIG_STRINGS,
     FIELD(cors_origins),
     RANGE(0, 256),
     .initial = "",
     .reloadable = true,
     .group = "Network",
     .check = config_check_origin,
     .help = "Web origins whose pages may use this relay; none by default",
     .allowed =
         "* or origins such as https://app.example.org[:port], in lower case, without a path"},
    {.name = "workers",
     .type = CONFIG_COUNT,
     FIELD(workers),
     RANGE(0, 64),
     .initial = "0",
     .described = "the number of cores",
     .group = "Network",
     .help = "Threads that serve clients; 0 means one for each core"},
    {.name = "node",
     .type = CONFIG_STRING,
     FIELD(node),
     RANGE(0, 128),
     .initial = "",
     .described = "host name and process id",
     .group = "Network",
     .check = config_check_word,
     .help = "Name of this node in relay.connected and metrics",
     .allowed = "1 to 128 printable ASCII characters without spaces, or empty for the default"},
    {.name = "drain",
     .type = CONFIG_DURATION,
     FIELD(drain_ms),
     RANGE(0, HOUR),
     .initial = "10s",
     .reloadable = true,
     .group = "Network",
     .help = "After SIGTERM, end the streams spread over this time"},

    {.name = "redis",
     .type = CONFIG_STRING,
     FIELD(redis),
     RANGE(1, 2048),
     .initial = "redis://127.0.0.1:6379",
     .group = "Redis",
     .check = config_check_redis,
     .help = "The Redis that all nodes share; memory: runs one node without Redis",
     .allowed = "redis://[user:password@]host[:port][/db], rediss:// for TLS, unix:///path, "
                "redis+sentinel://host:port,host:port/name[/db] or memory:"},
    {.name = "redis.user",
     .type = CONFIG_STRING,
     FIELD(redis_user),
     RANGE(0, 256),
     .initial = "",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_word,
     .help = "Who to log in as, where the URL does not say",
     .allowed = "up to 256 printable ASCII characters without spaces"},
    {.name = "redis.password",
     .type = CONFIG_STRING,
     FIELD(redis_password),
     RANGE(0, 4096),
     .initial = "",
     .reloadable = true,
     .secret = true,
     .group = "Redis",
     .check = config_check_secret,
     .help = "Password for Redis; for the environment, as everybody sees a command line",
     .allowed = "up to 4096 bytes"},
    {.name = "redis.password_file",
     .type = CONFIG_STRING,
     FIELD(redis_password_file),
     RANGE(0, 4096),
     .initial = "",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_printable,
     .help = "File whose first line is the password for Redis",
     .allowed = "the path of a file that is not empty"},
    {.name = "redis.ca",
     .type = CONFIG_STRING,
     FIELD(redis_ca),
     RANGE(0, 4096),
     .initial = "",
     .described = "the system's certificates",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_printable,
     .help = "With rediss://: who may have signed the certificate of Redis",
     .allowed = "the path of a PEM file"},
    {.name = "redis.cert",
     .type = CONFIG_STRING,
     FIELD(redis_cert),
     RANGE(0, 4096),
     .initial = "",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_printable,
     .help = "With rediss://: the certificate that this relay shows",
     .allowed = "the path of a PEM file"},
    {.name = "redis.key",
     .type = CONFIG_STRING,
     FIELD(redis_key),
     RANGE(0, 4096),
     .initial = "",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_printable,
     .help = "With rediss://: the private key of redis.cert",
     .allowed = "the path of a PEM file without a passphrase"},
    {.name = "redis.tls_name",
     .type = CONFIG_STRING,
     FIELD(redis_tls_name),
     RANGE(0, 253),
     .initial = "",
     .described = "the host connected to",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_word,
     .help = "With rediss://: the name that the certificate of Redis must carry",
     .allowed = "a host name or an IP address"},
    {.name = "sentinel.user",
     .type = CONFIG_STRING,
     FIELD(sentinel_user),
     RANGE(0, 256),
     .initial = "",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_word,
     .help = "Who to log in to the Sentinels as",
     .allowed = "up to 256 printable ASCII characters without spaces"},
    {.name = "sentinel.password",
     .type = CONFIG_STRING,
     FIELD(sentinel_password),
     RANGE(0, 4096),
     .initial = "",
     .reloadable = true,
     .secret = true,
     .group = "Redis",
     .check = config_check_secret,
     .help = "Password for the Sentinels; for the environment",
     .allowed = "up to 4096 bytes"},
    {.name = "sentinel.password_file",
     .type = CONFIG_STRING,
     FIELD(sentinel_password_file),
     RANGE(0, 4096),
     .initial = "",
     .reloadable = true,
     .group = "Redis",
     .check = config_check_printable,
     .help = "File whose first line is the password for the Sentinels",
     .allowed = "the path of a file that is not empty"},
    {.name = "redis.probe",
     .type = CONFIG_DURATION,
     FIELD(redis_probe_ms),
     RANGE(100, 60 * SECOND),
     .initial = "5s",
     .reloadable = true,
     .group = "Redis",
     .help = "How often the subscriber connection is probed; after two misses it is made anew"},
    {.name = "prefix",
     .type = CONFIG_STRING,
     FIELD(prefix),
     RANGE(1, 64),
     .initial = "sse",
     .group = "Redis",
     .check = config_check_prefix,
     .help = "First part of all keys and channels in Redis",
     .allowed = "1 to 64 characters of A-Z a-z 0-9 _ . : -"},
    {.name = "redis.check",
     .type = CONFIG_DURATION,
     FIELD(redis_check_ms),
     RANGE(100, HOUR),
     .initial = "10s",
     .reloadable = true,
     .group = "Redis",
     .help = "How often the index is asked whether events have not come by the live path"},
    {.name = "inbox.namespaces",
     .type = CONFIG_STRINGS,
     FIELD(inbox_namespaces),
     RANGE(0, 1024),
     .initial = "default",
     .group = "Redis",
     .check = config_check_namespace,
     .help = "Namespaces whose inbox stream is moved on even while they have no client here",
     .allowed = "namespaces: 1 to 64 characters of A-Z a-z 0-9 _ -"},

    {.name = "heartbeat",
     .type = CONFIG_DURATION,
     FIELD(heartbeat_ms),
     RANGE(SECOND, HOUR),
     .zero_ok = true,
     .initial = "15s",
     .reloadable = true,
     .group = "Streams",
     .help = "Write something to a stream that was silent for this long; 0 turns it off"},
    {.name = "heartbeat.event",
     .type = CONFIG_STRING,
     FIELD(heartbeat_event),
     RANGE(0, 256),
     .initial = "",
     .reloadable = true,
     .group = "Streams",
     .check = config_check_printable,
     .help = "Send heartbeats as events of this type instead of as comments",
     .allowed = "up to 256 bytes of printable text; empty for comments"},
    {.name = "retry",
     .type = CONFIG_DURATION,
     FIELD(retry_ms),
     RANGE(100, HOUR),
     .initial = "3s",
     .reloadable = true,
     .group = "Streams",
     .help = "How long a client is told to wait before it reconnects"},
    {.name = "max_lifetime",
     .type = CONFIG_DURATION,
     FIELD(max_lifetime_ms),
     RANGE(SECOND, DECADE),
     .zero_ok = true,
     .initial = "1h",
     .reloadable = true,
     .group = "Streams",
     .help = "End a stream cleanly after about this long, so that clients spread anew; 0: never"},
    {.name = "control_events",
     .type = CONFIG_BOOL,
     FIELD(control_events),
     .initial = "on",
     .reloadable = true,
     .group = "Streams",
     .help = "Send relay.connected, relay.gap and the other control events"},
    {.name = "control_prefix",
     .type = CONFIG_STRING,
     FIELD(control_prefix),
     RANGE(0, 32),
     .initial = "relay.",
     .reloadable = true,
     .group = "Streams",
     .check = config_check_word,
     .help = "What the types of control events start with",
     .allowed = "up to 32 printable ASCII characters without spaces; may be empty"},
    {.name = "events.type_from_topic",
     .type = CONFIG_BOOL,
     FIELD(events_type_from_topic),
     .initial = "off",
     .group = "Streams",
     .help = "Give an event without a type the name of its topic as type"},

    {.name = "max_topics",
     .type = CONFIG_COUNT,
     FIELD(max_topics),
     RANGE(1, 1024),
     .initial = "64",
     .reloadable = true,
     .group = "Limits",
     .help = "Topics and patterns in one subscription"},
    {.name = "max_event_bytes",
     .type = CONFIG_SIZE,
     FIELD(max_event_bytes),
     RANGE(KB, 64 * MB),
     .initial = "1MB",
     .reloadable = true,
     .group = "Limits",
     .help = "Data of one event at POST /publish"},
    {.name = "queue.max_events",
     .type = CONFIG_COUNT,
     FIELD(queue_max_events),
     RANGE(1, 65536),
     .initial = "256",
     .reloadable = true,
     .group = "Limits",
     .help = "Events that may wait for one slow client"},
    {.name = "queue.max_bytes",
     .type = CONFIG_SIZE,
     FIELD(queue_max_bytes),
     RANGE(4 * KB, 1024 * MB),
     .initial = "1MB",
     .reloadable = true,
     .group = "Limits",
     .help = "Bytes that may wait for one slow client"},
    {.name = "tail.max_events",
     .type = CONFIG_COUNT,
     FIELD(tail_max_events),
     RANGE(0, 65536),
     .initial = "256",
     .reloadable = true,
     .group = "Limits",
     .help = "Recent events of each topic kept in memory, so that most clients that reconnect need "
             "no Redis; 0: none"},
    {.name = "tail.max_bytes",
     .type = CONFIG_SIZE,
     FIELD(tail_max_bytes),
     RANGE(64 * KB, 64 * 1024 * MB),
     .initial = "16MB",
     .reloadable = true,
     .group = "Limits",
     .help = "Memory for the recent events of all topics together"},
    {.name = "replay.max_events",
     .type = CONFIG_COUNT,
     FIELD(replay_max_events),
     RANGE(1, 1000000),
     .initial = "10000",
     .reloadable = true,
     .group = "Limits",
     .help = "Events replayed to one connection; what is beyond is told as a gap"},

    {.name = "publish.timeout",
     .type = CONFIG_DURATION,
     FIELD(publish_timeout_ms),
     RANGE(100, 600 * SECOND),
     .zero_ok = true,
     .initial = "5s",
     .reloadable = true,
     .group = "Publishing",
     .help = "How long POST /publish waits for Redis, or tries again, before it answers 503; 0: "
             "not at all"},
    {.name = "publish.max_waiting",
     .type = CONFIG_COUNT,
     FIELD(publish_max_waiting),
     RANGE(1, 1000000),
     .initial = "10000",
     .reloadable = true,
     .group = "Publishing",
     .help = "Publish requests that may wait for Redis at a time; beyond: 503 at once"},
    {.name = "publish.max_waiting_bytes",
     .type = CONFIG_SIZE,
     FIELD(publish_max_waiting_bytes),
     RANGE(64 * KB, 64 * 1024 * MB),
     .initial = "64MB",
     .reloadable = true,
     .group = "Publishing",
     .help = "Bytes of the publish requests that wait for Redis at a time"},
    {.name = "publish.wait_replicas",
     .type = CONFIG_COUNT,
     FIELD(publish_wait_replicas),
     RANGE(0, 16),
     .initial = "0",
     .group = "Publishing",
     .help = "Replicas that must confirm an event before POST /publish answers 200; needs "
             "publish.timeout"},

    {.name = "log.max_events",
     .type = CONFIG_COUNT,
     FIELD(log_max_events),
     RANGE(1, 1000000),
     .initial = "1000",
     .reloadable = true,
     .group = "Replay log",
     .help = "Events that Redis keeps for each topic"},
    {.name = "log.ttl",
     .type = CONFIG_DURATION,
     FIELD(log_ttl_ms),
     RANGE(SECOND, DECADE),
     .initial = "1h",
     .reloadable = true,
     .group = "Replay log",
     .help = "How long Redis keeps a topic's events after its last one"},
    {.name = "index.ttl",
     .type = CONFIG_DURATION,
     FIELD(index_ttl_ms),
     RANGE(SECOND, DECADE),
     .initial = "7d",
     .reloadable = true,
     .group = "Replay log",
     .help = "How long a topic's last id is remembered; not less than log.ttl"},
    {.name = "once.ttl",
     .type = CONFIG_DURATION,
     FIELD(once_ttl_ms),
     RANGE(SECOND, DECADE),
     .initial = "1d",
     .reloadable = true,
     .group = "Replay log",
     .help = "How long a `once` key keeps an event from being published again"},

    {.name = "logging.level",
     .type = CONFIG_ENUM,
     FIELD(logging_level),
     .initial = "info",
     .reloadable = true,
     .group = "Logging",
     .choices = level_choices,
     .help = "The least important lines that are written to stderr"},
    {.name = "logging.format",
     .type = CONFIG_ENUM,
     FIELD(logging_format),
     .initial = "logfmt",
     .reloadable = true,
     .group = "Logging",
     .choices = format_choices,
     .help = "How log lines look"},
};
const size_t config_option_count = sizeof(config_options) / sizeof(config_options[0]);
static_assert(sizeof(config_options) / sizeof(config_options[0]) <= CONFIG_OPTION_MAX,
              "raise CONFIG_OPTION_MAX");

const struct config_option *config_option_find(struct slice name)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (slice_is(name, config_options[i].name))
            return &config_options[i];
    return NULL;
}

void *config_field(const struct config *c, const struct config_option *opt)
{
    return (char *)(uintptr_t)c + opt->offset;
}

struct config *config_new_defaults(void)
{
    struct config_box *box = mem_zero(1, sizeof(*box));
    atomic_init(&box->refs, 1);
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *opt = &config_options[i];
        struct buf why = {0};
        enum err e = config_value_set(&box->config, opt, slice_of(opt->initial), false, &why);
        assert(e == OK && "a default must be valid");
        (void)e;
        buf_reset(&why);
    }
    return &box->config;
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add_explicit(&((struct config_box *)c)->refs, 1, memory_order_relaxed);
    return c;
}

void config_unref(struct config *c)
{
    struct config_box *box = (struct config_box *)c;
    if (!c || atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < config_option_count; i++)
        config_value_free(c, &config_options[i]);
    free(box);
}

struct config *config_merge_reload(const struct config *running, const struct config *fresh,
                                   struct buf *needs_restart)
{
    struct config *merged = config_new_defaults();
    struct config_box *box = (struct config_box *)merged;
    const struct config_box *old = (const struct config_box *)running;
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *opt = &config_options[i];
        config_value_copy(merged, opt->reloadable ? fresh : running, opt);
        if (opt->reloadable || config_value_equal(running, fresh, opt))
            continue;
        if (needs_restart->len > 0)
            buf_puts(needs_restart, ", ");
        buf_puts(needs_restart, opt->name);
    }
    box->node_is_default = old->node_is_default;
    box->workers_is_default = old->workers_is_default;
    return merged;
}
