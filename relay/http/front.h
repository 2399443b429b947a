/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP: the only user of libmicrohttpd. One daemon per worker, in external epoll mode on the
 * worker's loop, without a listening socket: connections are accepted here, at the rate and up to
 * the number that the limits say; others wait in the kernel's queue. Takes requests in whole, or
 * gives a body out as it comes, sends answers, and hands a stream's socket over once its preamble
 * is in the kernel. Until front_end() libmicrohttpd does not touch it: the connection is suspended,
 * or, with limits.handover, is over for it. All on the worker's thread. */
#pragma once
#include <ev.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "relay/kit/metrics.h"
#include "relay/http/request.h"

struct front;
struct front_call; /* one request and its answer */

struct front_header {
    const char *name, *value;
};

struct front_handler {
    /* Asked with the header of a message that has a body: whether body() is to have that piece by
     * piece, as it comes. Of the request its method and path are known. True: over() follows in any
     * case. */
    bool (*pipes)(void *arg, struct front_call *call);
    /* The header is there, and right as HTTP; the body, if any, is not. It may be refused here with
     * front_reply(), at once: the connection ends then where there is a body. No over() follows. */
    void (*begin)(void *arg, struct front_call *call);
    /* A piece of a body that is piped, after front_body_go_on(). Returns how much of it was taken;
     * if that is not all, the socket waits until front_body_go_on(). The answer may come here or at
     * any time: before the body's end it ends the connection, and nothing more is given out. */
    size_t (*body)(void *arg, struct front_call *call, struct slice piece);
    /* A complete request; of one that is piped, the end of its body. Answer with front_reply() or
     * front_stream(), at once or later. */
    void (*request)(void *arg, struct front_call *call);
    /* A request that is refused, as HTTP or for its body: answer with front_reply(), at once. Of
     * the request only its method and its headers are known. No over() follows. */
    void (*refuse)(void *arg, struct front_call *call, unsigned status, const char *detail);
    /* The preamble has been taken by the kernel: from here to front_end() the socket @fd is the
     * handler's to use, not to close. */
    void (*stream)(void *arg, struct front_call *call, int fd);
    /* The peer has hung up, or closed its sending half, while its answer is due. Not noticed within
     * the first second, unless front_expect_slow() was called. The call goes on: answer it as any
     * other. */
    void (*gone)(void *arg, struct front_call *call);
    /* The call is over, however it ended; @call is gone after this. Called for each call that
     * request() saw. */
    void (*over)(void *arg, struct front_call *call);
};

struct front_limits {
    /* Taken at the start. */
    unsigned max_connections; /* of the daemon: more than there can ever be files */
    size_t max_header_bytes;
    size_t max_parameters; /* of a query, with a header of that size */
    /* Connections that are not streams, over all addresses of this worker. With so many, those that
     * idle are closed, oldest first, and new ones wait. Half as many requests with a body may be
     * under way. */
    size_t max_others;
    bool handover; /* of a stream's socket: libmicrohttpd keeps nothing of it */
    /* What front_memory_is_known() said: what a stream does not need is given back, and a header's
     * bytes are judged as they lie in memory. */
    bool slim;
    /* Changed by front_configure(). */
    double accept_rate; /* connections per second on each address; 0: no limit */
    uint64_t idle_ms;   /* a connection may be silent between two requests */
    size_t max_body_bytes;
    size_t max_held_bytes; /* of request bodies, over all workers */
};

/* Whether this libmicrohttpd, with these limits, lays out the memory of connections as the relay
 * knows it. Tries that out in less than a millisecond; says so in the log when it does not. Once
 * for all workers. */
bool front_memory_is_known(const struct front_limits *limits);
/* @listen_fds: bound, listening, non-blocking; closed by front_free(), or by this when it fails.
 * @held_bytes: of request bodies; shared by all workers, outlives them. NULL when libmicrohttpd
 * refuses, with errno. */
struct front *front_new(struct ev_loop *loop, const int *listen_fds, size_t count,
                        const struct front_limits *limits, atomic_size_t *held_bytes,
                        const struct front_handler *handler, void *arg, struct metrics *metrics);
/* For requests and connections from now on. */
void front_configure(struct front *front, const struct front_limits *limits);
/* Ends what is still open, calling over() for each. */
void front_free(struct front *front);
/* Calls that the handler has seen and that are not over. */
size_t front_calls(const struct front *front);

/* About the request; all borrowed until stream() or over(), whichever is first. */
struct slice front_method(const struct front_call *call);
struct slice front_path(const struct front_call *call);     /* discipline_put_path() */
struct slice front_raw_path(const struct front_call *call); /* as it came, still encoded */
struct slice front_host(const struct front_call *call); /* that is asked for; SLICE_NONE: none */
/* Without white space around it; SLICE_NONE: there is none. */
struct slice front_header(const struct front_call *call, const char *name);
/* Of the body, as announced; UINT64_MAX: that is not known. */
uint64_t front_body_length(const struct front_call *call);
/* Whether its body goes to body(). */
bool front_is_piped(const struct front_call *call);
/* Gives the body out, from now on or again. Until the first time the socket waits. */
void front_body_go_on(struct front_call *call);
/* Counts bytes of it among those that are held, or no longer; what is left at the end is let go. */
void front_body_hold(struct front_call *call, size_t len);
void front_body_let_go(struct front_call *call, size_t len);
size_t front_body_room(const struct front_call *call); /* that may be held */
/* Each of those that have this name. */
void front_each_header(const struct front_call *call, const char *name,
                       void (*each)(void *arg, struct slice value), void *arg);
/* In begin() without the body. */
const struct request_view *front_view(const struct front_call *call);
void front_put_address(const struct front_call *call, struct buf *b); /* the peer's, for the log */
/* Whether the peer has hung up, or closed its sending half. Asks the kernel. */
bool front_is_gone(const struct front_call *call);
/* Whether front_stream() was its answer; the only question that over() may ask. */
bool front_is_stream(const struct front_call *call);

/* The caller's own pointer, NULL at first. */
void front_set_user(struct front_call *call, void *user);
void *front_user(const struct front_call *call);

/* In request(): the answer will take a while, so gone() is of use from now on. */
void front_expect_slow(struct front_call *call);
/* Answers in whole. Takes @body's bytes over and leaves it empty; NULL: none. */
void front_reply(struct front_call *call, unsigned status, const struct front_header *headers,
                 size_t count, struct buf *body);
/* Whether the body of a stream goes in chunks (common/chunk.h), each of which is then the
 * handler's to write in full, the last one, too. Else, for a client of HTTP/1.0, the body ends with
 * the connection. */
bool front_is_chunked(const struct front_call *call);
/* Answers 200 with a body whose length nobody knows: @preamble now, then stream(). */
void front_stream(struct front_call *call, const struct front_header *headers, size_t count,
                  struct slice preamble);
/* Ends a stream. Stop watching its socket before. Asynchronous and batched: over() follows. */
void front_end(struct front_call *call);
