/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/issuer.h"

#include <stdlib.h>

#include "common/json_pointer.h"
#include "common/mem.h"

struct issuer {
    struct issuer_fields fields;
    uint32_t algs; /* the bits of fields.algs */
};

void issuer_fields_reset(struct issuer_fields *f)
{
    free(f->iss);
    free(f->aud);
    free(f->aud_claim);
    strings_reset(&f->algs);
    strings_reset(&f->namespaces);
    keys_free(f->keys);
    *f = (struct issuer_fields){0};
}

enum err issuer_new(struct issuer_fields *fields, struct issuer **out, struct buf *why)
{
    uint32_t algs;
    enum err e = alg_parse_set(&fields->algs, &algs, why);
    if (e != OK)
        return e;
    if (!fields->keys) {
        buf_puts(why, "there are no keys");
        return ERR_INVALID;
    }
    if (fields->aud_claim && !fields->aud) {
        buf_puts(why, "aud_claim says where to look, but there is no aud to look for");
        return ERR_INVALID;
    }
    if (fields->aud_claim && !json_pointer_is_valid(slice_of(fields->aud_claim))) {
        buf_puts(why, "aud_claim is no JSON Pointer; expected one such as /client_id");
        return ERR_INVALID;
    }
    struct issuer *i = mem_zero(1, sizeof(*i));
    i->fields = *fields;
    i->algs = algs;
    *fields = (struct issuer_fields){0};
    *out = i;
    return OK;
}

void issuer_free(struct issuer *i)
{
    if (!i)
        return;
    issuer_fields_reset(&i->fields);
    free(i);
}

const struct issuer_fields *issuer_fields(const struct issuer *i)
{
    return &i->fields;
}

bool issuer_speaks_for(const struct issuer *i, struct slice ns)
{
    return i->fields.any_namespace || strings_have(&i->fields.namespaces, ns);
}

/* RFC 9068, 2.1; media types have no case. */
static bool is_at_jwt(const char *typ)
{
    return slice_eq_nocase(slice_of(typ), "at+jwt") ||
           slice_eq_nocase(slice_of(typ), "application/at+jwt");
}

const char *issuer_verify(const struct issuer *i, const struct jws *jws,
                          const struct issuer_clock *clock, bool *is_signed)
{
    const struct issuer_fields *f = &i->fields;
    *is_signed = false;
    /* The keys were chosen for these algorithms; a token's alg is a stranger's word all the same.
     */
    if (!(i->algs & ALG_BIT(jws->alg)))
        return "its alg is none of the issuer's algs";
    const char *why = keys_verify(f->keys, jws);
    if (why)
        return why;
    *is_signed = true;
    if (f->at_jwt && !is_at_jwt(jws->typ))
        return "its typ is not at+jwt";
    struct claims_wanted wanted = {
        .iss = f->iss,
        .aud = f->aud,
        .aud_claim = f->aud_claim,
        .exp_optional = f->exp_optional,
        .now_s = clock->now_s,
        .leeway_s = clock->leeway_s,
        .max_life_s = clock->max_life_s,
    };
    return claims_check(jws->claims, &wanted);
}
