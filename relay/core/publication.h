/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be published: events on their way in, whichever door they come by. A door fills one
 * field by field as publication_fields.h allows, and both stores take it as it is. No I/O. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/lane.h"
#include "common/strings.h"

#define PUBLICATION_TOPICS_MAX 64

/* In the order in which they leave as arguments. */
enum publication_field {
    FIELD_TOPIC,
    FIELD_TOPICS,
    FIELD_DATA,
    FIELD_EVENT,
    FIELD_RETRY,
    FIELD_EPHEMERAL,
    FIELD_ONCE,
    FIELD_ONCE_TTL,
    FIELD_PRIORITY,
    FIELD_KEY,
    FIELD_TTL,
    FIELD_MATCH,
    FIELD_END,
    FIELD_END_AFTER,
    FIELD_LOG_MAX,
    FIELD_LOG_TTL,
    FIELD_COUNT,
};

/* One event. Zero-initialised is empty; publication_set…() fill it, all may read it. Texts are
 * owned (publication_reset() frees them), with SLICE_NONE for what is absent. */
struct publication {
    struct strings topics; /* valid, without repeats, at most PUBLICATION_TOPICS_MAX */
    struct slice data;     /* UTF-8 without NUL; may be empty */
    struct slice event, once, key;
    struct slice match;                         /* JSON without white space: an object of strings */
    enum lane_kind lane;                        /* where publication_has() says so */
    uint64_t ttl_ms, once_ttl_ms;               /* 0: absent */
    uint64_t retry_ms;                          /* where publication_has() says so: 0 is a value */
    uint64_t end_after_ms, log_max, log_ttl_ms; /* 0: absent */
    bool ephemeral;
    bool ends;      /* it is the last of its topics */
    unsigned given; /* a bit for each field that was set, whatever to */
};

struct publication_request {
    char *ns;
    struct publication *items;
    size_t count; /* at least 1 */
    bool batch;   /* the body was an array: answer with an array */
};

void publication_reset(struct publication *p);
void publication_request_reset(struct publication_request *r);
