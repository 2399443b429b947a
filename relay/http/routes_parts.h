/* What the parts of routes share, for them only: routes.c has the table of paths, routes_answer.c
 * how every answer looks, routes_stream.c GET /events, routes_publish.c POST /publish, and
 * routes_state.c what a node tells of itself. */
#pragma once
#include "relay/http/routes.h"

enum { ANSWER_HEADERS_MAX = 12 };

struct routes {
    struct fanout *fanout;
    struct node *node;
    unsigned worker;
    struct config *config;
};

/* What a call waits for; its front_user(). A stream's call has the stream there. */
struct exchange {
    struct routes *routes;
    struct front_call *call;
    struct note_publish *publish;
    struct note_census *census;
};

struct headers {
    struct front_header items[ANSWER_HEADERS_MAX];
    size_t count;
};

/* routes_answer.c. @name and @value are borrowed; what is too much is left out. */
void header_add(struct headers *h, const char *name, const char *value);
void header_add_cors(const struct routes *r, struct front_call *call, struct headers *h);
/* Whether a page of the request's Origin may publish: ours, or listed. No page at all: true. */
bool origin_may_publish(const struct routes *r, struct front_call *call);
/* Takes @body's bytes over. @extra: NULL, or headers beside the usual ones. */
void reply(struct routes *r, struct front_call *call, unsigned status, const char *type,
           struct buf *body, const struct headers *extra);
void reply_problem(struct routes *r, struct front_call *call, unsigned status, struct slice detail,
                   const struct headers *extra);
/* @allow: the methods of the path, as in the header. */
void reply_no_method(struct routes *r, struct front_call *call, const char *allow);
void reply_options(struct routes *r, struct front_call *call, const char *allow);

/* One for each path; the method is among those of the path. */
void serve_events(struct routes *r, struct front_call *call);
void serve_publish(struct routes *r, struct front_call *call);
void serve_health(struct routes *r, struct front_call *call);
void serve_ready(struct routes *r, struct front_call *call);
void serve_metrics(struct routes *r, struct front_call *call);
void serve_stats(struct routes *r, struct front_call *call);

/* routes_publish.c. 503, and surely not published. */
void reply_unpublished(struct routes *r, struct front_call *call, struct slice detail);
