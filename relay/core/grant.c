/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/grant.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/core/pattern.h"

struct grant {
    atomic_uint refs;
    struct grant_fields fields;
};

/* --- what it is made of ----------------------------------------------------------------------- */

static void claims_reset(struct grant_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(claims[i].name);
        strings_reset(&claims[i].values);
    }
    free(claims);
}

void grant_fields_reset(struct grant_fields *f)
{
    free(f->ns);
    free(f->issuer);
    free(f->subject);
    free(f->jti);
    free(f->kid);
    strings_reset(&f->subscribe);
    strings_reset(&f->publish);
    strings_reset(&f->topics);
    claims_reset(f->match, f->match_count);
    claims_reset(f->roles, f->role_count);
    *f = (struct grant_fields){0};
}

static char *copy_text(const char *text)
{
    return slice_dup(slice_of(text));
}

static void copy_strings(struct strings *to, const struct strings *from)
{
    for (size_t i = 0; i < from->count; i++)
        strings_add(to, slice_of(from->items[i]));
}

static void copy_claims(struct grant_claim **to, size_t *count, const struct grant_claim *from,
                        size_t from_count)
{
    for (size_t i = 0; i < from_count; i++)
        for (size_t v = 0; v < from[i].values.count; v++)
            grant_claims_add(to, count, slice_of(from[i].name), slice_of(from[i].values.items[v]));
}

void grant_fields_copy(struct grant_fields *to, const struct grant_fields *from)
{
    to->ns = copy_text(from->ns);
    to->issuer = copy_text(from->issuer);
    to->subject = copy_text(from->subject);
    to->jti = copy_text(from->jti);
    to->kid = copy_text(from->kid);
    to->iat_s = from->iat_s;
    to->exp_s = from->exp_s;
    copy_strings(&to->subscribe, &from->subscribe);
    copy_strings(&to->publish, &from->publish);
    copy_strings(&to->topics, &from->topics);
    copy_claims(&to->match, &to->match_count, from->match, from->match_count);
    copy_claims(&to->roles, &to->role_count, from->roles, from->role_count);
    to->admin = from->admin;
    to->from_ticket = from->from_ticket;
}

static struct grant_claim *find_claim(struct grant_claim *claims, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_is(name, claims[i].name))
            return &claims[i];
    return NULL;
}

void grant_claims_add(struct grant_claim **claims, size_t *count, struct slice name,
                      struct slice value)
{
    struct grant_claim *claim = find_claim(*claims, *count, name);
    if (!claim) {
        *claims = mem_resize(*claims, (*count + 1) * sizeof(**claims));
        claim = &(*claims)[(*count)++];
        *claim = (struct grant_claim){.name = slice_dup(name)};
    }
    if (claim->values.count < GRANT_VALUES_MAX && !strings_have(&claim->values, value))
        strings_add(&claim->values, value);
}

/* --- life ------------------------------------------------------------------------------------- */

struct grant *grant_new(struct grant_fields *fields)
{
    struct grant *g = mem_zero(1, sizeof(*g));
    atomic_init(&g->refs, 1);
    g->fields = *fields;
    *fields = (struct grant_fields){0};
    return g;
}

struct grant *grant_ref(struct grant *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void grant_unref(struct grant *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    grant_fields_reset(&g->fields);
    free(g);
}

const struct grant_fields *grant_fields(const struct grant *g)
{
    return &g->fields;
}

/* --- what it allows --------------------------------------------------------------------------- */

static bool is_within(const struct strings *granted, struct slice requested)
{
    for (size_t i = 0; i < granted->count; i++)
        if (pattern_includes(slice_of(granted->items[i]), requested))
            return true;
    return false;
}

bool grant_may_subscribe(const struct grant *g, struct slice topic)
{
    return is_within(&g->fields.subscribe, topic);
}

bool grant_may_publish(const struct grant *g, struct slice topic)
{
    return !g->fields.from_ticket && is_within(&g->fields.publish, topic);
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool grant_is_same_subject(const struct grant *a, const struct grant *b)
{
    const struct grant_fields *x = &a->fields, *y = &b->fields;
    return x->subject && is_same(x->subject, y->subject) && is_same(x->issuer, y->issuer) &&
           is_same(x->ns, y->ns);
}
