/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/auth_parts.h"

#include <string.h>

#include "common/names.h"
#include "relay/auth/claim_text.h"
#include "relay/kit/log.h"

/* --- whose it is ------------------------------------------------------------------------------ */

const struct auth_file_issuer *auth_find_issuer(const struct auth *a, const struct jws *jws)
{
    const char *iss = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(jws->claims, "iss"));
    for (size_t i = 0; i < a->file.issuer_count; i++) {
        const char *known = issuer_fields(a->file.issuers[i].issuer)->iss;
        if (!known || (iss && strcmp(iss, known) == 0))
            return &a->file.issuers[i];
    }
    return NULL;
}

const char *auth_check(const struct auth *a, const struct auth_file_issuer *issuer,
                       const struct jws *jws, uint64_t now_s, bool *is_signed)
{
    struct issuer_clock clock = {now_s, a->leeway_s, a->max_life_s};
    *is_signed = false;
    if (!issuer)
        return "its iss is that of no issuer here";
    return issuer_verify(issuer->issuer, jws, &clock, is_signed);
}

/* --- what it grants --------------------------------------------------------------------------- */

static char *claim_text(const cJSON *claims, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(claims, name);
    struct buf text = {0};
    bool has = value && claim_text_put(&text, value, CLAIM_WORDS) && text.len > 0;
    char *out = has ? buf_take(&text, NULL) : NULL;
    buf_reset(&text);
    return out;
}

static void tell_ns(struct draft *d, const char *ns, const struct place *from, const char *note)
{
    draft_tell(d, "namespace", slice_of(ns ? ns : "none"), from, note);
}

/* The issuer's word, where it may give it. */
static char *claimed_ns(const struct auth_file_issuer *issuer, const cJSON *claim, struct draft *d)
{
    struct place file = PLACE_FILE, at = place_member(&file, claim_form_ns_pointer(issuer->form));
    struct buf text = {0};
    const char *wrong = NULL;
    if (!claim_text_put(&text, claim, CLAIM_WORDS) || !text.ptr || !name_ns_valid(buf_slice(&text)))
        wrong = "it is not the name of a namespace";
    else if (!issuer_speaks_for(issuer->issuer, buf_slice(&text)))
        wrong = "its issuer may not speak for it";
    char *ns = wrong ? NULL : buf_take(&text, NULL);
    buf_reset(&text);
    tell_ns(d, ns, &at, wrong);
    return ns;
}

static char *choose_ns(const struct auth_file_issuer *issuer, const cJSON *claims, struct draft *d)
{
    const struct issuer_fields *fields = issuer_fields(issuer->issuer);
    const cJSON *claim = claim_form_ns(issuer->form, claims);
    if (claim)
        return claimed_ns(issuer, claim, d);
    if (fields->any_namespace || fields->namespaces.count != 1) {
        tell_ns(d, NULL, NULL, "the token names none, and its issuer may speak for more than one");
        return NULL;
    }
    tell_ns(d, fields->namespaces.items[0], NULL, "the only one of its issuer");
    return slice_dup(slice_of(fields->namespaces.items[0]));
}

/* The key is the one that has signed: a token that does not name it is revoked with it all the
 * same.
 */
static void fill_identity(const struct issuer_fields *issuer, const struct jws *jws,
                          struct grant_fields *f)
{
    f->issuer = claim_text(jws->claims, "iss");
    f->subject = claim_text(jws->claims, "sub");
    f->jti = claim_text(jws->claims, "jti");
    f->kid = slice_dup(slice_of(keys_kid(issuer->keys, jws)));
    if (claims_time(jws->claims, "iat", &f->iat_s))
        f->iat_s = 0;
    if (claims_time(jws->claims, "exp", &f->exp_s))
        f->exp_s = 0;
}

/* What routes may ask for later, when the claims are gone. */
static void fill_roles(const struct route_map *routes, const cJSON *claims, struct grant_fields *f)
{
    const struct strings *pointers = route_map_pointers(routes);
    for (size_t i = 0; i < pointers->count; i++) {
        const cJSON *value = claims_at(claims, pointers->items[i]);
        struct strings values = {0};
        if (value)
            claim_text_all(value, CLAIM_SCALARS, &values);
        for (size_t k = 0; k < values.count; k++)
            grant_claims_add(&f->roles, &f->role_count, slice_of(pointers->items[i]),
                             slice_of(values.items[k]));
        strings_reset(&values);
    }
}

