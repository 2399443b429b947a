/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/draft.h"

#include <stdlib.h>

#include "relay/auth/claim_text.h"
#include "relay/auth/claims.h"

const char *const draft_list_names[DRAFT_LISTS] = {
    [DRAFT_SUBSCRIBE] = "subscribe",
    [DRAFT_PUBLISH] = "publish",
    [DRAFT_TOPICS] = "topics",
};

void draft_reset(struct draft *d)
{
    grant_fields_reset(&d->fields);
    buf_reset(&d->unsayable);
}

void draft_tell(struct draft *d, const char *label, struct slice text, const struct place *from,
                const char *note)
{
    if (!d->trail)
        return;
    buf_printf(d->trail, "%-11s ", label);
    place_put_shown(d->trail, text);
    if (from || note)
        buf_puts(d->trail, text.len ? "  (" : "(");
    if (from)
        place_put(d->trail, from);
    if (from && note)
        buf_puts(d->trail, ": ");
    if (note)
        place_put_shown(d->trail, slice_of(note));
    buf_puts(d->trail, from || note ? ")\n" : "\n");
}

static struct strings *list_of(struct draft *d, enum draft_list list)
{
    switch (list) {
    case DRAFT_SUBSCRIBE:
        return &d->fields.subscribe;
    case DRAFT_PUBLISH:
        return &d->fields.publish;
    case DRAFT_TOPICS:
    case DRAFT_LISTS:
        break;
    }
    return &d->fields.topics;
}

void draft_add_pattern(struct draft *d, enum draft_list list, struct slice valid_pattern,
                       const struct place *from)
{
    struct strings *patterns = list_of(d, list);
    if (patterns->count >= DRAFT_PATTERNS_MAX) {
        draft_tell(d, "nothing", valid_pattern, from, "a grant has at most 1024 of these");
        return;
    }
    strings_add_new(patterns, valid_pattern);
    draft_tell(d, draft_list_names[list], valid_pattern, from, NULL);
}

const char *draft_look(const void *claims, struct slice place, struct strings *values)
{
    char *name = slice_dup(place);
    const cJSON *value =
        name[0] == '/' ? claims_at(claims, name) : cJSON_GetObjectItemCaseSensitive(claims, name);
    free(name);
    if (!value)
        return "the token has no such claim";
    size_t without = claim_text_all(value, CLAIM_WORDS, values);
    if (!without)
        return NULL;
    return cJSON_IsArray(value) ? "of a list only texts and whole numbers count, and the first 64"
                                : "it is neither a text nor a whole number below 2^53";
}

void draft_add_stencil(struct draft *d, enum draft_list list, const struct stencil *stencil,
                       const cJSON *claims, const struct place *from)
{
    struct strings filled = {0};
    struct buf why = {0};
    stencil_fill(stencil, STENCIL_TEXTS, draft_look, claims, &filled, &why);
    for (size_t i = 0; i < filled.count; i++)
        draft_add_pattern(d, list, slice_of(filled.items[i]), from);
    if (why.len && d->trail) {
        buf_putc(&why, '\0');
        draft_tell(d, filled.count ? "in part" : "nothing", stencil_text(stencil), from, why.ptr);
    }
    buf_reset(&why);
    strings_reset(&filled);
}

void draft_add_match(struct draft *d, struct slice name, struct slice value,
                     const struct place *from)
{
    grant_claims_add(&d->fields.match, &d->fields.match_count, name, value);
    if (!d->trail)
        return;
    struct buf pair = {0};
    buf_put_slice(&pair, name);
    buf_puts(&pair, " = ");
    buf_put_slice(&pair, value);
    draft_tell(d, "match", buf_slice(&pair), from, NULL);
    buf_reset(&pair);
}

void draft_set_admin(struct draft *d, const struct place *from)
{
    d->fields.admin = true;
    draft_tell(d, "admin", SLICE_LIT("yes"), from, NULL);
}

void draft_refuse(struct draft *d, struct slice text, const struct place *from, const char *reason)
{
    draft_tell(d, "nothing", text, from, reason);
    if (d->unsayable.len)
        return;
    place_put(&d->unsayable, from);
    buf_puts(&d->unsayable, ": ");
    place_put_shown(&d->unsayable, text);
    buf_printf(&d->unsayable, ": %s", reason);
}
