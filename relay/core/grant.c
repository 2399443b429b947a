/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/grant.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/match.h"
#include "common/mem.h"
#include "relay/core/pattern.h"

struct grant {
    atomic_uint refs;
    struct grant_fields fields;
    void *memory[]; /* the claims of the fields, then their lists, then their texts */
};

/* --- what it is made of ----------------------------------------------------------------------- */

static void claims_free(struct grant_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(claims[i].name);
        strings_reset(&claims[i].values);
    }
    free(claims);
}

void grant_claims_reset(struct grant_claim **claims, size_t *count)
{
    claims_free(*claims, *count);
    *claims = NULL;
    *count = 0;
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
    claims_free(f->match, f->match_count);
    claims_free(f->roles, f->role_count);
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

/* --- in one piece -----------------------------------------------------------------------------
 * There may be a grant for each client, and in pieces its texts would cost twice their size. */

struct room {
    size_t claims, slots, bytes;
};

static void add_text(struct room *room, const char *text)
{
    room->bytes += text ? strlen(text) + 1 : 0;
}

static void add_strings(struct room *room, const struct strings *strings)
{
    room->slots += strings->count;
    for (size_t i = 0; i < strings->count; i++)
        add_text(room, strings->items[i]);
}

static void add_claims(struct room *room, const struct grant_claim *claims, size_t count)
{
    room->claims += count;
    for (size_t i = 0; i < count; i++) {
        add_text(room, claims[i].name);
        add_strings(room, &claims[i].values);
    }
}

static struct room room_for(const struct grant_fields *f)
{
    struct room room = {0};
    const char *const texts[] = {f->ns, f->issuer, f->subject, f->jti, f->kid};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        add_text(&room, texts[i]);
    add_strings(&room, &f->subscribe);
    add_strings(&room, &f->publish);
    add_strings(&room, &f->topics);
    add_claims(&room, f->match, f->match_count);
    add_claims(&room, f->roles, f->role_count);
    return room;
}

/* What of the room is left. */
struct packer {
    struct grant_claim *claims;
    char **slots;
    char *bytes;
};

static char *pack_text(struct packer *p, const char *text)
{
    if (!text)
        return NULL;
    char *copy = p->bytes;
    p->bytes = stpcpy(copy, text) + 1;
    return copy;
}

static struct strings pack_strings(struct packer *p, const struct strings *from)
{
    struct strings copy = {p->slots, from->count};
    p->slots += from->count;
    for (size_t i = 0; i < from->count; i++)
        copy.items[i] = pack_text(p, from->items[i]);
    return copy;
}

static struct grant_claim *pack_claims(struct packer *p, const struct grant_claim *from,
                                       size_t count)
{
    struct grant_claim *copy = p->claims;
    p->claims += count;
    for (size_t i = 0; i < count; i++)
        copy[i] =
            (struct grant_claim){pack_text(p, from[i].name), pack_strings(p, &from[i].values)};
    return copy;
}

static struct grant_fields pack(struct packer *p, const struct grant_fields *from)
{
    struct grant_fields copy = *from;
    copy.ns = pack_text(p, from->ns);
    copy.issuer = pack_text(p, from->issuer);
    copy.subject = pack_text(p, from->subject);
    copy.jti = pack_text(p, from->jti);
    copy.kid = pack_text(p, from->kid);
    copy.subscribe = pack_strings(p, &from->subscribe);
    copy.publish = pack_strings(p, &from->publish);
    copy.topics = pack_strings(p, &from->topics);
    copy.match = pack_claims(p, from->match, from->match_count);
    copy.roles = pack_claims(p, from->roles, from->role_count);
    return copy;
}

/* --- life ------------------------------------------------------------------------------------- */

struct grant *grant_new(struct grant_fields *fields)
{
    struct room room = room_for(fields);
    size_t claims = room.claims * sizeof(struct grant_claim), slots = room.slots * sizeof(char *);
    struct grant *g = mem_zero(1, sizeof(*g) + claims + slots + room.bytes);
    char *memory = (char *)g->memory;
    struct packer packer = {(struct grant_claim *)(void *)memory,
                            (char **)(void *)(memory + claims), memory + claims + slots};
    atomic_init(&g->refs, 1);
    g->fields = pack(&packer, fields);
    grant_fields_reset(fields);
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

bool grant_matches(const struct grant *g, const struct event *ev)
{
    const char *at = event_match(ev), *name, *value;
    if (!at)
        return true;
    if (!g || !*at)
        return false;
    while (match_next(&at, &name, &value)) {
        const struct grant_claim *claim =
            find_claim(g->fields.match, g->fields.match_count, slice_of(name));
        if (!claim || !strings_have(&claim->values, slice_of(value)))
            return false;
    }
    return true;
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_nobody(const struct grant_fields *f)
{
    return !f->subject && !f->issuer && !f->jti && !f->kid && !f->from_ticket;
}

bool grant_are_both_nobody(const struct grant *a, const struct grant *b)
{
    return is_nobody(&a->fields) && is_nobody(&b->fields) && is_same(a->fields.ns, b->fields.ns);
}

bool grant_is_same_subject(const struct grant *a, const struct grant *b)
{
    const struct grant_fields *x = &a->fields, *y = &b->fields;
    return x->subject && is_same(x->subject, y->subject) && is_same(x->issuer, y->issuer) &&
           is_same(x->ns, y->ns);
}
