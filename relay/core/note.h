/* SPDX-License-Identifier: Apache-2.0 */
/* What threads send each other through their inboxes. Whoever pops a note owns it. */
#pragma once
#include <stdatomic.h>

#include "common/event.h"
#include "relay/config/config.h"
#include "relay/kit/inbox.h"
#include "relay/core/gap.h"
#include "relay/core/publication.h"
#include "relay/core/revoked.h"
#include "relay/core/subscription.h"

enum note_kind {
    /* worker to bus */
    NOTE_WATCH,   /* struct note_name: the worker has a first client for the name */
    NOTE_UNWATCH, /* struct note_name: it has had none for a while */
    /* worker to bus, and back when done */
    NOTE_READ,    /* struct note_read */
    NOTE_PUBLISH, /* struct note_publish */
    NOTE_CALL,    /* struct note_call */
    NOTE_REMOTE,  /* struct note_remote */
    /* worker to bus */
    NOTE_TRUST, /* struct note_trust: what was revoked in a namespace is to be known here */
    /* bus to worker */
    NOTE_EVENTS,  /* struct note_events */
    NOTE_GAP,     /* struct note_gap */
    NOTE_REVOKED, /* struct note_revoked */
    /* bus to worker, and back when done */
    NOTE_CONTROL, /* struct note_control */
    /* worker to worker, and back */
    NOTE_CENSUS, /* struct note_census */
    /* hub to all */
    NOTE_CONFIG, /* struct note_config */
    NOTE_AUTH,   /* struct note_auth: workers only */
    NOTE_DRAIN,
    NOTE_STOP,
};

struct note {
    struct inbox_item item;
    enum note_kind kind;
};

struct note_name {
    struct note note;
    unsigned worker;
    char *ns, *name;
};

/* A topic that has ended, and by which event. */
struct note_end {
    char *topic;
    uint64_t id;
    enum topic_end reason;
};

/* A read of the log for one client. Belongs to the bus while it is there, but for `owner`. */
struct note_read {
    struct note note;
    unsigned worker;
    void *owner;              /* worker thread only; NULL once the client is gone … */
    atomic_bool cancelled;    /* … which the bus learns from this */
    struct subscription *sub; /* a reference */
    enum cursor_kind kind;    /* of the cursor; CURSOR_ID for the reads after the first */
    uint64_t cursor;
    uint32_t max_events; /* at least 1 */
    size_t max_bytes;
    uint64_t gap_told; /* up to here the connection has been told of gaps; the bus brings it up to
                          date */
    uint64_t horizon;  /* what had been forgotten up to here was so before the connection asked for
                          what there is, so its later pages tell no loss of it; 0: it had a cursor.
                          The bus fills it in where `kind` is no CURSOR_ID */
    uint64_t budget;   /* events that the connection may still replay; then a gap "overflow" */
    bool looks;        /* before there is a stream: nothing is watched for it, and while the store
                          is away it is answered without a page */
    /* filled by the bus */
    uint64_t
        start;    /* where the stream is complete from: the id of relay.connected; 0: do not tell */
    uint64_t end; /* complete up to here */
    unsigned era; /* counts the servers that were changed for others: which one the page is from */
    bool final;   /* `end` meets the live events that this worker is sent after this note */
    struct event **events; /* counted references; gaps are among them as control frames */
    size_t count;
    struct note_end *ends; /* of a final page: the exact topics that have ended up to `end` */
    size_t end_count;
};

/* What a publisher can rely on after an error. */
enum publish_outcome {
    PUBLISH_NOT,     /* certainly not published */
    PUBLISH_UNKNOWN, /* it may have been */
    PUBLISH_DONE,    /* published: `ids` holds what an error answer tells, too */
};

struct note_publish {
    struct note note;
    unsigned worker;
    void *owner;           /* worker thread only; NULL once the HTTP client is gone … */
    atomic_bool cancelled; /* … which the bus learns from this */
    struct publication_request request;
    /* filled by the bus */
    unsigned status; /* 200, or an HTTP error */
    enum publish_outcome outcome;
    struct buf detail; /* why, when it is an error */
    uint64_t *ids;     /* one for each item; 0: ephemeral; NOTE_ID_ENDED */
};

/* Among the ids: this one was not published, as one of its topics has ended. */
#define NOTE_ID_ENDED UINT64_MAX

