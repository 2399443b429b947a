/* SPDX-License-Identifier: Apache-2.0 */
/* What request.c (streams), request_publish.c and request_json.c share. Nobody else includes this.
 */
#pragma once
#include "common/json.h"
#include "relay/core/publication_fields.h"
#include "relay/http/request.h"

#define REQUEST_TYPES_MAX 64    /* event= filters of a stream */
#define REQUEST_BATCH_MAX 10000 /* events in one publish */

/* request_problem.c. Starts *problem over with @status and the sentence; always ERR_INVALID, for
 * `return refuse(…)`.
 */
enum err request_refuse(struct problem *problem, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Goes on with the sentence: a stranger's text, quoted, not too long. */
void request_show(struct problem *problem, struct slice text);
NODISCARD enum err request_parse_ns(const struct request_view *view, char **out,
                                    struct problem *problem);

/* --- request_rights.c: of what is well formed, whether view->grant allows it: a 403 --- */

/* Whether @ns is the grant's. */
NODISCARD enum err request_check_ns(const struct request_view *view, const char *ns,
                                    struct problem *problem);
NODISCARD enum err request_check_stream(const struct request_view *view,
                                        const struct subscription_request *r,
                                        struct problem *problem);
NODISCARD enum err request_check_publish(const struct request_view *view,
                                         const struct publication_request *r,
                                         struct problem *problem);

/* --- publishing (request_publish.c) --- */

/* Of the parameters of a Content-Type. Only UTF-8 travels in event streams, and recoding is the
 * publisher's business. */
bool request_charset_accepted(struct slice parameters);
/* Parameters of a query that are none of the event's: where it goes, and who sends it, which has
 * been judged before (docs/protocol.md, 14.2). */
bool request_is_own(const struct request_view *view, struct slice name);
/* The topic of a path, @raw as it came, becomes @p's. */
NODISCARD enum err request_parse_topic(struct slice raw, struct publication *p,
                                       struct problem *problem);

/* --- one event while it is filled (request_draft.c) --- */

struct request_draft {
    const struct config *config;
    struct problem *problem; /* its detail is where the publication says what is wrong */
    struct publication *event;
    char place[24]; /* "[3]." in an array, else "" */
};

/* The end of a publication_…() call: its refusal becomes the problem's, with the place in front. */
NODISCARD enum err request_draft_end(struct request_draft *d, enum err e);
/* Refuses the field: "[3].retry: expected …". */
NODISCARD enum err request_draft_refuse(struct request_draft *d, enum publication_field field,
                                        const char *expected);
/* The field from text, and `data` within the configured bound. */
NODISCARD enum err request_draft_set(struct request_draft *d, enum publication_field field,
                                     struct slice text);

/* The event as a whole, once all of its fields are set. */
NODISCARD enum err request_draft_check(struct request_draft *d);

/* request_json.c: the body is an object or an array of objects. */
NODISCARD enum err request_parse_json(const struct request_view *view, const struct config *config,
                                      struct publication_request *out, struct problem *problem);
