/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of front share, for them only. From the lowest to the highest: front_hangup.c
 * notices who hangs up while he waits, front_drive.c runs libmicrohttpd, front_peer.c has its
 * connections, front_pool.c tries out how libmicrohttpd lays memory out, front_memory.c gives it
 * back, front_judge.c has messages judged, front_body.c keeps bodies within bounds, front_pipe.c
 * gives them out as they come, front_call.c takes requests and answers them, front_stream.c sends a
 * stream's preamble and parks its connection, front_gate.c accepts, front.c sets all of it up. */
#pragma once
#include <ev.h>
#include <microhttpd.h>

#include "relay/http/discipline.h"
#include "relay/kit/bucket.h"
#include "relay/http/front.h"
#include "relay/kit/log.h"
#include "relay/kit/wheel.h"

enum {
    HEADER_DEADLINE_MS =
        10000, /* from the connection's start to the end of its first request's headers */
    REQUEST_DEADLINE_MS = 30000, /* from there to the end of the answer, streams apart */
};

/* What libmicrohttpd's pool for a connection must hold beside a request's header. */
enum {
    PAIR_BYTES = 64, /* of each parsed header or parameter */
    HEADERS_EXPECTED = 48,
    ANSWER_BYTES = 1024, /* its header */
};

struct front_peer;
LIST_HEAD(front_call_list, front_call);
TAILQ_HEAD(front_ending_list, front_call);
TAILQ_HEAD(front_peer_list, front_peer);

/* A listening socket. */
struct front_gate {
    struct front *front;
    int fd;
    struct bucket bucket;
    ev_io acceptable;
    ev_timer pause; /* running: nothing is accepted */
};

struct front {
    struct ev_loop *loop;
    struct MHD_Daemon *daemon;
    const struct front_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct front_limits limits;
    size_t pool_bytes; /* of libmicrohttpd, for each connection */
    bool lax;          /* front_judge_is_lax() */
    struct wheel *wheel;
    struct front_gate *gates;
    size_t gate_count;
    struct front_peer_list others; /* not streams; by the time of their last change, oldest first */
    size_t other_count;
    size_t bodies;             /* calls with a body, until they are over */
    atomic_size_t *held_bytes; /* of bodies, over all workers */
    struct log_limit accept_limit, crowd_limit, body_limit;
    struct front_call_list suspended;   /* in libmicrohttpd */
    struct front_call_list handed_over; /* streams that it knows nothing of any more */
    struct front_ending_list ending;
    size_t completed; /* requests, ever */
    size_t calls;     /* that the handler has seen and that are not over */
    bool stopping;    /* nothing may be suspended any more */
    ev_io epoll;
    ev_timer tick, end_batch, again;
};

enum front_peer_state {
    PEER_FRESH, /* its first request's headers are not complete */
    PEER_BUSY,
    PEER_IDLE, /* between requests */
    PEER_STREAM,
};

/* One TCP connection. */
struct front_peer {
    struct wheel_entry deadline; /* first: the wheel hands this pointer back. Of a suspended call:
                                    of our patience, until the peer is watched */
    struct front *front;
    int fd;
    enum front_peer_state state;
    bool evicted, refused;   /* the next: answered without libmicrohttpd */
    uint64_t since_ms;       /* when the state changed */
    char *target;            /* of the request whose header is being read, as it came, until its
                                call takes it; or NULL */
    struct front_call *call; /* NULL: none */
    TAILQ_ENTRY(front_peer) other_link;
};

enum front_call_state {
    CALL_READING,
    CALL_PIPING, /* the body is given out; it is not whole */
    CALL_HANDLING,
    CALL_ANSWERED,
    CALL_PREAMBLE,
    CALL_STREAMING,
    CALL_ENDING
};

/* What is needed of a request until it is answered. */
struct front_request {
    char *method;
    char *target;                  /* as it came */
    struct buf path;               /* as routes compare it; empty until the message was judged */
    struct discipline_facts facts; /* likewise; slices of libmicrohttpd's pool and of target */
    struct buf body;
    size_t held;              /* of the body; counted in front.held_bytes */
    bool has_body;            /* counted in front.bodies */
    bool too_large, too_many; /* the body is read to its end, and refused then */
    bool piped;               /* the body is given out as it comes … */
    bool begun;               /* … after begin(), … */
    bool flows;               /* … unless its handler wants nothing of it for now */
    bool recalled;            /* suspended at once: libmicrohttpd calls once more before the body */
    bool early;               /* answered before its end, past libmicrohttpd */
    struct request_pair *query;
    size_t query_count;
    struct request_view view;
    struct buf preamble;               /* of a stream */
    struct MHD_Response *response;     /* made while suspended, queued after the resume */
    struct MHD_Response *sent;         /* of a stream; libmicrohttpd's reference */
    const char *raw_method, *raw_path; /* libmicrohttpd's */
    unsigned status;
    bool close;         /* the connection ends with the answer */
    bool names_codings; /* the answer tells which Content-Encoding is taken */
    bool slow;          /* its answer will be, says the handler */
    ev_io hangup;       /* active: the answer is due, and the peer watched */
};

