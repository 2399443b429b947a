/* HTTP requests taken apart: what a stream or a publish asks for, or a sentence about what is wrong
 * with it. No I/O. */
#pragma once
#include "common/buf.h"
#include "relay/config/config.h"
#include "common/slice.h"

struct request_pair {
    struct slice name, value; /* decoded; values may hold any byte */
};

/* A borrowed view of one HTTP request. */
struct request_view {
    const struct request_pair *query; /* in order of appearance */
    size_t query_count;
    struct slice last_event_id; /* header, SLICE_NONE when absent */
    struct slice content_type;  /* header */
    struct slice body;
};

/* Why a request is refused. */
struct problem {
    unsigned status;   /* 400, 413, … */
    struct buf detail; /* one sentence that names the parameter or field; UTF-8. buf_reset() it */
};

enum cursor_kind {
    CURSOR_NONE,    /* live only */
    CURSOR_ID,      /* Last-Event-ID: what was missed is told */
    CURSOR_UNKNOWN, /* a Last-Event-ID that is not ours */
    CURSOR_SINCE,   /* `value` is a wall-clock time in microseconds */
    CURSOR_LAST,    /* the last `value` events */
    CURSOR_ALL,
};

struct stream_request {
    char *ns;
    struct strings topics; /* at least one, valid, without repeats */
    struct strings types;  /* empty: all */
    enum cursor_kind cursor;
    uint64_t cursor_value;
};

/* @now_us: wall clock, for since=-10m. On refusal fills *problem and returns ERR_INVALID. The
 * caller owns *out. Precedence: header, then lastEventId/lastEventID/last_event_id, then replay,
 * then since. Unknown parameters are ignored. */
NODISCARD enum err request_parse_stream(const struct request_view *view,
                                        const struct config *config, uint64_t now_us,
                                        struct stream_request *out, struct problem *problem);
void stream_request_reset(struct stream_request *r);
/* Whether each of its topics and patterns asks only for what one of @patterns matches. */
bool stream_request_is_within(const struct stream_request *r, const struct strings *patterns);

/* What a client says about encodings (Accept-Encoding, RFC 9110, 12.5.3; SLICE_NONE: nothing):
 * whether gzip is acceptable, and not less welcome than none. What is malformed counts as no. */
bool request_accepts_gzip(struct slice accept_encoding);

/* One event to publish: its parts as alternating name and value, ready for FCALL sse_publish (topic
 * first, then data, then the options that were given: event, retry, ephemeral "1", once, priority,
 * key, ttl, match as JSON text). */
struct publication {
    struct strings args; /* NUL-terminated copies; data holds no NUL (dropped), others neither */
};
struct publish_request {
    char *ns;
    struct publication *items;
    size_t count; /* at least 1 */
    bool batch;   /* the body was an array: answer with an array */
};

/* All or nothing. `ns` comes from the query. Refusals name the field, and in an array its index:
 * "[3].topic: …". */
NODISCARD enum err request_parse_publish(const struct request_view *view,
                                         const struct config *config, struct publish_request *out,
                                         struct problem *problem);
void publish_request_reset(struct publish_request *r);

/* Appends an application/problem+json body (RFC 9457) with title, status, detail. */
void request_put_problem(struct buf *b, unsigned status, struct slice detail);
