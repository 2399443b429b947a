/* SPDX-License-Identifier: Apache-2.0 */
/* What workers ask of a stream of any node, and what other nodes ask of streams here: the control
 * channels P:node:<tag> (docs/protocol.md, "Between relays"). Bus thread. */
#pragma once
#include "relay/bus/bus_outbox.h"

struct bus_remote;

struct bus_remote *bus_remote_new(const struct bus_base *base, struct bus_outbox *outbox);
/* The store is made: listens for what others ask. */
void bus_remote_listen(struct bus_remote *remote);
/* After the store has gone: gives all notes back to the workers, with 504. */
void bus_remote_free(struct bus_remote *remote);

/* A worker asks. Takes @note, until it goes back with a status: the stream's own answer, 404: there
 * is no such connection, or nobody hears the node's channel (for 2 s, if somebody did lately), 503:
 * too much waits, or Redis is away, 504: no answer within 2 s. */
void bus_remote_take(struct bus_remote *remote, struct note_remote *note);
/* A worker has answered for a stream of its own. Takes @note. */
void bus_remote_answer(struct bus_remote *remote, struct note_control *note);
/* From the store: a message on the name whose subject is STORE_NODE. */
void bus_remote_told(struct bus_remote *remote, struct slice text);
