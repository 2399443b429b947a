/* SPDX-License-Identifier: Apache-2.0 */
/* The step between a request and its act: who asks, and may he come in at all. What exactly he may
 * is the act's own question. docs/protocol.md, 14.1. */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/http/credential.h"
#include "relay/http/digest.h"
#include "relay/http/routes_parts.h"

enum { TOKEN_BODY_MAX = 16 << 10 };

static bool needs_credentials(const struct routes *r, const struct routes_visit *v)
{
    if (!admission_auth(r->admission) || v->hit.is_public)
        return false;
    return v->path->needs != NEEDS_NOTHING &&
           (v->path->needs != NEEDS_METRICS || r->config->auth_metrics);
}

/* Cookies go along whoever's page asks. docs/security.md, "Pages of strangers". */
static bool cookie_is_misused(const struct routes *r, const struct routes_visit *v)
{
    if (v->path->posts && !front_header(v->call, "Origin").ptr)
        return true;
    return !routes_origin_is_ours(r, v->call);
}

#define FOREIGN_PAGE                                                                               \
    "the credentials are a cookie, and the request is not known to come from a page of this "      \
    "relay's own origin or one of cors.origins"

bool routes_pass_credentials(struct routes *r, const struct routes_visit *v,
                             const struct admission_verdict *verdict)
{
    if (verdict->is_nobody && v->path->issues) {
        struct admission_verdict missing = {0};
        admission_refuse_nobody(r->admission, &missing);
        routes_refuse_verdict(r, v, &missing);
        return false;
    }
    if (verdict->outcome == ADMISSION_TICKET && !v->path->streams && !v->path->by_ticket) {
        routes_refuse(r, v, 401, SLICE_LIT("a ticket opens streams, and nothing else"));
        return false;
    }
    if (verdict->outcome != ADMISSION_GRANTED && verdict->outcome != ADMISSION_TICKET) {
        routes_refuse_verdict(r, v, verdict);
        return false;
    }
    if (verdict->by_cookie && cookie_is_misused(r, v)) {
        routes_refuse(r, v, 403, SLICE_LIT(FOREIGN_PAGE));
        return false;
    }
    return true;
}

static bool pass_needs(struct routes *r, const struct routes_visit *v, const struct grant *grant)
{
    if (v->path->needs == NEEDS_ADMIN && !grant_fields(grant)->admin) {
        routes_refuse(r, v, 403, SLICE_LIT("this needs credentials that grant admin"));
        return false;
    }
    if (v->path->publishes && !grant_fields(grant)->publish.count) {
        routes_refuse(r, v, 403, SLICE_LIT("your credentials do not grant to publish anything"));
        return false;
    }
    if (v->hit.route && !route_hit_allows(&v->hit, grant)) {
        routes_refuse(r, v, 403, SLICE_LIT("your credentials lack what this path requires"));
        return false;
    }
    return true;
}

static void let_in(struct routes *r, struct routes_visit *v)
{
    metrics_add(r->node->metrics[r->worker], M_AUTH_GRANTED, 1);
    v->path->serve(r, v);
}

/* --- tickets ---------------------------------------------------------------------------------- */

static void refuse_ticket(struct routes *r, const struct routes_visit *v, struct slice why)
{
    metrics_add(r->node->metrics[r->worker], M_TICKETS_REFUSED, 1);
    routes_refuse(r, v, 401, why);
}

/* Backends write tickets, too: whatever else such a grant says, it is of the ticket's namespace,
 * and only reads. */
static enum err parse_grant(struct slice json, const char *ns, struct grant **out)
{
    struct grant *written;
    struct grant_fields f = {0};
    if (grant_parse_json(json, &written))
        return ERR_INVALID;
    grant_fields_copy(&f, grant_fields(written));
    grant_unref(written);
    if (!f.ns || strcmp(f.ns, ns) != 0) {
        grant_fields_reset(&f);
        return ERR_INVALID;
    }
    f.admin = false;
    f.from_ticket = true;
    strings_reset(&f.publish);
    *out = grant_new(&f);
    return OK;
}

