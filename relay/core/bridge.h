/* SPDX-License-Identifier: Apache-2.0 */
/* What a message on a bridged channel, or an entry of a bridged stream, becomes: docs/protocol.md,
 * 9.1. No I/O. Bus thread. */
#pragma once
#include "common/envelope.h"
#include "common/json_pointer.h"
#include "relay/config/config.h"

/* What one reading needs, and what its result borrows from. Zero-initialise, reuse, bridge_reset()
 * at the end. */
struct bridge {
    struct envelope envelope;
    struct buf topic, type, data;
    const char *why; /* after ERR_INVALID: static words that follow "it is no event: " */
};

void bridge_reset(struct bridge *bridge);

/* A message. OK: *out is an event without an id, valid until the next reading; it borrows from
 * @payload, too. ERR_INVALID: it is none. */
NODISCARD enum err bridge_read_message(struct bridge *bridge, const struct config *config,
                                       const struct config_bridge *rule, struct slice channel,
                                       struct slice payload, struct event_fields *out);

/* An entry: @fields are names and values in turn, @count of them altogether. OK: topic, type
 * (SLICE_NONE: none) and data of *out are filled; the rest is @rule's. As above. */
NODISCARD enum err bridge_read_entry(struct bridge *bridge, const struct config *config,
                                     const struct config_bridge *rule, const struct slice *fields,
                                     size_t count, struct event_fields *out);