/* All that a parked stream costs here (beside libmicrohttpd's share, unless it was handed over). */
struct front_call {
    struct front *front;
    struct MHD_Connection *connection; /* NULL: handed over */
    struct front_peer *peer;           /* NULL: handed over */
    struct front_request *request;     /* NULL: the stream has started */
    void *user;
    int fd;
    enum front_call_state state;
    bool suspended, handed_over, in_handler, stream;
    bool chunked;                        /* its client reads HTTP/1.1, and so chunks */
    bool seen;                           /* by the handler: it is told when the call is over */
    LIST_ENTRY(front_call) parked_link;  /* in front.suspended or front.handed_over */
    TAILQ_ENTRY(front_call) ending_link; /* in front.ending: while CALL_ENDING, before the resume */
};

/* front_hangup.c. The call is suspended until its answer comes: handler.gone() is called when the
 * peer hangs up. Watching begins by itself, soon or at once… */
void front_hangup_expect(struct front_call *call);
void front_hangup_watch(struct front_call *call);
/* …and must end before libmicrohttpd may close the socket. Twice is as good as once. */
void front_hangup_forget(struct front_call *call);

/* front_drive.c. What libmicrohttpd reserves for each connection: */
size_t front_drive_pool_bytes(const struct front_limits *limits);
/* Begins to run the daemon, whenever it has something to do. */
void front_drive_start(struct front *front);
void front_drive_stop(struct front *front);
/* In this turn of the loop. */
void front_drive_run_soon(struct front *front);
/* Between libmicrohttpd's callbacks and our own time. Twice is as good as once. */
void front_drive_suspend(struct front_call *call);
void front_drive_resume(struct front_call *call);

/* front_peer.c */
void front_peer_on_connection(void *front, struct MHD_Connection *connection, void **socket_context,
                              enum MHD_ConnectionNotificationCode code);
void front_peer_set_state(struct front_peer *peer, enum front_peer_state state);
/* The wheel's: it took longer than it may, or its answer takes longer than usual. */
void front_peer_on_deadline(struct wheel_entry *entry, void *front);
/* Closes some of the connections that can be closed without harm, oldest first; those that idle
 * before those that are late. They are gone when libmicrohttpd has run. Returns how many. */
size_t front_peer_evict(struct front *front);

/* front_memory.c. Before the call's request is freed: gives back what its connection will not need
 * while it is suspended. */
void front_memory_slim(struct front_call *call);

/* front_judge.c. Whether this libmicrohttpd is 0.9. */
bool front_judge_is_lax(void);
/* Of the request whose header @peer is sending; a copy is kept. */
void front_judge_keep_target(struct front_peer *peer, const char *target);
/* When the header is there: fills facts and path of the call's request. NULL: fine. */
const struct discipline_refusal *front_judge_message(struct front_call *call, const char *version);

/* front_body.c. Of a message that was judged: NULL, or why its body will not be read. */
const struct discipline_refusal *front_body_begin(struct front_call *call);
void front_body_add(struct front_call *call, const char *bytes, size_t len);
/* All of it is there: NULL, and its coding undone, or why it is refused. */
const struct discipline_refusal *front_body_end(struct front_call *call);
/* Holds nothing of it any more. */
void front_body_drop(struct front_call *call);

/* front_pipe.c. Of a message that was judged: whether its body is piped (request.piped). NULL, or
 * why it is not taken. */
const struct discipline_refusal *front_pipe_begin(struct front_call *call);
/* After begin(). */
void front_pipe_start(struct front_call *call);
/* Returns how many bytes were taken. */
size_t front_pipe_add(struct front_call *call, const char *bytes, size_t len);
/* Answers before the body's end, straight into the socket. @lines: of the header, with their ends.
 */
void front_pipe_answer(struct front_call *call, unsigned status, struct slice lines,
                       struct slice body);

/* front_call.c. Queues or keeps @response; the handler is told of it as of any other. */
void front_call_answer(struct front_call *call, unsigned status, struct MHD_Response *response,
                       const struct front_header *headers, size_t count);
void front_call_free_request(struct front_call *call);
/* It is over for the handler and for us. */
void front_call_over(struct front_call *call);
/* libmicrohttpd's callbacks: */
void *front_call_on_target(void *front, const char *target, struct MHD_Connection *connection);
enum MHD_Result front_call_on_request(void *front, struct MHD_Connection *connection,
                                      const char *url, const char *method, const char *version,
                                      const char *upload, size_t *upload_size, void **req_cls);
void front_call_on_completed(void *front, struct MHD_Connection *connection, void **req_cls,
                             enum MHD_RequestTerminationCode code);

/* front_stream.c. Ends what was handed over, at once. */
void front_stream_end_handed_over(struct front *front);
void front_stream_on_end_batch(struct ev_loop *loop, ev_timer *w, int revents);

/* front_gate.c. Takes the sockets over and begins to accept. */
void front_gate_open(struct front *front, const int *listen_fds, size_t count);
void front_gate_configure(struct front *front);
void front_gate_close(struct front *front);