/* Somebody of no namespace administrates all of them: only an issuer that may speak for all says
 * so, and not by a claim that names none. */
static void check_admin(const struct auth_file_issuer *issuer, const cJSON *claims, struct draft *d)
{
    bool is_of_all =
        issuer_fields(issuer->issuer)->any_namespace && !claim_form_ns(issuer->form, claims);
    if (!d->fields.admin || d->fields.ns || is_of_all)
        return;
    d->fields.admin = false;
    draft_tell(d, "nothing", SLICE_LIT("admin"), NULL,
               "of no namespace, which its issuer may not say");
}

void auth_fill_draft(const struct auth *a, const struct auth_file_issuer *issuer,
                     const struct jws *jws, struct draft *d)
{
    fill_identity(issuer_fields(issuer->issuer), jws, &d->fields);
    d->fields.ns = choose_ns(issuer, jws->claims, d);
    if (claim_form_is_used(issuer->form, jws->claims))
        claim_form_put(issuer->form, jws->claims, d);
    else
        rules_put(a->file.rules, jws->claims, d);
    check_admin(issuer, jws->claims, d);
    fill_roles(a->file.routes, jws->claims, &d->fields);
}

/* --- verifying -------------------------------------------------------------------------------- */

static void set_shown(char *out, size_t size, const char *text)
{
    struct buf b = {0};
    if (text)
        place_put_shown(&b, slice_of(text));
    size_t len = b.len < size ? b.len : size - 1;
    if (len)
        memcpy(out, b.ptr, len);
    out[len] = '\0';
    buf_reset(&b);
}

static const char *text_of(const cJSON *claims, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(claims, name));
}

static enum err refuse(struct auth_refusal *refusal, const struct jws *jws, const char *reason,
                       bool is_signed)
{
    refusal->is_signed = is_signed;
    refusal->reason = reason;
    set_shown(refusal->issuer, sizeof(refusal->issuer), text_of(jws->claims, "iss"));
    set_shown(refusal->kid, sizeof(refusal->kid), jws->kid);
    set_shown(refusal->subject, sizeof(refusal->subject), text_of(jws->claims, "sub"));
    return ERR_DENIED;
}

/* The operator should know of claims that grant nothing, but not once for every token. */
static void log_unsayable(const struct auth *a, const struct auth_file_issuer *issuer,
                          struct draft *d)
{
    atomic_bool *told = (atomic_bool *)&a->told[issuer - a->file.issuers];
    if (!d->unsayable.len || atomic_exchange_explicit(told, true, memory_order_relaxed))
        return;
    buf_putc(&d->unsayable, '\0');
    const char *iss = d->fields.issuer;
    log_put(LOG_WARN, "claims of an issuer's tokens grant nothing; told once", "issuer",
            iss ? iss : "", "first", d->unsayable.ptr, NULL);
}

static struct grant *make_grant(const struct auth *a, const struct auth_file_issuer *issuer,
                                const struct jws *jws)
{
    struct draft draft = {0};
    auth_fill_draft(a, issuer, jws, &draft);
    log_unsayable(a, issuer, &draft);
    struct grant *grant = grant_new(&draft.fields);
    draft_reset(&draft);
    return grant;
}

struct grant *auth_find_key(const struct auth *a, const uint8_t *sha256)
{
    size_t index;
    return static_keys_find(a->file.keys, sha256, &index);
}

enum err auth_verify(const struct auth *a, struct slice text, uint64_t now_s, struct grant **out,
                     struct auth_refusal *refusal)
{
    struct jws jws = {0};
    bool is_signed = false;
    const char *wrong = jws_parse(text, &jws);
    if (wrong)
        return refuse(refusal, &jws, wrong, false);
    const struct auth_file_issuer *issuer = auth_find_issuer(a, &jws);
    wrong = auth_check(a, issuer, &jws, now_s, &is_signed);
    enum err e = wrong ? refuse(refusal, &jws, wrong, is_signed) : OK;
    if (e == OK)
        *out = make_grant(a, issuer, &jws);
    jws_reset(&jws);
    return e;
}
