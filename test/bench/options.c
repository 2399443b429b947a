/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "common/mem.h"
#include "common/slice.h"
#include <ctype.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { T_FLAG, T_COUNT, T_SIZE, T_TIME, T_TEXT, T_LIST, T_ENUM };

struct row {
    const char *name;
    char letter;
    enum type type;
    size_t at;
    const char *const *words; /* of T_ENUM */
    const char *value, *help; /* a row with a help only is a heading */
};

static const char *const publish_words[] = {"fcall", "inbox", "channel", "http", "none", NULL};
static const char *const cursor_words[] = {"none", "one", "spread", NULL};
static const char *const ready_words[] = {"auto", "event", "head", NULL};
static const char *const order_words[] = {"auto", "strict", "id", "any", NULL};
static const char *const pick_words[] = {"random", "round", NULL};
static const char *const payload_words[] = {"text", "json", NULL};

#define AT(field) offsetof(struct options, field)

static const struct row rows[] = {
    {.help = "Streams"},
    {"clients", 'n', T_COUNT, AT(clients), NULL, "N", "streams to open (1000)"},
    {"url", 'u', T_TEXT, AT(url), NULL, "URL",
     "what they ask for: %t is the topic, %i the client's number\n"
     "(http://127.0.0.1:8080/events?topic=%t)"},
    {"target", 't', T_LIST, AT(target_texts), NULL, "ADDR",
     "connect to this HOST:PORT instead of the URL's; repeatable, or a\n"
     "range: 127.0.0.1-127.0.0.4:8080"},
    {"source", 's', T_LIST, AT(source_texts), NULL, "ADDR",
     "bind to these addresses in turn, so that ports do not run out\n"
     "(for loopback targets 127.0.0.1-127.0.0.8)"},
    {"header", 'H', T_LIST, AT(headers), NULL, "LINE", "add to each request; repeatable"},
    {"tokens", 0, T_TEXT, AT(tokens_path), NULL, "FILE",
     "a token on each line: streams show them in turn, and whoever\n"
     "publishes over HTTP shows the first (Authorization: Bearer)"},
    {"concurrency", 0, T_COUNT, AT(concurrency), NULL, "N",
     "at most this many connects under way (1000)"},
    {"ready", 0, T_ENUM, AT(ready), ready_words, "WHEN",
     "a stream is subscribed at its first event, or its head\n"
     "(auto: event on a path that begins with /events, else head)"},
    {"gzip", 'z', T_FLAG, AT(gzip), NULL, NULL,
     "ask for gzip, inflate what comes, and report its bytes next to\n"
     "those it stands for. Takes 40 KB of memory for each client"},

    {.help = "Topics"},
    {"topic", 'T', T_TEXT, AT(topic), NULL, "NAME",
     "template: %d is the topic's number, %g that of its group\n"
     "(bench, bench.%d if there are several, bench.%g.%d with patterns)"},
    {"topics", 0, T_TEXT, AT(topic_count), NULL, "N", "topics; each: one for each client (1)"},
    {"topics-per-client", 'k', T_COUNT, AT(topics_per_client), NULL, "K",
     "subscriptions of a client (1)"},
    {"patterns", 0, T_COUNT, AT(patterns), NULL, "P",
     "how many of these are patterns, each for a whole group (0)"},
    {"group", 0, T_COUNT, AT(group), NULL, "N", "topics in a group (10)"},

    {.help = "Publishing"},
    {"publish", 'p', T_ENUM, AT(publish), publish_words, "DOOR",
     "fcall, inbox, channel (a bare PUBLISH), http or none (fcall)"},
    {"size", 'b', T_SIZE, AT(size), NULL, "BYTES", "of an event's data, at least its tag (64)"},
    {"payload", 0, T_ENUM, AT(payload), payload_words, "KIND",
     "what the data is besides its tag: text, the alphabet again and\n"
     "again; json, an order with items, each different, which compresses\n"
     "as such things do: 1 KB to 400 bytes (text)"},
    {"window", 'w', T_COUNT, AT(window), NULL, "W",
     "events in flight: the next one is published when one has reached\n"
     "all its receivers (1)"},
    {"burst", 0, T_FLAG, AT(burst), NULL, NULL,
     "publish a whole window at once, when all of the one before has\n"
     "reached all its receivers"},
    {"rate", 'r', T_COUNT, AT(rate), NULL, "N",
     "events a second instead; latency then counts from when each event\n"
     "was due, however late it was sent"},
    {"pick", 0, T_ENUM, AT(pick), pick_words, "HOW", "next topic: random or round (random)"},
    {"redis", 0, T_TEXT, AT(redis), NULL, "URL",
     "redis://[:PASSWORD@]HOST[:PORT][/DB] or unix:PATH; its command\n"
     "counts are reported (redis://127.0.0.1:6379); none: no Redis"},
    {"prefix", 0, T_TEXT, AT(prefix), NULL, "P", "of the relay's keys (sse)"},
    {"namespace", 0, T_TEXT, AT(ns), NULL, "NS", "(default)"},
    {"channel", 0, T_TEXT, AT(channel), NULL, "NAME",
     "channel for --publish channel (PREFIX:{NS}:ch:%t)"},
    {"publish-url", 0, T_TEXT, AT(publish_url), NULL, "URL",
     "for --publish http: the data is the body\n"
     "(http://HOST/publish?topic=%t of the streams' host)"},
    {"publish-connections", 0, T_COUNT, AT(publish_connections), NULL, "N",
     "connections to publish over (1). With more, events of one topic\n"
     "overtake each other: see --order"},
    {"publish-depth", 0, T_COUNT, AT(publish_depth), NULL, "N",
     "unanswered publishes on a connection (Redis 1000, HTTP 1)"},
    {"order", 0, T_ENUM, AT(order), order_words, "HOW",
     "what to demand of each stream: strict, as published; id: ids grow;\n"
     "any (auto: strict, or any when one topic has several connections)"},

    {.help = "Time"},
    {"duration", 'd', T_TIME, AT(duration_ms), NULL, "TIME", "to measure (10s)"},
    {"warmup", 0, T_TIME, AT(warmup_ms), NULL, "TIME", "before that (1s)"},
    {"idle", 0, T_TIME, AT(idle_ms), NULL, "TIME",
     "first leave the streams idle and measure CPU and memory (0)"},
    {"timeout", 0, T_TIME, AT(timeout_ms), NULL, "TIME",
     "give up when nothing has moved for so long (10s)"},

    {.help = "Connect storm"},
    {"storm", 'S', T_FLAG, AT(storm), NULL, NULL,
     "measure how long until all clients are connected, have what they\n"
     "missed, and are live. --rate goes on publishing meanwhile (0)"},
    {"over", 0, T_TIME, AT(over_ms), NULL, "TIME",
     "spread the connects evenly over this time (0: as fast as possible)"},
    {"missed", 'm', T_COUNT, AT(missed), NULL, "N",
     "events to publish beforehand on each topic (10)"},
    {"cursor", 'c', T_ENUM, AT(cursor), cursor_words, "HOW",
     "Last-Event-ID: none; one: all missed all of these events; spread:\n"
     "each another number of them (one)"},

    {.help = "Report"},
    {"server-pid", 'P', T_LIST, AT(server_pids), NULL, "PID",
     "the server's process, its children included; repeatable: report\n"
     "its CPU time and memory"},
    {"redis-pid", 'R', T_LIST, AT(redis_pids), NULL, "PID", "the same for Redis"},
    {"json", 'j', T_TEXT, AT(json), NULL, "FILE", "write the report as JSON; -: to stdout"},
    {"quiet", 'q', T_FLAG, AT(quiet), NULL, NULL, "no progress, no text"},
    {"help", 'h', T_FLAG, AT(help), NULL, NULL, "this text"},
    {"version", 'V', T_FLAG, AT(version), NULL, NULL, "the version"},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static void print_row(const struct row *row)
{
    char head[64];
    if (!row->name) {
        printf("\n%s:\n", row->help);
        return;
    }
    snprintf(head, sizeof head, "%c%c%c --%s %s", row->letter ? '-' : ' ',
             row->letter ? row->letter : ' ', row->letter ? ',' : ' ', row->name,
             row->value ? row->value : "");
    printf("  %-30s", head);
    for (const char *p = row->help; *p; p++) {
        putchar(*p);
        if (*p == '\n')
            printf("  %-30s", "");
    }
    putchar('\n');
}

void options_help(void)
{
    printf(
        "Usage: sse-bench [OPTION...]\n"
        "Opens streams of Server-Sent Events to any server, publishes events, checks that every\n"
        "client gets every event once and in order, and reports throughput, latency and cost.\n"
        "Times: 250ms, 10s, 1m. Sizes: 64, 16KB, 1MB.\n");
    for (size_t i = 0; i < ROWS; i++)
        print_row(&rows[i]);
    printf(
        "\nExit status: 0 all as it should be, 1 events lost, repeated or in disorder, or the run\n"
        "failed, 2 wrong usage.\n"
        "\nExamples:\n"
        "  sse-bench -n 5000 -w 16 -P $(pidof sse-relay)\n"
        "  sse-bench -n 15000 --topics each -r 20000 -d 30s\n"
        "  sse-bench --storm -n 10000 --missed 100 --cursor spread\n"
        "  sse-bench -u 'http://127.0.0.1:8081/sub?id=%%t' -p http \\\n"
        "            --publish-url 'http://127.0.0.1:8081/pub?id=%%t' --redis none\n");
}

const char *options_publish_name(uint64_t publish)
{
    return publish_words[publish];
}

const char *options_cursor_name(uint64_t cursor)
{
    return cursor_words[cursor];
}

const char *options_payload_name(uint64_t payload)
{
    return payload_words[payload];
}

static bool set_word(const struct row *row, const char *text, uint64_t *out)
{
    for (uint64_t i = 0; row->words[i]; i++) {
        if (strcmp(row->words[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool set_row(struct options *o, const struct row *row, const char *text)
{
    void *field = (char *)o + row->at;
    struct text_list *list = field;
    switch (row->type) {
    case T_FLAG:
        *(bool *)field = true;
        return true;
    case T_COUNT:
        return slice_u64(slice_of(text), UINT32_MAX, field) == OK;
    case T_SIZE:
        return slice_size(slice_of(text), field) == OK && *(uint64_t *)field <= 16 << 20;
    case T_TIME:
        return slice_duration_ms(slice_of(text), field) == OK;
    case T_TEXT:
        *(const char **)field = text;
        return true;
    case T_LIST:
        list->items = mem_resize(list->items, (list->count + 1) * sizeof *list->items);
        list->items[list->count++] = text;
        return true;
    case T_ENUM:
        return set_word(row, text, field);
    }
    return false;
}

static void fill_getopt(struct option *longs, char *shorts)
{
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (!rows[i].name)
            continue;
        int argument = rows[i].type == T_FLAG ? no_argument : required_argument;
        longs[n++] = (struct option){rows[i].name, argument, NULL, 256 + (int)i};
        if (rows[i].letter) {
            *shorts++ = rows[i].letter;
            if (argument)
                *shorts++ = ':';
        }
    }
    *shorts = '\0';
}

static const struct row *row_of(int c)
{
    for (size_t i = 0; i < ROWS; i++)
        if (c == 256 + (int)i || (c < 256 && c == rows[i].letter && c != 0))
            return &rows[i];
    return NULL;
}

static bool read_flags(struct options *o, int argc, char **argv)
{
    struct option longs[ROWS + 1] = {0};
    char shorts[2 * ROWS + 1];
    fill_getopt(longs, shorts);
    int c;
    while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        const struct row *row = row_of(c);
        if (!row)
            return false; /* getopt has said why */
        if (!set_row(o, row, optarg)) {
            fprintf(stderr, "sse-bench: --%s %s: not understood\n", row->name, optarg);
            return false;
        }
    }
    if (optind < argc)
        fprintf(stderr, "sse-bench: %s: not an option\n", argv[optind]);
    return optind == argc;
}

static bool fail(const char *what, const char *why)
{
    fprintf(stderr, "sse-bench: %s: %s\n", what, why);
    return false;
}

/* Takes "http://HOST[:PORT][/PATH]" apart. */
static bool split_url(const char *url, char **host, char **path)
{
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return fail(url, "expected http://HOST[:PORT]/PATH");
    const char *start = url + sizeof scheme - 1;
    size_t len = strcspn(start, "/");
    *host = mem_dup(start, len);
    *path = start[len] ? mem_dup(start + len, strlen(start + len)) : mem_dup("/", 1);
    return true;
}

static bool add_all(struct address_list *list, const struct text_list *texts, const char *port)
{
    const char *error;
    for (uint32_t i = 0; i < texts->count; i++)
        if (!address_list_add(list, texts->items[i], port, &error))
            return fail(texts->items[i], error);
    return true;
}

static bool find_addresses(struct options *o)
{
    const char *error;
    if (!split_url(o->url, &o->host, &o->path))
        return false;
    if (o->target_texts.count == 0 && !address_list_add(&o->targets, o->host, "80", &error))
        return fail(o->host, error);
    if (!add_all(&o->targets, &o->target_texts, "80") ||
        !add_all(&o->sources, &o->source_texts, "0"))
        return false;
    if (o->sources.count == 0 && address_list_is_loopback(&o->targets) &&
        !address_list_add(&o->sources, "127.0.0.1-127.0.0.8", "0", &error))
        return fail("source", error);
    if (o->publish != PUBLISH_HTTP)
        return true;
    if (!o->publish_url) {
        o->publish_host = mem_dup(o->host, strlen(o->host));
        o->publish_path = strdup("/publish?topic=%t");
        o->publish_target = (struct address_list){
            (void *)mem_dup((const void *)o->targets.items, sizeof(struct address)), 1};
        return true;
    }
    if (!split_url(o->publish_url, &o->publish_host, &o->publish_path))
        return false;
    return address_list_add(&o->publish_target, o->publish_host, "80", &error) ||
           fail(o->publish_host, error);
}

static bool find_topics(struct options *o)
{
    uint64_t count = 0;
    if (strcmp(o->topic_count, "each") == 0)
        count = o->clients ? o->clients : 1;
    else if (slice_u64(slice_of(o->topic_count), 16 << 20, &count) != OK || count == 0)
        return fail("--topics", "expected a number from 1 to 16777216, or each");
    if (o->patterns > o->topics_per_client || o->topics_per_client == 0 || o->group == 0)
        return fail("--patterns",
                    "at most --topics-per-client, which is at least 1, as is --group");
    if (o->patterns * o->group + o->topics_per_client > 1 << 20)
        return fail("--group", "a client would ask for too many topics");
    const char *more = "";
    if (!strstr(o->topic, "%d") && (count > 1 || o->patterns))
        more = o->patterns ? ".%g.%d" : ".%d";
    if (asprintf(&o->topic_template, "%s%s", o->topic, more) < 0)
        abort();
    if (o->patterns && !strstr(o->topic_template, "%g"))
        return fail("--topic", "with patterns the name needs %g and %d");
    o->topics = (struct topics){
        .name = o->topic_template,
        .count = (uint32_t)count,
        .group = (uint32_t)o->group,
        .per_client = (uint32_t)o->topics_per_client,
        .patterns = (uint32_t)o->patterns,
    };
    return true;
}

/* What is left open follows from what was said. */
static bool complete(struct options *o)
{
    if (o->publish_connections == 0 || (o->window == 0 && o->rate == 0))
        return fail("--window, --publish-connections", "at least 1");
    if (o->ready == READY_AUTO)
        o->ready = strncmp(o->path, "/events", 7) == 0 ? READY_EVENT : READY_HEAD;
    /* A topic stays with its connection, so only one topic on several connections is in disorder.
     */
    if (o->order == ORDER_AUTO)
        o->order = o->publish_connections == 1 ? ORDER_STRICT : ORDER_ANY;
    if (o->publish_depth == 0)
        o->publish_depth = o->publish == PUBLISH_HTTP ? 1 : 1000;
    if (o->storm && o->cursor != CURSOR_NONE && o->publish != PUBLISH_FCALL &&
        o->publish != PUBLISH_HTTP)
        return fail("--storm", "cursors are ids, which only --publish fcall and http tell");
    if (o->storm && o->cursor != CURSOR_NONE && o->missed == 0)
        return fail("--missed", "at least 1, or --cursor none");
    if (o->storm && o->cursor == CURSOR_NONE && o->rate)
        return fail("--rate", "what a client without a cursor should get of it nobody can say");
    if (o->storm && o->publish_connections > 1)
        return fail("--publish-connections", "a storm uses one");
    return true;
}

bool options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){
        .clients = 1000,
        .concurrency = 1000,
        .url = "http://127.0.0.1:8080/events?topic=%t",
        .topic = "bench",
        .topic_count = "1",
        .topics_per_client = 1,
        .group = 10,
        .redis = "redis://127.0.0.1:6379",
        .prefix = "sse",
        .ns = "default",
        .publish_connections = 1,
        .size = 64,
        .window = 1,
        .duration_ms = 10000,
        .warmup_ms = 1000,
        .timeout_ms = 10000,
        .missed = 10,
        .cursor = CURSOR_ONE,
    };
    if (!read_flags(o, argc, argv))
        return false;
    if (o->help || o->version)
        return true;
    return find_addresses(o) && find_topics(o) && complete(o) &&
           (!o->tokens_path || tokens_read(&o->tokens, o->tokens_path));
}

void options_reset(struct options *o)
{
    address_list_reset(&o->targets);
    address_list_reset(&o->sources);
    address_list_reset(&o->publish_target);
    free(o->target_texts.items);
    free(o->source_texts.items);
    free(o->headers.items);
    free(o->server_pids.items);
    free(o->redis_pids.items);
    free(o->host);
    free(o->path);
    free(o->publish_host);
    free(o->publish_path);
    free(o->topic_template);
    tokens_reset(&o->tokens);
}
