/* SPDX-License-Identifier: Apache-2.0 */
/* Who somebody is and may: what a token, a key, a ticket or nothing at all comes to. Immutable once
 * made, shared by reference count between all connections of one token. No I/O; any thread may
 * read. Without authentication there are none: NULL is "everything", but for events with `match`.
 * docs/protocol.md, 14. */
#pragma once
#include "common/event.h"
#include "common/strings.h"

enum { GRANT_VALUES_MAX = 64 }; /* of one claim in match, and of a list that fills a pattern */

/* A name and its values. In `match`: an event that asks for @name is for whoever has one of them.
 */
struct grant_claim {
    char *name;
    struct strings values;
};

/* What a grant is made of. Owned texts; NULL or 0: there is none. */
struct grant_fields {
    char *ns; /* NULL: no namespace, so neither streams nor events */
    char *issuer, *subject;
    char *jti, *kid;                   /* of the token: what revocations name */
    uint64_t iat_s, exp_s;             /* Unix time in seconds */
    struct strings subscribe, publish; /* patterns, valid */
    struct strings topics;             /* what a request without any asks for; valid */
    struct grant_claim *match;
    size_t match_count;
    struct grant_claim *roles; /* what the routes' `require` look at: by JSON Pointer */
    size_t role_count;
    bool admin;
    bool from_ticket; /* only reads */
};

void grant_fields_reset(struct grant_fields *f);
void grant_fields_copy(struct grant_fields *to, const struct grant_fields *from); /* @to: zeros */
void grant_claims_reset(struct grant_claim **claims, size_t *count);
/* Adds a value (once) to the claim @name of *claims, up to GRANT_VALUES_MAX; a new claim if there
 * is none of that name. */
void grant_claims_add(struct grant_claim **claims, size_t *count, struct slice name,
                      struct slice value);

struct grant;

/* Takes over @fields' contents (and leaves it empty). One reference for the caller. */
struct grant *grant_new(struct grant_fields *fields);
struct grant *grant_ref(struct grant *g);
void grant_unref(struct grant *g); /* NULL is fine */
const struct grant_fields *grant_fields(const struct grant *g);

/* Whether @topic, a topic or a pattern, lies within one granted pattern. */
bool grant_may_subscribe(const struct grant *g, struct slice topic);
bool grant_may_publish(const struct grant *g, struct slice topic);
/* Whether the event is for it: it has every pair of the event's match. NULL: it has none at all, so
 * only events without. */
bool grant_matches(const struct grant *g, const struct event *ev);
/* Issuer, subject and namespace are the same, and there is a subject. */
bool grant_is_same_subject(const struct grant *a, const struct grant *b);

/* Both are of the same namespace, and of requests that said nothing of who they are. */
bool grant_are_both_nobody(const struct grant *a, const struct grant *b);

/* For tickets and for other nodes, who trust what comes through Redis. */
void grant_put_json(struct buf *b, const struct grant *g);
NODISCARD enum err grant_parse_json(struct slice text, struct grant **out); /* ERR_INVALID */
