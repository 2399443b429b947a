/* SPDX-License-Identifier: Apache-2.0 */
/* What each method and path does: the HTTP side of docs/protocol.md. Worker thread. */
#pragma once
#include "relay/fanout/fanout.h"
#include "relay/http/front.h"

struct routes;

struct routes *routes_new(struct ev_loop *loop, struct fanout *fanout, struct node *node,
                          unsigned worker, struct config *config);
void routes_free(struct routes *routes); /* after all calls are over */
void routes_configure(struct routes *routes, struct config *config);
/* Takes the reference over. NULL (as at first): without authentication. */
void routes_set_auth(struct routes *routes, struct auth *auth);

/* What publishes ends: the node drains. */
void routes_drain(struct routes *routes);

/* The front's handler, with the routes as its argument. */
extern const struct front_handler routes_handler;

/* From other threads; each takes the note over. */
void routes_take_published(struct routes *routes, struct note_publish *note);
void routes_take_census(struct routes *routes, struct note_census *note);
void routes_take_read(struct routes *routes, struct note_read *note); /* one that looks */
void routes_take_call(struct routes *routes, struct note_call *note);
void routes_take_remote(struct routes *routes, struct note_remote *note);
void routes_take_control(struct routes *routes, struct note_control *note); /* goes back answered */
/* Also ends the streams that it concerns. */
void routes_take_revoked(struct routes *routes, struct note_revoked *note);