enum { NOTE_EVENTS_MAX = 64 };

struct note_events {
    struct note note;
    size_t count;
    struct event *events[NOTE_EVENTS_MAX];
};

/* Events in (from, to] are gone for whoever is at or below `from` … */
struct note_gap {
    struct note note;
    char *ns;
    char *topic;  /* NULL: of any topic in the namespace */
    char *unless; /* whoever has this topic, too, had the event by it; or NULL */
    uint64_t from, to;
    bool moves;   /* no event up to `to` follows: telling it may move the cursor */
    bool is_new;  /* no page of an earlier one has brought it, as far as is known */
    unsigned era; /* of the server that told */
    struct event
        *late; /* the event of `to`, that turned up after later ones, or NULL; a reference */
    enum gap_reason reason;
};

/* Asks each worker in turn for its subscriber counts; ends at the worker that began. */
struct note_census {
    struct note note;
    unsigned first, visits; /* visits: workers that have counted */
    void *owner;            /* first worker's thread only */
    char *ns;               /* count only this namespace; NULL: all */
    void *counts;           /* owned by whoever holds the note */
};

/* A call of one of the library's functions on a namespace that is not about events (tickets,
 * revocations). Belongs to the bus while it is there, but for `owner`. It waits there until the
 * store is up; whoever waits for it has a deadline of his own. */
struct note_call {
    struct note note;
    unsigned worker;
    void *owner;           /* worker thread only; NULL: nobody waits for the answer (any more) … */
    atomic_bool cancelled; /* … which the bus learns from this: then it is not sent any more */
    const char *function;  /* static */
    char *ns;
    struct strings args;
    /* filled by the bus */
    enum err error; /* OK; ERR_AGAIN: nobody knows whether it was done; ERR_DENIED: refused */
    struct strings answer; /* the elements of the reply, or the one text; of ERR_DENIED why */
};

/* Something for a stream of some node, this one or another: by the control channel P:node:<tag>. */
struct note_remote {
    struct note note;
    unsigned worker;
    void *owner; /* as note_call's */
    atomic_bool cancelled;
    char *connection;   /* its id: node.h */
    const char *action; /* static: "renew", "end" */
    char *body;         /* JSON */
    unsigned tries;     /* the worker's own: so many have failed */
    /* filled by the bus */
    unsigned status; /* 200, 403, 404: gone, 504: no answer within 2 s */
    char *detail;    /* why not; or NULL */
};

/* The same at the node that has the stream. The worker fills in the answer and sends it back. */
struct note_control {
    struct note note;
    uint64_t request; /* the bus's own */
    char *from;       /* the tag of the node that asks */
    char *connection;
    char *action;
    char *body;
    unsigned status;
    char *detail;
};

struct note_trust {
    struct note note;
    char *ns;
};

/* To every worker alike. */
struct note_revoked {
    struct note note;
    char *ns;
    struct revoked_entry *entries;
    size_t count;
    bool loaded;    /* with these the namespace is known */
    bool forgotten; /* it is known no longer: ask again (NOTE_TRUST) when it is needed */
};

struct auth;

struct note_auth {
    struct note note;
    struct auth *auth; /* a reference */
};

struct note_config {
    struct note note;
    struct config *config; /* a reference */
};

void note_ends_free(struct note_end *ends, size_t count); /* with their topics */
void note_read_free(struct note_read *read);
void note_publish_free(struct note_publish *publish);
/* The store has answered to each item (ids): 200 and all of it is published, or topics had ended,
 * and it is 409. docs/protocol.md, 8.2. */
void note_publish_settle(struct note_publish *publish);
void note_name_free(struct note_name *name);
void note_events_free(struct note_events *events);
void note_gap_free(struct note_gap *gap);
void note_call_free(struct note_call *call);
void note_remote_free(struct note_remote *remote);
void note_control_free(struct note_control *control);
/* Fills in the answer; @detail is copied. */
void note_control_answer(struct note_control *control, unsigned status, const char *detail);
void note_trust_free(struct note_trust *trust);
void note_revoked_free(struct note_revoked *revoked);
/* Any of them, with what it holds; but for NOTE_CENSUS and NOTE_AUTH, whose counts and auth are not
 * ours. */
void note_free(struct note *note);
