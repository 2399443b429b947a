/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/auth_parts.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <time.h>

#include "relay/auth/claim_text.h"

static void put_line(struct buf *out, const char *label, const char *text)
{
    buf_printf(out, "%-11s ", label);
    place_put_shown(out, slice_of(text));
    buf_putc(out, '\n');
}

static void put_claim(struct buf *out, const char *label, const cJSON *claims, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(claims, name);
    struct buf text = {0};
    if (value && claim_text_put(&text, value, CLAIM_WORDS)) {
        buf_putc(&text, '\0');
        put_line(out, label, text.ptr);
    }
    buf_reset(&text);
}

static void put_time(struct buf *out, const char *label, const cJSON *claims, const char *name)
{
    char text[40] = "";
    struct tm parts;
    uint64_t at_s;
    if (claims_time(claims, name, &at_s))
        return;
    time_t at = (time_t)at_s;
    if (gmtime_r(&at, &parts) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts))
        put_line(out, label, text);
}

static void put_verdict(struct buf *out, const char *wrong, bool is_signed)
{
    if (!wrong)
        buf_puts(out, "accepted: its signature and its claims are right\n");
    else if (is_signed)
        buf_printf(out, "refused: its signature is right, but %s\n", wrong);
    else
        buf_printf(out, "refused: %s\n", wrong);
}

/* Who it says it is: true only where it is signed. */
static void put_identity(struct buf *out, const struct auth *a,
                         const struct auth_file_issuer *issuer, const struct jws *jws)
{
    put_claim(out, "issuer", jws->claims, "iss");
    if (issuer && issuer_fields(issuer->issuer)->iss)
        buf_printf(out, "%-11s issuers[%zu]\n", "known as", (size_t)(issuer - a->file.issuers));
    put_line(out, "algorithm", alg_row(jws->alg)->name);
    if (jws->kid)
        put_line(out, "key id", jws->kid);
    put_claim(out, "subject", jws->claims, "sub");
    put_claim(out, "token id", jws->claims, "jti");
    put_time(out, "issued", jws->claims, "iat");
    put_time(out, "expires", jws->claims, "exp");
}

static void put_grant(struct buf *out, const struct auth *a, const struct auth_file_issuer *issuer,
                      const struct jws *jws)
{
    struct draft draft = {.trail = out};
    bool says = claim_form_is_used(issuer->form, jws->claims);
    auth_fill_draft(a, issuer, jws, &draft);
    const struct grant_fields *f = &draft.fields;
    if (says && rules_count(a->file.rules))
        put_line(out, "rules", "not asked: the token says itself what it grants");
    if (!f->subscribe.count && !f->publish.count && !f->admin)
        put_line(out, "grants", "nothing");
    struct grant *grant = grant_new(&draft.fields);
    route_map_explain(a->file.routes, grant, out);
    grant_unref(grant);
    draft_reset(&draft);
}

static bool explain_token(const struct auth *a, struct slice text, uint64_t now_s, struct buf *out)
{
    struct jws jws = {0};
    bool is_signed = false;
    const char *wrong = jws_parse(text, &jws);
    if (wrong) {
        put_verdict(out, wrong, false);
        return false;
    }
    const struct auth_file_issuer *issuer = auth_find_issuer(a, &jws);
    wrong = auth_check(a, issuer, &jws, now_s, &is_signed);
    put_verdict(out, wrong, is_signed);
    if (!is_signed)
        buf_puts(out, "The following is what it says, which anybody can have written:\n");
    put_identity(out, a, issuer, &jws);
    if (is_signed)
        put_grant(out, a, issuer, &jws);
    jws_reset(&jws);
    return !wrong;
}

bool auth_explain(const struct auth *a, struct slice text, uint64_t now_s, struct buf *out)
{
    uint8_t sha256[EVP_MAX_MD_SIZE];
    size_t index = 0;
    if (EVP_Digest(text.ptr, text.len, sha256, NULL, EVP_sha256(), NULL) != 1)
        return false;
    struct grant *key = static_keys_find(a->file.keys, sha256, &index);
    if (!key)
        return explain_token(a, text, now_s, out);
    buf_puts(out, "accepted: it is a static key\n");
    static_keys_explain(a->file.keys, index, out);
    route_map_explain(a->file.routes, key, out);
    return true;
}
