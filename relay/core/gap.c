/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/gap.h"

#include "common/sse.h"

const char *gap_reason_text(enum gap_reason reason)
{
    switch (reason) {
    case GAP_TRIMMED:
        return "trimmed";
    case GAP_EXPIRED:
        return "expired";
    case GAP_UNKNOWN_ID:
        return "unknown-id";
    case GAP_OVERFLOW:
        return "overflow";
    case GAP_REDIS_LOST:
        return "redis-lost";
    }
    return "";
}

enum metric gap_metric(enum gap_reason reason)
{
    static const enum metric metrics[] = {[GAP_TRIMMED] = M_GAP_TRIMMED,
                                          [GAP_EXPIRED] = M_GAP_EXPIRED,
                                          [GAP_UNKNOWN_ID] = M_GAP_UNKNOWN_ID,
                                          [GAP_OVERFLOW] = M_GAP_OVERFLOW,
                                          [GAP_REDIS_LOST] = M_GAP_REDIS_LOST};
    return metrics[reason];
}

struct event *gap_event(const struct config *config, enum config_control control, uint64_t id,
                        uint64_t from, uint64_t to, enum gap_reason reason)
{
    struct buf frame = {0}, json = {0};
    if (control == CONTROL_ON) {
        if (from == UINT64_MAX)
            buf_puts(&json, "{\"from\":null");
        else
            buf_printf(&json, "{\"from\":\"%llu\"", (unsigned long long)from);
        buf_printf(&json, ",\"to\":\"%llu\",\"reason\":\"%s\"}", (unsigned long long)to,
                   gap_reason_text(reason));
        sse_put_control(&frame, id, config->control_prefix, "gap", buf_slice(&json));
    }
    struct event *ev = event_new_frame(id, buf_slice(&frame));
    buf_reset(&frame);
    buf_reset(&json);
    return ev;
}

struct event *gap_dropped(const struct config *config, uint64_t id, uint64_t count)
{
    struct buf frame = {0}, json = {0};
    buf_printf(&json, "{\"count\":%llu}", (unsigned long long)count);
    sse_put_control(&frame, id, config->control_prefix, "dropped", buf_slice(&json));
    struct event *ev = event_new_frame(id, buf_slice(&frame));
    buf_reset(&frame);
    buf_reset(&json);
    return ev;
}
