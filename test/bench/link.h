/* SPDX-License-Identifier: Apache-2.0 */
/* One connection that events are published over, to Redis or to an HTTP server. Answers come in the
 * order of the requests. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "loop.h"
#include "options.h"

struct link;

/* Appends the request that publishes event @g. */
typedef void link_format(void *arg, uint64_t g, struct buf *out);
/* Event @g was answered; @id is what the answer said, or 0. */
typedef void link_answer(void *arg, uint64_t g, bool ok, uint64_t id);

struct link_owner {
    link_format *format;
    link_answer *answer;
    void *arg;
    const char *error; /* what the first refused publish was told; owned */
};

/* Connects (blocks). NULL: a message is on stderr. */
struct link *link_new(struct loop *loop, const struct options *o, struct link_owner *owner);
/* Event @g waits until fewer than the depth are unanswered. */
void link_submit(struct link *link, uint64_t g);
/* Sends what was submitted. */
void link_flush(struct link *link);
size_t link_load(const struct link *link); /* submitted, not answered */
bool link_is_down(const struct link *link);
void link_free(struct link *link);
