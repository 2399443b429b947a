/* What request.c (streams), request_publish.c and request_json.c share. Nobody else includes this.
 */
#pragma once
#include "common/json.h"
#include "relay/http/request.h"

#define REQUEST_TYPE_MAX 256       /* bytes of an event type */
#define REQUEST_TYPES_MAX 64       /* event= filters of a stream */
#define REQUEST_PUBLISH_TOPICS 64  /* topics of one event */
#define REQUEST_BATCH_MAX 10000    /* events in one publish */
#define REQUEST_RETRY_MAX 86400000 /* ms */
#define REQUEST_MATCH_BYTES 4096   /* of match, as JSON */

/* Starts *problem over with @status and the sentence; always ERR_INVALID, for `return refuse(…)`.
 */
enum err request_refuse(struct problem *problem, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Goes on with the sentence: a stranger's text, quoted, not too long. */
void request_show(struct problem *problem, struct slice text);
NODISCARD enum err request_parse_ns(const struct request_view *view, char **out,
                                    struct problem *problem);

/* --- publishing: one event while it is put together (request_draft.c) --- */

enum request_field {
    FIELD_TOPIC,
    FIELD_TOPICS,
    FIELD_DATA, /* in the order in which they leave as arguments */
    FIELD_EVENT,
    FIELD_RETRY,
    FIELD_EPHEMERAL,
    FIELD_ONCE,
    FIELD_PRIORITY,
    FIELD_KEY,
    FIELD_TTL,
    FIELD_MATCH,
    FIELD_COUNT,
};

struct request_draft {
    const struct config *config;
    struct problem *problem;
    char place[24]; /* "[3]." in an array, else "" */
    unsigned given; /* bit for each field */
    struct strings topics;
    char *texts[FIELD_COUNT]; /* checked and normalised; NULL: absent */
};

/* FIELD_COUNT: no such field. */
enum request_field request_field_find(struct slice name);
const char *request_field_name(enum request_field field);
/* Notes that the field was given; ERR_INVALID when it was before (@repeatable: fine). */
NODISCARD enum err request_draft_give(struct request_draft *d, enum request_field field,
                                      bool repeatable);
NODISCARD enum err request_draft_topic(struct request_draft *d, enum request_field field,
                                       struct slice topic);
NODISCARD enum err request_draft_data(struct request_draft *d, struct slice data);
/* Any other field, from text. */
NODISCARD enum err request_draft_set(struct request_draft *d, enum request_field field,
                                     struct slice text);
NODISCARD enum err request_draft_match(struct request_draft *d, const cJSON *match);
/* Checks the whole and moves it to *out. The draft is empty afterwards, whatever the result. */
NODISCARD enum err request_draft_finish(struct request_draft *d, struct publication *out);
void request_draft_reset(struct request_draft *d);

/* request_json.c: the body is an object or an array of objects. */
NODISCARD enum err request_parse_json(const struct request_view *view, const struct config *config,
                                      struct publication_request *out, struct problem *problem);
