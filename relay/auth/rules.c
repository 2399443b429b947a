/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/rules.h"

#include <stdlib.h>

#include "common/json_pointer.h"
#include "common/mem.h"
#include "relay/auth/claim_text.h"
#include "relay/auth/claims.h"
#include "relay/auth/rights.h"

struct condition {
    char *pointer;
    struct strings values; /* one of which must be there */
};

struct rule {
    struct condition *conditions; /* which must all be met */
    size_t condition_count;
    struct rights *rights;
};

struct rules {
    struct rule *items;
    size_t count;
};

/* --- reading ---------------------------------------------------------------------------------- */

static enum err read_condition(struct rule *rule, const struct place *at, const cJSON *item,
                               struct buf *why)
{
    struct place here = place_member(at, item->string);
    if (!json_pointer_is_setting(slice_of(item->string)))
        return place_refuse(&here, why, "expected a JSON Pointer, such as \"/roles\"");
    rule->conditions = mem_grow(rule->conditions, rule->condition_count, sizeof(*rule->conditions));
    struct condition *condition = &rule->conditions[rule->condition_count++];
    *condition = (struct condition){.pointer = slice_dup(slice_of(item->string))};
    if (claim_text_all(item, CLAIM_SCALARS, &condition->values) || !condition->values.count)
        return place_refuse(&here, why,
                            "expected a text, a whole number, true or false, or a list of 1 to 64 "
                            "of them, one of which the claim must be or have");
    return OK;
}

static enum err read_if(struct rule *rule, const struct place *at, const cJSON *value,
                        struct buf *why)
{
    const cJSON *object = place_find(value, "if");
    struct place here = place_member(at, "if");
    if (!object)
        return OK;
    enum err e = place_check_object(&here, object, NULL, why);
    for (const cJSON *item = object->child; item && e == OK; item = item->next)
        e = read_condition(rule, &here, item, why);
    return e;
}

static enum err read_rule(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    static const char *const known[] = {"if", RIGHTS_MEMBERS, NULL};
    struct rules *rules = arg;
    enum err e = place_check_object(at, value, known, why);
    if (e)
        return e;
    rules->items = mem_grow(rules->items, rules->count, sizeof(*rules->items));
    struct rule *rule = &rules->items[rules->count++];
    *rule = (struct rule){0};
    e = read_if(rule, at, value, why);
    if (e == OK)
        e = rights_new(at, value, true, &rule->rights, why);
    if (e == OK && rights_are_empty(rule->rights))
        e = place_refuse(at, why,
                         "it grants nothing: expected subscribe, publish, topics, match "
                         "or admin");
    return e;
}

enum err rules_new(const cJSON *file, struct rules **out, struct buf *why)
{
    struct rules *rules = mem_zero(1, sizeof(*rules));
    enum err e = place_read_list(&PLACE_FILE, file, "rules", RULES_MAX, read_rule, rules, why);
    if (e == OK)
        *out = rules;
    else
        rules_free(rules);
    return e;
}

void rules_free(struct rules *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < rules->count; i++) {
        struct rule *rule = &rules->items[i];
        for (size_t k = 0; k < rule->condition_count; k++) {
            free(rule->conditions[k].pointer);
            strings_reset(&rule->conditions[k].values);
        }
        free(rule->conditions);
        rights_free(rule->rights);
    }
    free(rules->items);
    free(rules);
}

size_t rules_count(const struct rules *rules)
{
    return rules->count;
}

/* --- applying --------------------------------------------------------------------------------- */

static bool is_met(const struct condition *condition, const cJSON *claims)
{
    const cJSON *value = claims_at(claims, condition->pointer);
    struct strings has = {0};
    bool met = false;
    if (value)
        claim_text_all(value, CLAIM_SCALARS, &has);
    for (size_t i = 0; i < has.count && !met; i++)
        met = strings_have(&condition->values, slice_of(has.items[i]));
    strings_reset(&has);
    return met;
}

/* The first that is not met; NULL: the rule applies. */
static const struct condition *find_unmet(const struct rule *rule, const cJSON *claims)
{
    for (size_t i = 0; i < rule->condition_count; i++)
        if (!is_met(&rule->conditions[i], claims))
            return &rule->conditions[i];
    return NULL;
}

static void tell_unmet(struct draft *d, const struct condition *unmet, const cJSON *claims,
                       const struct place *at)
{
    struct buf note = {0};
    if (!d->trail)
        return;
    buf_printf(&note, "does not apply: the token has no %s", unmet->pointer);
    if (claims_at(claims, unmet->pointer))
        buf_puts(&note, " that is, or has, one of those named there");
    buf_putc(&note, '\0');
    draft_tell(d, "rule", SLICE_NONE, at, note.ptr);
    buf_reset(&note);
}

void rules_put(const struct rules *rules, const cJSON *claims, struct draft *d)
{
    struct place list = place_member(&PLACE_FILE, "rules");
    for (size_t i = 0; i < rules->count; i++) {
        struct place at = place_element(&list, i);
        const struct condition *unmet = find_unmet(&rules->items[i], claims);
        if (unmet)
            tell_unmet(d, unmet, claims, &at);
        else
            rights_put(rules->items[i].rights, claims, &at, d);
    }
}
