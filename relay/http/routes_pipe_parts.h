/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of routes_pipe share, for them only. From the highest to the lowest: routes_pipe.c
 * opens pipes, publishes what they have, and watches the clock; routes_pipe_queue.c cuts their
 * bodies into events; routes_pipe_end.c asks how their topics ended, and answers. */
#pragma once
#include "relay/http/routes_parts.h"

enum {
    PIPE_QUEUE_MAX = 64,             /* events; as many are published in one round trip */
    PIPE_QUEUE_BYTES_MAX = 64 << 10, /* beyond nothing is read, whatever their number */
    PIPE_EVENT_COST = 256,           /* bytes of an event beside its data */
};

/* POST /topics/{topic}/pipe. It outlives its call while something of it is to be published. */
struct routes_pipe {
    struct routes_exchange x; /* the call's front_user() */
    struct routes *r;
    struct front_call *call; /* NULL: over */
    struct grant *grant;     /* a reference; NULL: without authentication */
    struct request_pipe request;
    struct cutter cutter;
    struct publication *queue; /* to be published next, `queued` of PIPE_QUEUE_MAX; NULL: none */
    size_t queued, queued_bytes;
    struct note_publish *flight; /* what is being published */
    size_t flight_bytes;
    size_t held;                    /* of its call: counted by front */
    struct note_call *asked, *poll; /* how the topic ended, and whether it has */
    uint64_t asked_until_ms;
    uint64_t count, first, last; /* of what is published */
    uint64_t opened_ms, heard_ms, sent_ms, polled_ms, stopped_ms;
    bool stopped;  /* the socket waits, since stopped_ms … */
    size_t wanted; /* … until so many bytes more may be held */
    bool complete; /* the body is whole */
    bool ready;    /* it is in pipes.ready */
    bool answered;
    /* How it ends once the queue is empty; status 0: it does not yet, or well. */
    unsigned status;
    enum metric outcome;
    bool unknown;      /* whether the last events were published */
    struct buf detail; /* why, in words */
    char *ended;       /* of 409: {"ended":…,"reason":…} without the braces; NULL: not known yet */
    TAILQ_ENTRY(routes_pipe) link, ready_link;
};

/* routes_pipe_end.c. It will end with this, unless it already ends with something else. */
void routes_pipe_close(struct routes_pipe *p, unsigned status, enum metric outcome,
                       struct slice detail);
/* With 409, and the sentence that a publish has for it. */
void routes_pipe_close_ended(struct routes_pipe *p);
/* Its topic has ended, as the store says: the answer to sse_ended. False: it says no such thing. */
bool routes_pipe_note_ended(struct routes_pipe *p, const struct strings *said);
/* Nothing of it is to be published any more: asks what is still to be known, then answers. */
void routes_pipe_finish(struct routes_pipe *p);
/* The answer to what was asked; NULL: none came in time. */
void routes_pipe_told(struct routes_pipe *p, const struct note_call *answer);

/* routes_pipe_queue.c. Cuts events off *rest until the queue is full, or something is wrong. */
void routes_pipe_cut(struct routes_pipe *p, struct slice *rest);
/* The body is whole: it may have one more. */
void routes_pipe_cut_end(struct routes_pipe *p);
bool routes_pipe_is_full(const struct routes_pipe *p);
void routes_pipe_drop_queue(struct routes_pipe *p);
/* Tells front how much is held now. */
void routes_pipe_update_held(struct routes_pipe *p);
