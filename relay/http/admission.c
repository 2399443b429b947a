/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/admission.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/bus/bus.h"
#include "relay/http/credential.h"
#include "relay/http/digest.h"
#include "relay/http/token_cache.h"
#include "relay/kit/log.h"

struct admission {
    struct node *node;
    unsigned worker;
    struct auth *auth;
    unsigned rules;
    struct token_cache *tokens;
    struct revoked *revoked;
    struct log_limit refused_limit;
};

struct admission *admission_new(struct node *node, unsigned worker)
{
    struct admission *a = mem_zero(1, sizeof(*a));
    a->node = node;
    a->worker = worker;
    a->tokens = token_cache_new();
    a->revoked = revoked_new();
    return a;
}

void admission_free(struct admission *a)
{
    if (!a)
        return;
    auth_unref(a->auth);
    token_cache_free(a->tokens);
    revoked_free(a->revoked);
    free(a);
}

void admission_set_auth(struct admission *a, struct auth *auth)
{
    auth_unref(a->auth);
    a->auth = auth;
    a->rules++;
    token_cache_clear(a->tokens); /* their keys or rules may be other ones now */
}

const struct auth *admission_auth(const struct admission *a)
{
    return a->auth;
}

unsigned admission_rules(const struct admission *a)
{
    return a->rules;
}

