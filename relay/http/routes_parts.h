/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of routes share, for them only: routes.c has the table of paths, routes_answer.c
 * how every answer looks, routes_stream.c GET /events, routes_publish.c POST /publish, and
 * routes_state.c what a node tells of itself. */
#pragma once
#include "relay/http/routes.h"
#include "relay/kit/bucket.h"
#include "relay/kit/log.h"

enum { ROUTES_HEADERS_MAX = 16 };

struct routes {
    struct fanout *fanout;
    struct node *node;
    unsigned worker;
    struct config *config;
    struct bucket full_bucket; /* answers to streams for which there is no place */
    struct log_limit full_limit;
};

/* What a call waits for; its front_user(). A stream's call has the stream there. */
struct routes_exchange {
    struct routes *routes;
    struct front_call *call;
    struct note_publish *publish;
    struct note_census *census;
};

struct routes_headers {
    struct front_header items[ROUTES_HEADERS_MAX];
    size_t count;
};

/* routes_answer.c. @name and @value are borrowed; what is too much is left out. */
void routes_header_add(struct routes_headers *h, const char *name, const char *value);
void routes_header_add_cors(const struct routes *r, struct front_call *call,
                            struct routes_headers *h);
/* Whether a page of the request's Origin may publish: ours, or listed. No page at all: true. */
bool routes_origin_may_publish(const struct routes *r, struct front_call *call);
/* Takes @body's bytes over. @extra: NULL, or headers beside the usual ones. */
void routes_reply(struct routes *r, struct front_call *call, unsigned status, const char *type,
                  struct buf *body, const struct routes_headers *extra);
void routes_reply_problem(struct routes *r, struct front_call *call, unsigned status,
                          struct slice detail, const struct routes_headers *extra);
/* @allow: the methods of the path, as in the header. */
void routes_reply_no_method(struct routes *r, struct front_call *call, const char *allow);
void routes_reply_options(struct routes *r, struct front_call *call, const char *allow);

/* One for each path; the method is among those of the path. */
void routes_serve_events(struct routes *r, struct front_call *call);
void routes_serve_publish(struct routes *r, struct front_call *call);
void routes_serve_health(struct routes *r, struct front_call *call);
void routes_serve_ready(struct routes *r, struct front_call *call);
void routes_serve_metrics(struct routes *r, struct front_call *call);
void routes_serve_stats(struct routes *r, struct front_call *call);

/* routes_stream.c. After a change of configuration. */
void routes_stream_configure(struct routes *r);

/* routes_publish.c. A problem of something that surely was not published, and never will be. */
void routes_reply_unpublished(struct routes *r, struct front_call *call, unsigned status,
                              struct slice detail);