/* The store has said what a ticket grants. */
static void on_ticket(struct routes *r, struct routes_visit *v, struct note_call *answer)
{
    const struct strings *said = &answer->answer;
    if (routes_visit_is_outdated(r, v)) {
        routes_visit_anew(r, v);
        return;
    }
    if (answer->error || said->count < 2 || strcmp(said->items[0], "ok") != 0 ||
        parse_grant(slice_of(said->items[1]), answer->ns, &v->grant)) {
        refuse_ticket(r, v, SLICE_LIT("the ticket is not valid, has been used, or is too old"));
        return;
    }
    enum err revoked = admission_check_revoked(r->admission, v->grant);
    if (revoked == ERR_AGAIN)
        routes_wait_trust(r, v);
    else if (revoked)
        refuse_ticket(r, v, SLICE_LIT("revoked"));
    else if (pass_needs(r, v, v->grant))
        let_in(r, v);
}

static void take_hash(struct routes_visit *v, struct slice ticket)
{
    struct buf hash = {0};
    digest_put_hex(&hash, ticket);
    memcpy(v->ticket, hash.ptr, ROUTES_TICKET_HASH);
    buf_reset(&hash);
}

/* Looks, and takes nothing: what is refused later spends no ticket. The namespace is a stranger's
 * word until the store has said that there is such a ticket: nothing is kept of it before. */
static void look_at_ticket(struct routes *r, struct routes_visit *v, struct slice ticket)
{
    struct slice ns;
    if (credential_ticket_ns(ticket, &ns)) {
        refuse_ticket(r, v, SLICE_LIT("the ticket is not valid, has been used, or is too old"));
        return;
    }
    take_hash(v, ticket);
    fanout_make_id(r->fanout, &v->id);
    struct strings args = {0};
    uint64_t cursor;
    char *copy = slice_dup(ns); /* the visit, and with it the request, is handed over */
    routes_put_ticket_args(r, v, &args);
    routes_arg_add_u64(&args, "cursor", request_cursor(front_view(v->call), &cursor));
    routes_arg_add_u64(&args, "peek", 1);
    routes_wait_store(r, v, "sse_ticket_take", copy, &args, on_ticket);
    free(copy);
}

/* --- everybody -------------------------------------------------------------------------------- */

static void enter(struct routes *r, struct routes_visit *v)
{
    enum err revoked = admission_check_revoked(r->admission, v->grant);
    if (revoked == ERR_AGAIN)
        routes_wait_trust(r, v);
    else if (revoked)
        routes_refuse(r, v, 401, SLICE_LIT("revoked"));
    else if (pass_needs(r, v, v->grant))
        let_in(r, v);
}

void routes_admit(struct routes *r, struct routes_visit *v)
{
    struct admission_verdict verdict;
    if (!needs_credentials(r, v) || v->path->needs == NEEDS_TOKEN) {
        if (v->hit.is_public) /* whoever comes, whatever he shows */
            v->grant = grant_ref(auth_anonymous(admission_auth(r->admission)));
        v->path->serve(r, v);
        routes_visit_reset(v);
        return;
    }
    admission_judge(r->admission, v->call, r->config, &verdict);
    if (routes_pass_credentials(r, v, &verdict)) {
        v->grant = verdict.grant;
        if (verdict.outcome == ADMISSION_TICKET && v->path->by_ticket) {
            take_hash(v, verdict.ticket); /* the stream's node knows */
            let_in(r, v);
        } else if (verdict.outcome == ADMISSION_TICKET) {
            look_at_ticket(r, v, verdict.ticket);
        } else {
            enter(r, v);
        }
    } else {
        grant_unref(verdict.grant);
    }
    routes_visit_reset(v);
}

/* A token may come in the body, which is then no larger than it takes. */
static bool admit_body(struct routes *r, const struct routes_visit *v)
{
    if (front_body_length(v->call) <= TOKEN_BODY_MAX)
        return true;
    routes_refuse(r, v, 413, SLICE_LIT("body: a token takes at most 16 KB, and no chunks"));
    return false;
}

bool routes_admit_header(struct routes *r, const struct routes_visit *v)
{
    struct admission_verdict verdict;
    if (!(v->path->posts || v->path->patches) || !needs_credentials(r, v))
        return true;
    if (v->path->needs == NEEDS_TOKEN)
        return admit_body(r, v);
    admission_judge(r->admission, v->call, r->config, &verdict);
    bool passed = routes_pass_credentials(r, v, &verdict) && pass_needs(r, v, verdict.grant);
    grant_unref(verdict.grant);
    return passed;
}
