/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/rights.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_pointer.h"
#include "common/mem.h"
#include "relay/auth/claim_text.h"

/* A name, and a value or a place in the claims. */
struct pair {
    char *name;
    char *value;
    bool is_place; /* `value` is what stands between the braces */
};

struct rights {
    struct stencil **stencils[DRAFT_LISTS];
    size_t counts[DRAFT_LISTS];
    struct pair *pairs;
    size_t pair_count;
    bool has_claims, admin;
};

/* --- reading ---------------------------------------------------------------------------------- */

struct list_reader {
    struct rights *rights;
    enum draft_list list;
};

static enum err read_stencil(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    struct list_reader *reader = arg;
    struct rights *r = reader->rights;
    struct stencil ***items = &r->stencils[reader->list];
    size_t *count = &r->counts[reader->list];
    struct stencil *stencil;
    if (!cJSON_IsString(value))
        return place_refuse(at, why, "expected a topic or pattern, such as \"orders.*\"");
    const char *wrong = stencil_new(slice_of(value->valuestring), &stencil);
    if (wrong)
        return place_refuse(at, why, "%s", wrong);
    if (!r->has_claims && stencil_place_count(stencil)) {
        stencil_free(stencil);
        return place_refuse(at, why, "there are no claims here that {…} could be filled from");
    }
    *items = mem_grow(*items, *count, sizeof(**items));
    (*items)[(*count)++] = stencil;
    return OK;
}

static enum err read_pair(struct rights *r, const struct place *at, const char *name,
                          const cJSON *value, struct buf *why)
{
    struct buf text = {0};
    if (!claim_text_put(&text, value, CLAIM_SCALARS))
        return place_refuse(at, why, "expected a text, a whole number, or a list of them");
    buf_putc(&text, '\0');
    struct slice inner = {text.ptr, text.len - 1};
    bool is_place = r->has_claims && memchr(text.ptr, '{', text.len) != NULL;
    if (is_place) {
        inner = (struct slice){text.ptr + 1, text.len - 3};
        if (text.ptr[0] != '{' || text.len < 4 || strchr(text.ptr, '}') != inner.ptr + inner.len ||
            (inner.ptr[0] == '/' && !json_pointer_is_setting(inner))) {
            buf_reset(&text);
            return place_refuse(at, why, "expected {name} or {/json/pointer} as the whole value");
        }
    }
    r->pairs = mem_grow(r->pairs, r->pair_count, sizeof(*r->pairs));
    r->pairs[r->pair_count++] =
        (struct pair){slice_dup(slice_of(name)), slice_dup(inner), is_place};
    buf_reset(&text);
    return OK;
}

static enum err read_values(struct rights *r, const struct place *at, const cJSON *item,
                            struct buf *why)
{
    struct place here = place_member(at, item->string);
    size_t i = 0;
    if (!item->string[0] || slice_has_control(slice_of(item->string)))
        return place_refuse(at, why, "expected names without control characters, not empty");
    if (!cJSON_IsArray(item))
        return read_pair(r, &here, item->string, item, why);
    enum err e = OK;
    for (const cJSON *value = item->child; value && e == OK; value = value->next) {
        struct place element = place_element(&here, i);
        if (i++ >= GRANT_VALUES_MAX)
            return place_refuse(&here, why, "expected at most %d values", GRANT_VALUES_MAX);
        e = read_pair(r, &element, item->string, value, why);
    }
    return e;
}

static enum err read_match(struct rights *r, const struct place *at, const cJSON *object,
                           struct buf *why)
{
    const cJSON *match = place_find(object, "match");
    struct place here = place_member(at, "match");
    if (!match)
        return OK;
    enum err e = place_check_object(&here, match, NULL, why);
    for (const cJSON *item = match->child; item && e == OK; item = item->next)
        e = read_values(r, &here, item, why);
    return e;
}

enum err rights_new(const struct place *at, const cJSON *object, bool has_claims,
                    struct rights **out, struct buf *why)
{
    struct rights *r = mem_zero(1, sizeof(*r));
    enum err e = OK;
    r->has_claims = has_claims;
    for (enum draft_list i = 0; i < DRAFT_LISTS && e == OK; i++) {
        struct list_reader reader = {r, i};
        e = place_read_list(at, object, draft_list_names[i], 1000, read_stencil, &reader, why);
    }
    if (e == OK)
        e = read_match(r, at, object, why);
    if (e == OK)
        e = place_read_bool(at, object, "admin", &r->admin, why);
    if (e == OK)
        *out = r;
    else
        rights_free(r);
    return e;
}

void rights_free(struct rights *r)
{
    if (!r)
        return;
    for (enum draft_list i = 0; i < DRAFT_LISTS; i++) {
        for (size_t k = 0; k < r->counts[i]; k++)
            stencil_free(r->stencils[i][k]);
        free(r->stencils[i]);
    }
    for (size_t i = 0; i < r->pair_count; i++) {
        free(r->pairs[i].name);
        free(r->pairs[i].value);
    }
    free(r->pairs);
    free(r);
}

bool rights_are_empty(const struct rights *r)
{
    for (enum draft_list i = 0; i < DRAFT_LISTS; i++)
        if (r->counts[i])
            return false;
    return !r->pair_count && !r->admin;
}

/* --- granting --------------------------------------------------------------------------------- */

static void put_place(const struct pair *pair, const cJSON *claims, const struct place *from,
                      struct draft *d)
{
    struct strings values = {0};
    const char *why = draft_look(claims, slice_of(pair->value), &values);
    for (size_t i = 0; i < values.count; i++)
        if (values.items[i][0])
            draft_add_match(d, slice_of(pair->name), slice_of(values.items[i]), from);
    if (!why && !values.count)
        why = "it is empty";
    if (why)
        draft_tell(d, values.count ? "in part" : "nothing", slice_of(pair->value), from, why);
    strings_reset(&values);
}

static void put_pairs(const struct rights *r, const cJSON *claims, const struct place *at,
                      struct draft *d)
{
    struct place match = place_member(at, "match");
    for (size_t i = 0; i < r->pair_count; i++) {
        const struct pair *pair = &r->pairs[i];
        struct place from = place_member(&match, pair->name);
        if (pair->is_place)
            put_place(pair, claims, &from, d);
        else
            draft_add_match(d, slice_of(pair->name), slice_of(pair->value), &from);
    }
}

void rights_put(const struct rights *r, const cJSON *claims, const struct place *at,
                struct draft *d)
{
    for (enum draft_list i = 0; i < DRAFT_LISTS; i++) {
        struct place list = place_member(at, draft_list_names[i]);
        for (size_t k = 0; k < r->counts[i]; k++) {
            struct place from = place_element(&list, k);
            draft_add_stencil(d, i, r->stencils[i][k], claims, &from);
        }
    }
    put_pairs(r, claims, at, d);
    if (r->admin) {
        struct place from = place_member(at, "admin");
        draft_set_admin(d, &from);
    }
}
