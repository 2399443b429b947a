/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of events that a stream is owed and cannot have any more: docs/protocol.md, 6.2. No
 * I/O, any thread. */
#pragma once
#include "common/event.h"
#include "relay/config/config.h"
#include "relay/kit/metrics.h"

enum gap_reason { GAP_TRIMMED, GAP_EXPIRED, GAP_UNKNOWN_ID, GAP_OVERFLOW, GAP_REDIS_LOST };

const char *gap_reason_text(enum gap_reason reason);
enum metric gap_metric(enum gap_reason reason); /* which counts it */
/* The control event that tells of a gap. @id: 0 when the cursor must not move. @from: UINT64_MAX
 * when it is not known. Without control events: an event without bytes, that moves the cursor
 * untold. */
struct event *gap_event(const struct config *config, enum config_control control, uint64_t id,
                        uint64_t from, uint64_t to, enum gap_reason reason);
/* The control event that tells of @count events which were dropped by the stream's own choice. @id:
 * the highest of theirs; 0: none had one. */
struct event *gap_dropped(const struct config *config, uint64_t id, uint64_t count);
