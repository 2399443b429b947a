/* SPDX-License-Identifier: Apache-2.0 */
/* What a request presents to say who it is from: a Bearer token or key (RFC 6750), a ticket, a
 * cookie, or a token in the query. The first of these that is there counts, and nothing else is
 * looked at. No I/O, no allocation. docs/protocol.md, 14.2. */
#pragma once
#include "relay/http/request.h"

enum { CREDENTIAL_COOKIES_MAX = 8 }; /* Cookie headers; more of them than that are refused */

struct credential_sources {
    struct slice authorization;                   /* SLICE_NONE: no such header */
    struct slice cookies[CREDENTIAL_COOKIES_MAX]; /* Cookie headers */
    size_t cookie_count;                          /* may be above: too many */
    const struct request_view *view;
    const char *cookie_name; /* "": cookies do not count */
    bool query;              /* access_token= counts */
};

enum credential_kind {
    CREDENTIAL_NONE,
    CREDENTIAL_BEARER,
    CREDENTIAL_TICKET,
    CREDENTIAL_COOKIE,
    CREDENTIAL_QUERY
};

struct credential {
    enum credential_kind kind;
    struct slice text; /* of the characters that a credential has (RFC 9110, 11.2: token68, and ~),
                          at least one */
};

/* ERR_RANGE: something stands twice, a 400; ERR_INVALID: what counts has not its form, a 401. *why
 * is a static sentence then. */
NODISCARD enum err credential_find(const struct credential_sources *from, struct credential *out,
                                   const char **why);

/* A ticket is "<namespace>~<random>". ERR_INVALID: that is none. */
NODISCARD enum err credential_ticket_ns(struct slice ticket, struct slice *ns);
