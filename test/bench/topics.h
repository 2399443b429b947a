/* SPDX-License-Identifier: Apache-2.0 */
/* Which topics there are, and which client asks for which: all of it computed from numbers, so that
 * a million topics need no memory. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"

struct topics {
    const char *name;    /* template: %d is the topic's number, %g its group's */
    uint32_t count;      /* topics, at least 1 */
    uint32_t group;      /* topics to a group, at least 1; a pattern stands for a group */
    uint32_t per_client; /* subscriptions of a client */
    uint32_t patterns;   /* how many of these are patterns, at most per_client */
};

/* Appends the name of topic @n; with @pattern, the pattern for its whole group: "*" for %d. */
void topics_put_name(const struct topics *t, uint32_t n, bool pattern, struct buf *out);
/* Appends @template with %t replaced by the names client @client asks for, %i by its number and %%
 * by %. The part of the query that holds %t is repeated for each. */
void topics_put_target(const struct topics *t, const char *template, uint32_t client,
                       struct buf *out);
/* As above for one topic. */
void topics_put_target_of(const struct topics *t, const char *template, uint32_t topic,
                          struct buf *out);
/* The topics that @client must get, sorted, each once. @out has room for topics_set_max(). */
size_t topics_set(const struct topics *t, uint32_t client, uint32_t *out);
size_t topics_set_max(const struct topics *t);
