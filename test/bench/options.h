/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of sse-bench. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "address.h"
#include "tokens.h"
#include "topics.h"

enum publish_kind { PUBLISH_FCALL, PUBLISH_INBOX, PUBLISH_CHANNEL, PUBLISH_HTTP, PUBLISH_NONE };
enum cursor_kind { CURSOR_NONE, CURSOR_ONE, CURSOR_SPREAD };
enum ready_kind { READY_AUTO, READY_EVENT, READY_HEAD };
enum order_kind { ORDER_AUTO, ORDER_STRICT, ORDER_ID, ORDER_ANY };
enum pick_kind { PICK_RANDOM, PICK_ROUND };
enum payload_kind { PAYLOAD_TEXT, PAYLOAD_JSON };

struct text_list {
    const char **items;
    uint32_t count;
};

struct options {
    /* streams */
    uint64_t clients, concurrency;
    const char *url;
    struct text_list target_texts, source_texts, headers;
    const char *tokens_path;
    uint64_t ready;
    bool gzip;
    /* topics */
    const char *topic, *topic_count;
    uint64_t topics_per_client, patterns, group;
    /* publishing */
    uint64_t publish, pick, order, payload;
    const char *redis, *prefix, *ns, *channel, *publish_url;
    uint64_t publish_connections, publish_depth;
    uint64_t size, window, rate;
    bool burst;
    /* time */
    uint64_t duration_ms, warmup_ms, idle_ms, timeout_ms, over_ms;
    /* storm */
    bool storm;
    uint64_t missed, cursor;
    /* report */
    struct text_list server_pids, redis_pids;
    const char *json;
    bool quiet, help, version;

    /* made of the above by options_parse */
    struct address_list targets, sources, publish_target;
    char *host, *path, *publish_host, *publish_path; /* "HOST:PORT" and the rest of the URLs */
    struct topics topics;
    struct tokens tokens;
    char *topic_template;
};

/* Fills *o. False: a message is on stderr. */
bool options_parse(struct options *o, int argc, char **argv);
void options_reset(struct options *o);
void options_help(void);
/* The name of an enum's value: "fcall". */
const char *options_publish_name(uint64_t publish);
const char *options_cursor_name(uint64_t cursor);
const char *options_payload_name(uint64_t payload);
