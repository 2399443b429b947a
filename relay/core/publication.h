/* What is to be published: events on their way in, whichever door they come by. A door fills one
 * field by field, one table of fields (publication_fields.c; docs/protocol.md, section 8) says what
 * is right, and both stores take it as it is. No I/O. */
#pragma once
#include "common/buf.h"
#include "common/json.h"
#include "common/strings.h"

#define PUBLICATION_TOPICS_MAX 64

/* In the order in which they leave as arguments. */
enum publication_field {
    FIELD_TOPIC,
    FIELD_TOPICS,
    FIELD_DATA,
    FIELD_EVENT,
    FIELD_RETRY,
    FIELD_EPHEMERAL,
    FIELD_ONCE,
    FIELD_ONCE_TTL,
    FIELD_PRIORITY,
    FIELD_KEY,
    FIELD_TTL,
    FIELD_MATCH,
    FIELD_COUNT,
};

/* What a field holds. */
enum publication_kind {
    KIND_TOPIC,
    KIND_TOPICS,
    KIND_DATA,
    KIND_TEXT,
    KIND_MS,
    KIND_FLAG,
    KIND_PRIORITY,
    KIND_MATCH,
};

/* One event. Zero-initialised is empty; publication_set…() fill it, all may read it. Texts are
 * owned (publication_reset() frees them), with SLICE_NONE for what is absent. */
struct publication {
    struct strings topics; /* valid, without repeats, at most PUBLICATION_TOPICS_MAX */
    struct slice data;     /* UTF-8 without NUL; may be empty */
    struct slice event, once, key;
    struct slice match;           /* JSON without white space: an object of strings */
    const char *priority;         /* "low", "normal", "high", "0" to "9"; NULL: absent. Not owned */
    uint64_t ttl_ms, once_ttl_ms; /* 0: absent */
    uint64_t retry_ms;            /* where publication_has() says so: 0 is a value */
    bool ephemeral;
    unsigned given; /* a bit for each field that was set, whatever to */
};

struct publication_request {
    char *ns;
    struct publication *items;
    size_t count; /* at least 1 */
    bool batch;   /* the body was an array: answer with an array */
};

/* The arguments of FCALL sse_publish behind the key: names and values in turn. They borrow from the
 * publication and from this itself, so it stays where it is. */
struct publication_arguments {
    struct slice items[2 * (PUBLICATION_TOPICS_MAX + FIELD_COUNT)];
    size_t count;
    char numbers[FIELD_COUNT][24];
};

void publication_reset(struct publication *p);
void publication_request_reset(struct publication_request *r);

void publication_put_arguments(const struct publication *p, struct publication_arguments *out);
/* What it takes as arguments, in bytes. */
size_t publication_bytes(const struct publication *p);

/* --- the law of the fields (publication_fields.c) --- */

/* FIELD_COUNT: HTTP has no such field (`once_ttl` is for the doors in Redis only). */
enum publication_field publication_field_find(struct slice name);
const char *publication_field_name(enum publication_field field);
enum publication_kind publication_field_kind(enum publication_field field);
/* Appends what the field takes: "milliseconds from 0 to 86400000". */
void publication_put_expected(enum publication_field field, struct buf *b);
/* Whether the field was set and says something (`ephemeral` "false" does not). */
bool publication_has(const struct publication *p, enum publication_field field);
/* Whether a field of KIND_TEXT takes the text. */
bool publication_text_valid(enum publication_field field, struct slice text);

/* These fill the publication. On a refusal *why becomes the sentence, which begins with the field's
 * name; what is filled so far is the caller's to reset. ERR_INVALID, also for a field that was set
 * before. */

/* From text. FIELD_TOPIC and FIELD_TOPICS may be set again: each adds one. */
NODISCARD enum err publication_set(struct publication *p, enum publication_field field,
                                   struct slice text, struct buf *why);
/* NUL is dropped. ERR_RANGE: more than @max_bytes. */
NODISCARD enum err publication_set_data(struct publication *p, struct slice data,
                                        uint64_t max_bytes, struct buf *why);
NODISCARD enum err publication_set_match(struct publication *p, const cJSON *match,
                                         struct buf *why);
/* The rules about the whole: what is missing, what excludes what. */
NODISCARD enum err publication_check(const struct publication *p, struct buf *why);
