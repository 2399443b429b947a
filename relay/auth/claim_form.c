/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/claim_form.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_pointer.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/auth/claim_form_parts.h"
#include "relay/auth/claim_text.h"
#include "relay/auth/claims.h"

enum slot { SLOT_NS, SLOT_SUBSCRIBE, SLOT_PUBLISH, SLOT_TOPICS, SLOT_MATCH, SLOT_ADMIN, SLOTS };

static const char *const slot_names[SLOTS + 1] = {
    [SLOT_NS] = "ns",         [SLOT_SUBSCRIBE] = "subscribe", [SLOT_PUBLISH] = "publish",
    [SLOT_TOPICS] = "topics", [SLOT_MATCH] = "match",         [SLOT_ADMIN] = "admin",
};

enum form { FORM_POINTERS, FORM_CENTRIFUGO, FORM_MERCURE };

struct claim_form {
    enum form form;
    char *pointers[SLOTS]; /* NULL: not taken from tokens */
};

/* --- reading ---------------------------------------------------------------------------------- */

static void set_pointers(struct claim_form *form)
{
    bool all = form->form == FORM_POINTERS;
    for (enum slot i = 0; i < (all ? SLOTS : SLOT_NS + 1); i++) {
        struct buf pointer = {0};
        buf_printf(&pointer, "/sse/%s", slot_names[i]);
        form->pointers[i] = buf_take(&pointer, NULL);
    }
}

static enum err read_pointers(struct claim_form *form, const struct place *at, const cJSON *value,
                              struct buf *why)
{
    enum err e = place_check_object(at, value, slot_names, why);
    for (enum slot i = 0; i < SLOTS && e == OK; i++) {
        const cJSON *pointer = place_find(value, slot_names[i]);
        struct place here = place_member(at, slot_names[i]);
        if (!pointer)
            continue;
        free(form->pointers[i]);
        form->pointers[i] = NULL;
        if (cJSON_IsNull(pointer))
            continue;
        if (!cJSON_IsString(pointer) || !json_pointer_is_setting(slice_of(pointer->valuestring)))
            return place_refuse(&here, why,
                                "expected a JSON Pointer, such as \"/tenant\", or null");
        form->pointers[i] = slice_dup(slice_of(pointer->valuestring));
    }
    return e;
}

static enum err read_form(struct claim_form *form, const struct place *at, const cJSON *value,
                          struct buf *why)
{
    bool is_text = cJSON_IsString(value);
    if (is_text && strcmp(value->valuestring, "centrifugo") == 0)
        form->form = FORM_CENTRIFUGO;
    else if (is_text && strcmp(value->valuestring, "mercure") == 0)
        form->form = FORM_MERCURE;
    set_pointers(form);
    if (!value || form->form != FORM_POINTERS)
        return OK;
    if (cJSON_IsObject(value))
        return read_pointers(form, at, value, why);
    return place_refuse(at, why,
                        "expected \"centrifugo\", \"mercure\", or an object of JSON "
                        "Pointers such as {\"ns\": \"/tenant\"}");
}

enum err claim_form_new(const struct place *at, const cJSON *value, struct claim_form **out,
                        struct buf *why)
{
    struct claim_form *form = mem_zero(1, sizeof(*form));
    enum err e = read_form(form, at, value, why);
    if (e == OK)
        *out = form;
    else
        claim_form_free(form);
    return e;
}

void claim_form_free(struct claim_form *form)
{
    if (!form)
        return;
    for (enum slot i = 0; i < SLOTS; i++)
        free(form->pointers[i]);
    free(form);
}

/* --- our own claims --------------------------------------------------------------------------- */

static const cJSON *at_slot(const struct claim_form *form, const cJSON *claims, enum slot slot)
{
    return form->pointers[slot] ? claims_at(claims, form->pointers[slot]) : NULL;
}

static void add_text(struct draft *d, enum draft_list list, struct slice text, const cJSON *claims,
                     const struct place *from)
{
    struct stencil *stencil;
    const char *wrong = stencil_new(text, &stencil);
    if (wrong) {
        draft_refuse(d, text, from, "it is no pattern");
        return;
    }
    draft_add_stencil(d, list, stencil, claims, from);
    stencil_free(stencil);
}

/* A text is split at spaces, as `scope` is (RFC 6749, 3.3). */
static void put_split(struct draft *d, enum draft_list list, struct slice text, const cJSON *claims,
                      const struct place *from)
{
    while (text.ptr) {
        struct slice word = slice_cut(&text, ' ');
        if (word.len)
            add_text(d, list, word, claims, from);
    }
}