static void count(const struct admission *a, enum metric which)
{
    metrics_add(a->node->metrics[a->worker], which, 1);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static void log_refused(struct admission *a, const struct front_call *call,
                        const struct auth_refusal *refusal)
{
    uint64_t held;
    struct buf address = {0};
    if (!log_limit_pass(&a->refused_limit, clock_mono_us(), &held))
        return;
    front_put_address(call, &address);
    buf_putc(&address, '\0');
    log_put(LOG_WARN, "refused a token or key", "reason", refusal->reason, "iss", refusal->issuer,
            "kid", refusal->kid, "sub", refusal->subject, "address", address.ptr, "not_logged",
            log_u64(held), NULL);
    buf_reset(&address);
}

static bool is_over(const struct grant *grant, const struct config *config, uint64_t now_s)
{
    uint64_t exp_s = grant_fields(grant)->exp_s;
    return exp_s && now_s >= exp_s + config->auth_leeway_ms / 1000;
}

/* Of a token that was accepted once, and is no more. */
static const struct auth_refusal expired = {.is_signed = true, .reason = "it has expired (exp)"};

static void refuse(struct admission *a, const struct front_call *call,
                   const struct auth_refusal *why, struct admission_verdict *out)
{
    count(a, M_AUTH_INVALID);
    log_refused(a, call, why);
    out->outcome = ADMISSION_INVALID;
    /* To whoever only guesses nothing is told. */
    out->detail = why->is_signed ? why->reason : "the token or key is not valid";
}

static void accept(struct grant *grant, struct admission_verdict *out)
{
    out->outcome = ADMISSION_GRANTED;
    out->grant = grant;
}

/* @bearer: it may be a static key. Those are no cookies, and in no URL. */
static void judge_text(struct admission *a, struct front_call *call, const struct config *config,
                       struct slice text, bool bearer, struct admission_verdict *out)
{
    uint8_t sha256[TOKEN_CACHE_KEY];
    uint64_t now_s = clock_wall_us() / 1000000;
    struct auth_refusal why = {0};
    struct grant *key;
    digest_of(text, sha256);
    struct grant *grant = token_cache_find(a->tokens, sha256);
    if (grant && is_over(grant, config, now_s)) {
        token_cache_drop(a->tokens, sha256);
        refuse(a, call, &expired, out);
    } else if (grant) {
        count(a, M_TOKEN_CACHE_HIT);
        accept(grant_ref(grant), out);
    } else if (bearer && (key = auth_find_key(a->auth, sha256))) {
        accept(grant_ref(key), out);
    } else if (auth_verify(a->auth, text, now_s, &grant, &why)) {
        refuse(a, call, &why, out);
    } else {
        count(a, M_TOKEN_CACHE_MISS);
        token_cache_add(a->tokens, sha256, grant);
        accept(grant, out);
    }
}

void admission_judge_token(struct admission *a, struct front_call *call,
                           const struct config *config, struct slice token,
                           struct admission_verdict *out)
{
    *out = (struct admission_verdict){0};
    judge_text(a, call, config, token, false, out);
}

/* --- requests --------------------------------------------------------------------------------- */

static void add_cookie(void *arg, struct slice value)
{
    struct credential_sources *from = arg;
    if (from->cookie_count < CREDENTIAL_COOKIES_MAX)
        from->cookies[from->cookie_count] = value;
    from->cookie_count++;
}

static enum err find_credential(struct front_call *call, const struct config *config,
                                struct credential *out, const char **why)
{
    struct credential_sources from = {.authorization = front_header(call, "Authorization"),
                                      .view = front_view(call),
                                      .cookie_name = config->auth_cookie,
                                      .query = config->auth_query};
    if (config->auth_cookie[0])
        front_each_header(call, "Cookie", add_cookie, &from);
    return credential_find(&from, out, why);
}

void admission_refuse_nobody(struct admission *a, struct admission_verdict *out)
{
    count(a, M_AUTH_MISSING);
    out->outcome = ADMISSION_MISSING;
    out->detail = "this relay asks for a token: send it as Authorization: Bearer, or ask for a "
                  "ticket at POST /tickets and open /events?ticket=";
}

static void judge_nobody(struct admission *a, struct admission_verdict *out)
{
    struct grant *anonymous = auth_anonymous(a->auth);
    out->is_nobody = true;
    if (anonymous)
        accept(grant_ref(anonymous), out);
    else
        admission_refuse_nobody(a, out);
}

void admission_judge(struct admission *a, struct front_call *call, const struct config *config,
                     struct admission_verdict *out)
{
    struct credential credential;
    const char *why;
    *out = (struct admission_verdict){0};
    enum err e = find_credential(call, config, &credential, &why);
    if (e == ERR_RANGE) {
        out->outcome = ADMISSION_MALFORMED;
        out->detail = why;
    } else if (e) {
        refuse(a, call, &(struct auth_refusal){.is_signed = true, .reason = why}, out);
    } else if (credential.kind == CREDENTIAL_NONE) {
        judge_nobody(a, out);
    } else if (credential.kind == CREDENTIAL_TICKET) {
        out->outcome = ADMISSION_TICKET;
        out->ticket = credential.text;
    } else {
        out->by_cookie = credential.kind == CREDENTIAL_COOKIE;
        judge_text(a, call, config, credential.text, credential.kind == CREDENTIAL_BEARER, out);
    }
}

/* --- revocations ------------------------------------------------------------------------------ */

static enum err check_known(struct admission *a, struct slice ns)
{
    if (revoked_is_known(a->revoked, ns))
        return OK;
    struct note_trust *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_TRUST;
    note->ns = slice_dup(ns);
    inbox_push(bus_inbox(a->node->bus), &note->note.item);
    return ERR_AGAIN;
}

/* Keys of the auth file and anonymous grants end when the file says so. */
static bool is_revocable(const struct grant_fields *f)
{
    return f->ns && (f->subject || f->jti || f->kid);
}

enum err admission_check_revoked(struct admission *a, const struct grant *grant)
{
    const struct grant_fields *f = grant_fields(grant);
    if (!is_revocable(f))
        return OK;
    if (check_known(a, slice_of(f->ns)))
        return ERR_AGAIN;
    return revoked_has(a->revoked, grant) ? ERR_DENIED : OK;
}

const struct revoked *admission_revoked(const struct admission *a)
{
    return a->revoked;
}

void admission_take_revoked(struct admission *a, const struct note_revoked *note)
{
    struct slice ns = slice_of(note->ns);
    bool whole = true;
    for (size_t i = 0; i < note->count; i++)
        whole &= revoked_add(a->revoked, ns, &note->entries[i]) == OK;
    if (!whole)
        log_put(LOG_ERROR, "more was revoked than this node can remember; nobody comes in there",
                "ns", note->ns, NULL);
    if (note->loaded || note->forgotten || !whole)
        revoked_set_known(a->revoked, ns, note->loaded && whole);
}

void admission_tick(struct admission *a)
{
    revoked_expire(a->revoked, clock_wall_us() / 1000000);
}
