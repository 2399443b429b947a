/* SPDX-License-Identifier: Apache-2.0 */
/* Who may come in: the credentials of a request, the operator's keys and rules, and what has been
 * revoked. One worker's. What it knows it says at once; what it must ask the bus for it says later,
 * and routes_wait.c has the request wait. docs/protocol.md, 14. */
#pragma once
#include "relay/auth/auth.h"
#include "relay/core/node.h"
#include "relay/core/note.h"
#include "relay/http/front.h"

struct admission;

struct admission *admission_new(struct node *node, unsigned worker);
void admission_free(struct admission *a);
/* Takes the reference over. NULL: everybody may everything. */
void admission_set_auth(struct admission *a, struct auth *auth);
const struct auth *admission_auth(const struct admission *a); /* borrowed */
unsigned admission_rules(const struct admission *a);          /* another number for each auth */

enum admission_outcome {
    ADMISSION_GRANTED,
    ADMISSION_TICKET,    /* which the store must be asked about */
    ADMISSION_MALFORMED, /* 400 */
    ADMISSION_MISSING,   /* 401: nothing was presented, and anonymous requests get nothing */
    ADMISSION_INVALID,   /* 401 */
};

struct admission_verdict {
    enum admission_outcome outcome;
    struct grant *grant; /* GRANTED: a reference, for the caller */
    struct slice ticket; /* TICKET: of the request */
    bool is_nobody;      /* nothing was presented */
    bool by_cookie;      /* which a browser sends whoever's page asks */
    const char *detail;  /* static; of what is refused */
};

/* By the request's header. Allocates nothing where the token is known; counts and logs what is
 * refused. */
void admission_judge(struct admission *a, struct front_call *call, const struct config *config,
                     struct admission_verdict *out);
/* Nothing was presented, and what anonymous requests get is not enough here. */
void admission_refuse_nobody(struct admission *a, struct admission_verdict *out);
/* The same for a token that the body has brought. */
void admission_judge_token(struct admission *a, struct front_call *call,
                           const struct config *config, struct slice token,
                           struct admission_verdict *out);

/* Whether @grant was revoked: ERR_DENIED. ERR_AGAIN: nobody knows yet; the bus has been asked, and
 * admission_take_revoked() is when to ask again. */
NODISCARD enum err admission_check_revoked(struct admission *a, const struct grant *grant);
const struct revoked *admission_revoked(const struct admission *a);                /* borrowed */
void admission_take_revoked(struct admission *a, const struct note_revoked *note); /* borrowed */
/* Now and then: forgets what is over. */
void admission_tick(struct admission *a);
