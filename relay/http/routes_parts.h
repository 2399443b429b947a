/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of routes share, for them only. From the highest to the lowest: routes.c has the
 * table of paths, routes_admit.c who may come in, routes_stream.c GET /events, routes_finite.c
 * whether there is anything to stream, routes_publish.c POST /publish, routes_pipe.c bodies that
 * are published as they arrive, routes_tickets.c, routes_topics.c, routes_connections.c,
 * routes_revoke.c and routes_renew.c what their names say, routes_state.c what a node tells of
 * itself, routes_library.c what pages import; below them
 * routes_wait.c has requests wait for the bus, routes_refuse.c says no, routes_outcome.c tells what
 * came of a publish, and routes_answer.c knows how every answer looks.
 */
#pragma once
#include <sys/queue.h>

#include "relay/http/admission.h"
#include "relay/http/routes.h"
#include "relay/kit/bucket.h"
#include "relay/kit/log.h"

enum { ROUTES_HEADERS_MAX = 20, ROUTES_TICKET_HASH = 64 };

struct routes_visit;

/* Who may ask for a path. */
enum routes_needs {
    NEEDS_NOTHING,
    NEEDS_CREDENTIALS,
    NEEDS_ADMIN,
    NEEDS_METRICS, /* credentials where auth.metrics says so */
    NEEDS_TOKEN    /* of the body, perhaps: its own handler looks at it */
};

struct routes_path {
    const char *path;
    bool posts;     /* it takes POST … */
    bool deletes;   /* … or DELETE … */
    bool patches;   /* … or PATCH; else GET and HEAD */
    bool streams;   /* it answers with a stream */
    bool publishes; /* what is refused is told to be unpublished */
    bool issues;    /* tickets: which anonymous requests do not get */
    bool by_ticket; /* a ticket is as good as a token here, if it opened the stream in question */
    bool auth_only; /* there is no such path without authentication */
    enum routes_needs needs;
    void (*serve)(struct routes *r, struct routes_visit *v);
};

/* A request on its way to its act. */
struct routes_visit {
    struct front_call *call;
    const struct routes_path *path;
    struct route_hit hit; /* of a route of the auth file; hit.route NULL: a path of our own */
    unsigned rules;       /* admission_rules() when hit was found: it is of those */
    struct grant *grant;  /* a reference; NULL: without authentication */
    /* Of a stream that is opened with a ticket, or asked for by the one that opened it: */
    char ticket[ROUTES_TICKET_HASH + 1]; /* its hash; "": none */
    bool taken;                          /* it has been, under this id: */
    bool replaced;                       /* and by another since, before the stream was open */
    struct connection_id id;
    struct slice connection; /* of /connections/{connection_id}: borrowed of the path */
    struct slice topic; /* of /topics/{topic}: as it came, still encoded; borrowed of the path */
    struct note_publish *refused; /* of which it is asked by what its topics have ended; owned */
    char *secret;                 /* a ticket that is being issued; owned */
    bool looked; /* of a finite stream: it has been asked whether there is anything to come */
    uint32_t looked_over; /* so many events at most were looked at for that */
};

struct routes_exchange;
struct routes_pipes;
struct routes_pipe;
struct routes_retry;
TAILQ_HEAD(routes_retries, routes_retry);
TAILQ_HEAD(routes_waits, routes_exchange);

struct routes {
    void (*begin)(struct routes *r, struct front_call *call); /* routes.c: with the first step */
    struct fanout *fanout;
    struct node *node;
    unsigned worker;
    struct config *config;
    struct admission *admission;
    struct routes_retries retries; /* ends that no node has confirmed, at most RETRIES_MAX */
    size_t retry_count;
    struct log_limit retry_limit;
    struct routes_waits waits; /* oldest first: each has auth.timeout */
    struct routes_pipes *pipes;
    struct bucket full_bucket; /* answers to streams for which there is no place */
    struct log_limit full_limit;
    struct ev_loop *loop;
    ev_timer tick;
};

/* What a call waits for; its front_user(). A stream's call has the stream there. */
struct routes_exchange {
    struct routes *routes;
    struct front_call *call;
    struct note_publish *publish;
    struct note_census *census;
    /* While it waits to be let in, or for a call of the library's: routes_wait.c's own. */
    struct routes_visit visit;
    struct note_call *store;
    struct note_remote *remote;
    struct note_read *read;
    void (*resume)(struct routes *r, struct routes_visit *v, struct note_call *answer);
    void (*told)(struct routes *r, struct routes_visit *v, struct note_remote *answer);
    void (*looked)(struct routes *r, struct routes_visit *v, const struct note_read *answer);
    /* Of a pipe, whose own this is: what comes of notes goes there. Both take the note over. */
    struct routes_pipe *pipe; /* NULL: none */
    void (*published)(struct routes_pipe *pipe, struct note_publish *note);
    void (*called)(struct routes_pipe *pipe, struct note_call *note);
    bool waits;  /* it is in routes.waits … */
    bool trusts; /* … for what was revoked in its namespace */
    uint64_t deadline_ms;
    TAILQ_ENTRY(routes_exchange) link;
};

