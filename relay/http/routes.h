/* SPDX-License-Identifier: Apache-2.0 */
/* What each method and path does: the HTTP side of docs/protocol.md. Worker thread. */
#pragma once
#include "relay/fanout/fanout.h"
#include "relay/http/front.h"

struct routes;

struct routes *routes_new(struct fanout *fanout, struct node *node, unsigned worker,
                          struct config *config);
void routes_free(struct routes *routes); /* after all calls are over */
void routes_configure(struct routes *routes, struct config *config);

/* The front's handler, with the routes as its argument. */
extern const struct front_handler routes_handler;

/* From other threads; each takes the note over. */
void routes_take_published(struct routes *routes, struct note_publish *note);
void routes_take_census(struct routes *routes, struct note_census *note);
