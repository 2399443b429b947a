/* What the parts of front share, for them only: front.c drives libmicrohttpd, front_gate.c takes
 * connections and keeps them in bounds, front_call.c takes requests and answers them,
 * front_stream.c sends a stream's preamble and parks its connection. */
#pragma once
#include <ev.h>
#include <microhttpd.h>

#include "relay/kit/bucket.h"
#include "relay/http/front.h"
#include "relay/kit/log.h"
#include "relay/kit/wheel.h"

enum {
    HEADER_DEADLINE_MS =
        10000, /* from the connection's start to the end of its first request's headers */
    REQUEST_DEADLINE_MS = 30000, /* from there to the end of the answer, streams apart */
    IDLE_DEADLINE_MS = 75000,    /* between requests */
};

/* What libmicrohttpd's pool for a connection must hold beside a request's header. */
enum {
    PAIR_BYTES = 64, /* of each parsed header or parameter */
    HEADERS_EXPECTED = 48,
    ANSWER_BYTES = 1024, /* its header */
};

struct peer;
LIST_HEAD(call_list, front_call);
TAILQ_HEAD(ending_list, front_call);
TAILQ_HEAD(peer_list, peer);

/* A listening socket. */
struct gate {
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
    struct wheel *wheel;
    struct gate *gates;
    size_t gate_count;
    struct peer_list others; /* not streams; by the time of their last change, oldest first */
    size_t other_count;
    size_t bodies;             /* calls with a body, until they are over */
    atomic_size_t *held_bytes; /* of bodies, over all workers */
    struct log_limit accept_limit, crowd_limit, body_limit;
    struct call_list suspended;   /* in libmicrohttpd */
    struct call_list handed_over; /* streams that it knows nothing of any more */
    struct ending_list ending;
    size_t completed;    /* requests, ever */
    size_t ended;        /* connections, since memory was given back… */
    uint64_t trimmed_ms; /* …then */
    size_t calls;        /* that the handler has seen and that are not over */
    bool stopping;       /* nothing may be suspended any more */
    ev_io epoll;
    ev_timer tick, end_batch, again;
};

enum peer_state {
    PEER_FRESH, /* its first request's headers are not complete */
    PEER_BUSY,
    PEER_IDLE, /* between requests */
    PEER_STREAM,
};

/* One TCP connection. */
struct peer {
    struct wheel_entry deadline; /* first: the wheel hands this pointer back */
    struct front *front;
    int fd;
    enum peer_state state;
    bool evicted, refused;   /* the next: answered without libmicrohttpd */
    uint64_t since_ms;       /* when the state changed */
    struct front_call *call; /* NULL: none */
    TAILQ_ENTRY(peer) other_link;
};

enum call_state {
    CALL_READING,
    CALL_HANDLING,
    CALL_ANSWERED,
    CALL_PREAMBLE,
    CALL_STREAMING,
    CALL_ENDING
};

/* What is needed of a request until it is answered. */
struct front_request {
    char *method, *path;
    struct buf body;
    size_t held;              /* of the body; counted in front.held_bytes */
    bool has_body;            /* counted in front.bodies */
    bool too_large, too_many; /* the body is read to its end, and refused then */
    struct request_pair *query;
    size_t query_count;
    struct request_view view;
    struct buf preamble;               /* of a stream */
    struct MHD_Response *response;     /* made while suspended, queued after the resume */
    struct MHD_Response *sent;         /* of a stream; libmicrohttpd's reference */
    const char *raw_method, *raw_path; /* libmicrohttpd's */
    unsigned status;
};

/* All that a parked stream costs here (beside libmicrohttpd's share, unless it was handed over). */
struct front_call {
    struct front *front;
    struct MHD_Connection *connection; /* NULL: handed over */
    struct peer *peer;                 /* NULL: handed over */
    struct front_request *request;     /* NULL: the stream has started */
    void *user;
    int fd;
    enum call_state state;
    bool suspended, handed_over, in_handler, stream;
    bool seen;                           /* by the handler: it is told when the call is over */
    LIST_ENTRY(front_call) parked_link;  /* in front.suspended or front.handed_over */
    TAILQ_ENTRY(front_call) ending_link; /* in front.ending: while CALL_ENDING, before the resume */
};

/* front.c. Between libmicrohttpd's callbacks and our own time: */
void call_suspend(struct front_call *call);
void call_resume(struct front_call *call);
void front_run_soon(struct front *front);

/* front_call.c. Queues or keeps @response; the handler is told of it as of any other. */
void call_answer(struct front_call *call, unsigned status, struct MHD_Response *response,
                 const struct front_header *headers, size_t count);
void call_free_request(struct front_call *call);
/* It is over for the handler and for us. */
void call_over(struct front_call *call);
/* libmicrohttpd's callbacks: */
void *front_on_target(void *front, const char *target, struct MHD_Connection *connection);
enum MHD_Result front_on_request(void *front, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **req_cls);
void front_on_completed(void *front, struct MHD_Connection *connection, void **req_cls,
                        enum MHD_RequestTerminationCode code);

/* front_stream.c. Ends what was handed over, at once. */
void front_end_handed_over(struct front *front);
void front_on_end_batch(struct ev_loop *loop, ev_timer *w, int revents);

/* front_memory.c. Before the call's request is freed: gives back what its connection will not need
 * while it is suspended. */
void call_slim(struct front_call *call);
/* Now and then, when many connections have ended: gives free memory back to the system. */
void front_trim(struct front *front);

/* front_gate.c */
void front_on_connection(void *front, struct MHD_Connection *connection, void **socket_context,
                         enum MHD_ConnectionNotificationCode code);
void peer_set_state(struct peer *peer, enum peer_state state);
/* Takes the sockets over and begins to accept. */
void gates_open(struct front *front, const int *listen_fds, size_t count);
void gates_configure(struct front *front);
void gates_close(struct front *front);