struct routes_headers {
    struct front_header items[ROUTES_HEADERS_MAX];
    size_t count;
};

/* --- routes_answer.c. @name and @value are borrowed; what is too much is left out. ------------ */

void routes_header_add(struct routes_headers *h, const char *name, const char *value);
void routes_header_add_cors(const struct routes *r, struct front_call *call,
                            struct routes_headers *h);
/* Whether the request's Origin is ours, or listed. No Origin at all: true. */
bool routes_origin_is_ours(const struct routes *r, struct front_call *call);
/* Takes @body's bytes over. @extra: NULL, or headers beside the usual ones. */
void routes_reply(struct routes *r, struct front_call *call, unsigned status, const char *type,
                  struct buf *body, const struct routes_headers *extra);
void routes_reply_problem(struct routes *r, struct front_call *call, unsigned status,
                          struct slice detail, const struct routes_headers *extra);
/* @allow: the methods of the path, as in the header. */
void routes_reply_no_method(struct routes *r, struct front_call *call, const char *allow);
void routes_reply_options(struct routes *r, struct front_call *call, const char *allow);
/* The headers of a stream's answer. */
void routes_header_add_stream(const struct routes *r, struct front_call *call,
                              struct routes_headers *h);
/* What a stream begins with. */
void routes_put_preamble(struct buf *b, uint64_t retry_ms);
/* 200, when to come back, and an end: native EventSource gives up for good after any other status.
 */
void routes_reply_away(struct routes *r, struct front_call *call, uint64_t retry_ms);

/* --- routes_outcome.c: what came of a publish ------------------------------------------------- */

/* Whether they are what the store says of an end, and may stand in an answer. */
bool routes_end_valid(const char *id, const char *reason);
/* @ended: topic, id and reason of those that have ended, in a row; NULL: nobody could say. */
void routes_reply_outcome(struct routes *r, struct front_call *call,
                          const struct note_publish *note, const struct strings *ended);
/* A problem of something that surely was not published, and never will be. */
void routes_reply_unpublished(struct routes *r, struct front_call *call, unsigned status,
                              struct slice detail, const struct routes_headers *extra);

/* --- routes_refuse.c -------------------------------------------------------------------------- */

/* Says no in the form that the path has: a problem, `published` where something was to be, and an
 * event to a stream that asked for errors=event. 401 and 403 get their WWW-Authenticate. */
void routes_refuse(struct routes *r, const struct routes_visit *v, unsigned status,
                   struct slice detail);
/* The same for a verdict other than granted or ticket. */
void routes_refuse_verdict(struct routes *r, const struct routes_visit *v,
                           const struct admission_verdict *verdict);
/* 503, with Retry-After. */
void routes_refuse_later(struct routes *r, const struct routes_visit *v, unsigned seconds,
                         struct slice detail);
/* Whether a topic was ended is not known. */
#define ROUTES_NOT_ENDED                                                                           \
    "Redis did not say that the topic has ended; ask again: a topic ends once, whoever asks"
/* Refuses the pages of strangers: "pages of this Origin may not @what". True: it is none. */
bool routes_pass_origin(struct routes *r, const struct routes_visit *v, const char *what);
/* Nobody can say now: never an event, never a grant. */
void routes_refuse_undecided(struct routes *r, const struct routes_visit *v);

/* --- routes_wait.c: what was let in waits here, for auth.timeout, and is undecided then --------
 */

/* Has the visit (taken over) wait until the revocations of its grant's namespace are known, for
 * which admission_check_revoked() has asked; then it begins anew. */
void routes_wait_trust(struct routes *r, struct routes_visit *v);
/* …until the store has answered @function, whose arguments (taken over) are @args. @resume gets the
 * answer, borrowed, with error OK or ERR_DENIED. A visit that has `refused` is never undecided: it
 * goes on with NULL. */
void routes_wait_store(struct routes *r, struct routes_visit *v, const char *function,
                       const char *ns, struct strings *args,
                       void (*resume)(struct routes *r, struct routes_visit *v,
                                      struct note_call *answer));
/* …until the node of a connection has answered. @body: JSON, taken over. */
void routes_wait_remote(struct routes *r, struct routes_visit *v, const char *action, char *body,
                        void (*told)(struct routes *r, struct routes_visit *v,
                                     struct note_remote *answer));
/* …until the log has been looked at, by @read (taken over). It is never undecided: without an
 * answer in time, or while the store is away, @looked gets NULL. */
