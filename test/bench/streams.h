/* SPDX-License-Identifier: Apache-2.0 */
/* The clients: opens them, reads them, and keeps for each the account of what it got. One thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "histogram.h"
#include "ledger.h"
#include "loop.h"
#include "options.h"
#include "sse_reader.h"

enum stream_phase { STREAM_NEW, STREAM_CONNECTING, STREAM_ASKING, STREAM_READY, STREAM_ENDED };

/* Why a stream failed, or what it got that it should not have. */
enum stream_fault {
    FAULT_CONNECT, /* refused, timed out, out of ports */
    FAULT_STATUS,  /* not 200 */
    FAULT_ENDED,   /* by the server */
    FAULT_BROKEN,  /* not HTTP, not SSE, or not gzip where that was announced */
    FAULT_LOST,    /* an event did not come */
    FAULT_REPEATED,
    FAULT_ORDER,
    FAULT_SIZE,  /* an event's data was not as long as it was published */
    FAULT_ALIEN, /* an event that this client did not ask for, or that was never published */
    FAULT_GAP,   /* the server said that events are missing */
    FAULT_KINDS,
};

struct stream {
    struct source source; /* first */
    struct sse_reader reader;
    struct streams *all;
    uint32_t number;
    uint8_t phase;         /* enum stream_phase */
    uint64_t opened_ns;    /* when the connect began */
    uint64_t caught_up_ns; /* when it had what it missed; 0: it has not */
    uint64_t after;        /* number of the event whose id was its Last-Event-ID; 0: none */
    uint64_t to_catch;     /* events it has to get before it is caught up */
    uint64_t last_g, last_id;
    uint64_t count, hash; /* of the events it got, as in ledger_sum */
};

struct streams {
    struct loop *loop;
    const struct options *options;
    struct ledger *ledger;
    struct stream *items; /* options->clients of them */
    uint32_t *receivers;  /* [topic]: clients that will get its events */
    char *scratch;        /* what is being read */
    size_t scratch_size;
    uint64_t now_ns; /* when it was read */

    uint64_t opened, under_way, ready, caught_up; /* so far; under way: not ready yet */
    uint64_t start_ns, ready_ns, caught_up_ns; /* the first connect; when the last one became so */
    uint64_t gzip_streams;                     /* those that became ready and are compressed */
    uint64_t deliveries, bytes, plain_bytes;   /* so far; plain: without HTTP, and inflated */
    uint64_t faults[FAULT_KINDS];
    char first_fault[200];
    struct histogram latency;    /* of measured events, to clients that had caught up */
    struct histogram connecting; /* from connect to ready */
    struct histogram catching;   /* from connect to caught up */
};

void streams_init(struct streams *s, struct loop *loop, const struct options *o,
                  struct ledger *ledger);
void streams_reset(struct streams *s);
/* Opens as many as may be under way and are due by @now_ns. */
void streams_open(struct streams *s, uint64_t now_ns);
/* When streams_open has next something to do of itself; UINT64_MAX: never. */
uint64_t streams_wake_ns(const struct streams *s);
/* True once each is ready or has failed. */
bool streams_settled(const struct streams *s);
uint64_t streams_failed(const struct streams *s); /* streams that are not there any more */
/* After the last event: compares what each stream got with what it should have, and counts the
 * faults. */
void streams_verify(struct streams *s);
const char *streams_fault_name(enum stream_fault fault);
