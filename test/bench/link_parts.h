/* SPDX-License-Identifier: Apache-2.0 */
/* For link*.c only. */
#pragma once
#include "common/ring.h"
#include "link.h"

struct redisContext;
struct redisReader;

struct queue { /* of event numbers */
    struct ring ring;
    uint64_t *items; /* its slots */
};

struct link {
    struct source source; /* first */
    struct loop *loop;
    const struct options *options;
    struct link_owner *owner;
    struct queue waiting, sent;
    struct buf out, in;
    size_t out_at; /* bytes of @out that are sent */
    size_t depth;
    bool down, writing;
    struct redisContext *redis; /* owns the file; NULL: HTTP */
    struct redisReader *replies;
};

/* The oldest unanswered event has its answer. */
void link_answered(struct link *link, bool ok, uint64_t id, const char *error);
/* Take what was read; false: the other side talks nonsense. */
bool link_take_redis(struct link *link, const char *bytes, size_t len);
bool link_take_http(struct link *link, const char *bytes, size_t len);
