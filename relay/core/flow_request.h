/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream asks of its flow: `slow`, `buffer`, `flush`, `control` of docs/protocol.md, 4.7. No
 * I/O. */
#pragma once
#include "common/buf.h"
#include "common/err.h"
#include "relay/config/config.h"

struct flow_request {
    uint32_t flush_ms;         /* 0: as configured */
    uint32_t buffer;           /* events; 0: queue.max_events */
    enum slow_policy slow : 8; /* where it asks for one: */
    bool has_slow;
    bool has_control, no_controls; /* off, or on; neither: control_events */
};

/* @name: one of the four. @config: what a client may ask for; NULL: whoever runs the relay asks.
 * ERR_INVALID: "expected …" is appended to *why, without the name and what was given. */
NODISCARD enum err flow_request_set(struct flow_request *f, const char *name, struct slice text,
                                    const struct config *config, struct buf *why);
/* For --explain: "; slow block" and so on for what it says. */
void flow_request_put(const struct flow_request *f, struct buf *out);
/* What @f does not say, @other does. */
void flow_request_merge(struct flow_request *f, const struct flow_request *other);
