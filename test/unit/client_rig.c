/* SPDX-License-Identifier: Apache-2.0 */
#include "client_rig.h"

#include <string.h>

#include "common/mem.h"

static char *copy(const char *text)
{
    return mem_dup(text, strlen(text));
}

void client_start(struct client *c, const char *type)
{
    static const struct client_form plain;
    client_start_as(c, type, &plain);
}

void client_start_as(struct client *c, const char *type, const struct client_form *form)
{
    struct subscription_request request = {.ns = copy("default")};
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

struct event *event_make(uint64_t id, const char *type, const char *data)
{
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("t"),
                                  .type = slice_of(type),
                                  .data = slice_of(data)};
    return event_new(&fields, 0);
}

void client_drain(struct client *c, struct buf *out, size_t step)
{
    struct iovec iov[3];
    while (client_has_output(c)) {
        int count = client_frames(c, iov, 3, 1000);
        ck_assert_int_gt(count, 0);
        size_t left = step;
        size_t sent = 0;
        for (int i = 0; i < count && left; i++) {
            size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;
            buf_put(out, iov[i].iov_base, n);
            left -= n;
            sent += n;
        }
        client_sent(c, sent);
    }
}