void routes_wait_read(struct routes *r, struct routes_visit *v, struct note_read *read,
                      void (*looked)(struct routes *r, struct routes_visit *v,
                                     const struct note_read *answer));
/* Asks for @owner, which has `called`; it is the owner's to bound how long he waits. */
struct note_call *routes_ask_store(struct routes *r, const char *function, const char *ns,
                                   struct strings *args, struct routes_exchange *owner);
/* Asks without waiting for the answer. */
void routes_tell_store(struct routes *r, const char *function, const char *ns,
                       struct strings *args);
void routes_tell_remote(struct routes *r, struct slice connection, const char *action,
                        const char *body);
/* @connection: what had the ticket that was taken, or "". */
void routes_end_previous(struct routes *r, const char *connection);
void routes_wait_over(struct routes *r, struct routes_exchange *x);
void routes_wait_start(struct routes *r);
void routes_wait_stop(struct routes *r);
void routes_visit_reset(struct routes_visit *v);
/* Whether the auth file has been read again since: what the visit borrows of it is gone. */
bool routes_visit_is_outdated(const struct routes *r, const struct routes_visit *v);
/* As if the request had come now. The visit (taken over) holds no ticket. */
void routes_visit_anew(struct routes *r, struct routes_visit *v);
/* "name value" pairs and single texts for an FCALL. */
void routes_arg_add(struct strings *args, const char *text);
void routes_arg_add_u64(struct strings *args, const char *name, uint64_t value);
/* What the library's functions on tickets want to know of a visit. */
void routes_put_ticket_args(const struct routes *r, const struct routes_visit *v,
                            struct strings *args);

/* --- routes_admit.c --------------------------------------------------------------------------- */

/* Lets the visit (taken over) in, at once or later, or refuses it. */
void routes_admit(struct routes *r, struct routes_visit *v);
/* Before the body is read: refuses what will not be let in. False: it was refused. */
bool routes_admit_header(struct routes *r, const struct routes_visit *v);

/* What its credentials are worth, whatever else it asks. False: it was refused. */
bool routes_pass_credentials(struct routes *r, const struct routes_visit *v,
                             const struct admission_verdict *verdict);
/* --- one for each path; the method is among those of the path --------------------------------- */

void routes_serve_events(struct routes *r, struct routes_visit *v);
void routes_serve_publish(struct routes *r, struct routes_visit *v);
void routes_serve_pipe(struct routes *r, struct routes_visit *v);
void routes_serve_tickets(struct routes *r, struct routes_visit *v);
/* routes_topics.c: POST /topics/{topic}/end, and DELETE /topics/{topic}. */
void routes_serve_end(struct routes *r, struct routes_visit *v);
void routes_serve_cancel(struct routes *r, struct routes_visit *v);
void routes_serve_revoke(struct routes *r, struct routes_visit *v);
/* routes_connections.c: POST /connections/{connection_id}/pause, /resume, and PATCH of it. */
void routes_serve_pause(struct routes *r, struct routes_visit *v);
void routes_serve_resume(struct routes *r, struct routes_visit *v);
void routes_serve_topics(struct routes *r, struct routes_visit *v);
void routes_serve_renew(struct routes *r, struct routes_visit *v);
void routes_serve_health(struct routes *r, struct routes_visit *v);
void routes_serve_ready(struct routes *r, struct routes_visit *v);
void routes_serve_metrics(struct routes *r, struct routes_visit *v);
void routes_serve_stats(struct routes *r, struct routes_visit *v);
void routes_serve_client(struct routes *r, struct routes_visit *v);
void routes_serve_client_types(struct routes *r, struct routes_visit *v);

/* routes_pipe.c. A piece of its body: how much was taken. The body is whole. The call is over. */
size_t routes_pipe_body(struct routes_pipe *pipe, struct slice piece);
void routes_pipe_whole(struct routes_pipe *pipe);
void routes_pipe_over(struct routes_pipe *pipe);
void routes_pipe_start(struct routes *r);
void routes_pipe_stop(struct routes *r); /* after all calls are over */
/* All pipes end, with 503. */
void routes_pipe_drain(struct routes *r);

/* routes_finite.c. Where the request is for a finite stream of which it is to be known first
 * whether there is anything to come: the visit (taken over) waits for that, and then is served
 * again, or answered with 204. False: it need not wait. */
bool routes_finite_waits(struct routes *r, struct routes_visit *v,
                         const struct subscription_request *request);

/* routes_stream.c. After a change of configuration. */
void routes_stream_configure(struct routes *r);
/* Before the credentials are looked at: whether the node takes no streams, and has said so. */
bool routes_stream_is_turned_away(struct routes *r, const struct routes_visit *v);
