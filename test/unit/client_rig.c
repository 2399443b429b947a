/* SPDX-License-Identifier: Apache-2.0 */
#include "client_rig.h"

#include <string.h>

#include "common/match.h"
#include "common/mem.h"

static char *copy(const char *text)
{
    return mem_dup(text, strlen(text));
}

void client_start(struct client *c, const char *type)
{
    static const struct outbox_form plain;
    client_start_as(c, type, &plain);
}

static void start(struct client *c, const char *type, const struct outbox_form *form,
                  struct grant *grant)
{
    struct subscription_request request = {.ns = copy("default"),
                                           .grant = grant ? grant_ref(grant) : NULL};
    request.topics.items = mem_zero(1, sizeof(char *));
    request.topics.items[0] = copy("t");
    request.topics.count = 1;
    if (type) {
        request.types.items = mem_zero(1, sizeof(char *));
        request.types.items[0] = copy(type);
        request.types.count = 1;
    }
    struct subscription *sub = subscription_new(&request);
    client_init(c, sub, form);
    subscription_unref(sub);
}

void client_start_as(struct client *c, const char *type, const struct outbox_form *form)
{
    start(c, type, form, NULL);
}

void client_start_with(struct client *c, const char *type, struct grant *grant)
{
    static const struct outbox_form plain;
    start(c, type, &plain, grant);
}

struct event *event_make(uint64_t id, const char *type, const char *data)
{
    return event_make_for(id, type, data, NULL);
}

struct event *event_make_for(uint64_t id, const char *type, const char *data, const char *match)
{
    struct buf flat = {0};
    bool readable = match && match_put(&flat, slice_of(match)) == OK;
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .has_match = match != NULL,
                                  .match = readable ? buf_slice(&flat) : SLICE_NONE,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("t"),
                                  .type = slice_of(type),
                                  .data = slice_of(data)};
    struct event *ev = event_new(&fields, 0);
    buf_reset(&flat);
    return ev;
}

void client_drain(struct client *c, struct buf *out, size_t step)
{
    struct iovec iov[3];
    while (outbox_has_output(&c->out)) {
        int count = outbox_frames(&c->out, iov, 3, 1000);
        ck_assert_int_gt(count, 0);
        size_t left = step;
        size_t sent = 0;
        for (int i = 0; i < count && left; i++) {
            size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;
            buf_put(out, iov[i].iov_base, n);
            left -= n;
            sent += n;
        }
        outbox_sent(&c->out, sent);
    }
}
