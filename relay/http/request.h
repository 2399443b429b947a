/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests taken apart: what a stream or a publish asks for, or a sentence about what is wrong
 * with it. No I/O. */
#pragma once
#include "common/buf.h"
#include "relay/config/config.h"
#include "relay/core/cutter.h"
#include "relay/core/publication.h"
#include "relay/core/subscription.h"

struct request_pair {
    struct slice name, value; /* decoded; values may hold any byte */
};

/* A borrowed view of one HTTP request. */
struct request_view {
    const struct request_pair *query; /* in order of appearance */
    size_t query_count;
    struct slice last_event_id; /* header, SLICE_NONE when absent */
    struct slice content_type;  /* header */
    struct slice slow, buffer;  /* X-SSE-Slow, X-SSE-Buffer; SLICE_NONE when absent */
    struct slice body;
    /* Who asks, and what his URL stands for; borrowed: */
    const struct grant *grant;    /* NULL: without authentication */
    const struct strings *topics; /* of a route; NULL: the query names them */
    bool topics_are_granted;      /* by the route, whatever the grant says */
};

/* Why a request is refused. */
struct problem {
    unsigned status;   /* 400, 413, …; 403: well formed, and not granted */
    struct buf detail; /* one sentence that names the parameter or field; UTF-8. buf_reset() it */
};

/* @now_us: wall clock, for since=-10m. On refusal fills *problem and returns ERR_INVALID. The
 * caller owns *out. Precedence: header, then the four names of the cursor in the query, then
 * replay, then since. Unknown parameters are ignored. */
NODISCARD enum err request_parse_stream(const struct request_view *view,
                                        const struct config *config, uint64_t now_us,
                                        struct subscription_request *out, struct problem *problem);

/* The Last-Event-ID that a client gives, in its header or query, if it is one of ours. */
bool request_cursor(const struct request_view *view, uint64_t *out);

/* What a client says about encodings (Accept-Encoding, RFC 9110, 12.5.3; SLICE_NONE: nothing):
 * whether gzip is acceptable, and not less welcome than none. What is malformed counts as no. */
bool request_accepts_gzip(struct slice accept_encoding);

/* All or nothing. `ns` comes from the query, or from the grant. Refusals name the field, and in an
 * array its index:
 * "[3].topic: …". */
NODISCARD enum err request_parse_publish(const struct request_view *view,
                                         const struct config *config,
                                         struct publication_request *out, struct problem *problem);
/* Who wants to end the topic of a path (@raw: still encoded): *out has its namespace, and one item
 * with that topic alone. */
NODISCARD enum err request_parse_end(const struct request_view *view, struct slice raw,
                                     struct publication_request *out, struct problem *problem);

/* A body that is published as it arrives. */
struct request_pipe {
    char *ns;
    struct publication event; /* what all of its events have: all but data */
    enum cutter_kind kind;
    bool ends; /* the topic, with the clean end of the body */
};

/* As request_parse_end(). The caller owns *out. */
NODISCARD enum err request_parse_pipe(const struct request_view *view, const struct config *config,
                                      struct slice raw, struct request_pipe *out,
                                      struct problem *problem);
/* One event of the body. The caller owns *out. */
NODISCARD enum err request_pipe_item(const struct request_pipe *pipe, const struct config *config,
                                     const struct cut *cut, struct publication *out,
                                     struct problem *problem);
void request_pipe_reset(struct request_pipe *pipe);

/* Appends an application/problem+json body (RFC 9457) with title, status, detail. */
void request_put_problem(struct buf *b, unsigned status, struct slice detail);
