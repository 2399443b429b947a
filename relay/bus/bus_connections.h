/* SPDX-License-Identifier: Apache-2.0 */
/* Topics of connections: connection.<connection_id>, which every stream has without asking
 * (docs/protocol.md, 4.8). Nobody subscribes to them: the library sends their events on a channel
 * of the namespace and the node, too, which is enough for the first one. It makes the topic one of
 * the stream's like any other. Bus thread. */
#pragma once
#include "relay/bus/bus_live.h"

struct bus_connections;

struct bus_connections *bus_connections_new(const struct bus_base *base, struct bus_live *live,
                                            struct bus_spaces *spaces, struct bus_repairs *repairs);
void bus_connections_free(struct bus_connections *connections); /* after the store */

/* From the store: an event for one connection of this node. The reference is the caller's. */
void bus_connections_hear(struct bus_connections *connections, struct event *ev);
/* The store has gone: what is sent from now on until it is back may be missed. */
void bus_connections_lose(struct bus_connections *connections);
/* What was missed has been read, but for what nobody asked for: that is looked for now. */
void bus_connections_find(struct bus_connections *connections);