static void put_list(struct draft *d, enum draft_list list, const cJSON *value, const cJSON *claims,
                     const char *pointer)
{
    struct place at = place_member(&PLACE_FILE, pointer);
    size_t i = 0;
    if (cJSON_IsString(value)) {
        put_split(d, list, slice_of(value->valuestring), claims, &at);
        return;
    }
    if (!cJSON_IsArray(value)) {
        draft_refuse(d, SLICE_NONE, &at, "it is neither a list nor a text");
        return;
    }
    for (const cJSON *item = value->child; item; item = item->next) {
        struct place from = place_element(&at, i++);
        if (cJSON_IsString(item))
            add_text(d, list, slice_of(item->valuestring), claims, &from);
        else
            draft_refuse(d, SLICE_NONE, &from, "it is no text");
    }
}

/* Values are data here, never filled: who may write one may not choose another claim by it. */
static void put_match(struct draft *d, const cJSON *value, const char *pointer)
{
    struct place at = place_member(&PLACE_FILE, pointer);
    if (!cJSON_IsObject(value)) {
        draft_refuse(d, SLICE_NONE, &at, "it is no object");
        return;
    }
    for (const cJSON *item = value->child; item; item = item->next) {
        struct place from = place_member(&at, item->string);
        struct strings values = {0};
        if (claim_text_all(item, CLAIM_SCALARS, &values))
            draft_refuse(d, SLICE_NONE, &from,
                         "only texts, whole numbers and booleans count, 64 in a list");
        for (size_t i = 0; i < values.count && item->string[0]; i++)
            draft_add_match(d, slice_of(item->string), slice_of(values.items[i]), &from);
        strings_reset(&values);
    }
}

static void put_pointers(const struct claim_form *form, const cJSON *claims, struct draft *d)
{
    static const enum slot slots[DRAFT_LISTS] = {
        [DRAFT_SUBSCRIBE] = SLOT_SUBSCRIBE,
        [DRAFT_PUBLISH] = SLOT_PUBLISH,
        [DRAFT_TOPICS] = SLOT_TOPICS,
    };
    for (enum draft_list i = 0; i < DRAFT_LISTS; i++) {
        const cJSON *value = at_slot(form, claims, slots[i]);
        if (value)
            put_list(d, i, value, claims, form->pointers[slots[i]]);
    }
    const cJSON *match = at_slot(form, claims, SLOT_MATCH);
    if (match)
        put_match(d, match, form->pointers[SLOT_MATCH]);
    const cJSON *admin = at_slot(form, claims, SLOT_ADMIN);
    struct place at = place_member(&PLACE_FILE, form->pointers[SLOT_ADMIN]);
    if (cJSON_IsTrue(admin))
        draft_set_admin(d, &at);
    else if (admin && !cJSON_IsFalse(admin))
        draft_refuse(d, SLICE_NONE, &at, "it is neither true nor false");
}

/* --- all of them ------------------------------------------------------------------------------ */

static bool has_any(const cJSON *claims, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (cJSON_GetObjectItemCaseSensitive(claims, names[i]))
            return true;
    return false;
}

bool claim_form_is_used(const struct claim_form *form, const cJSON *claims)
{
    static const char *const centrifugo[] = {"channels", "subs", "caps", NULL};
    static const char *const mercure[] = {"mercure", "authorization_details", NULL};
    switch (form->form) {
    case FORM_CENTRIFUGO:
        return has_any(claims, centrifugo);
    case FORM_MERCURE:
        return has_any(claims, mercure);
    case FORM_POINTERS:
        break;
    }
    for (enum slot i = SLOT_SUBSCRIBE; i < SLOTS; i++)
        if (at_slot(form, claims, i))
            return true;
    return false;
}

void claim_form_put(const struct claim_form *form, const cJSON *claims, struct draft *d)
{
    switch (form->form) {
    case FORM_POINTERS:
        put_pointers(form, claims, d);
        break;
    case FORM_CENTRIFUGO:
        claim_form_centrifugo_put(claims, d);
        break;
    case FORM_MERCURE:
        claim_form_mercure_put(claims, d);
        break;
    }
}

const cJSON *claim_form_ns(const struct claim_form *form, const cJSON *claims)
{
    return at_slot(form, claims, SLOT_NS);
}

const char *claim_form_ns_pointer(const struct claim_form *form)
{
    return form->pointers[SLOT_NS];
}
