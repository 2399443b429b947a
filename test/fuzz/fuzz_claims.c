/* SPDX-License-Identifier: Apache-2.0 */
/* Claims of signed tokens to grants: whatever they are, a grant has valid patterns within its
 * bounds, and values that are filled in stay one token. The first byte chooses how claims are read.
 */
#include "common/names.h"
#include "relay/auth/claim_form.h"
#include "relay/auth/members.h"
#include "relay/auth/rules.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const char rules_text[] =
    "{\"rules\":[{\"if\":{\"/r\":[\"a\",1,true]},\"subscribe\":[\"r.{sub}\",\"{/l}.{/m}.*\"]},"
    "{\"publish\":[\"p.{/o/0}.>\"],\"match\":{\"x\":\"{/l}\",\"y\":[\"{sub}\",1]}}]}";
static const char *const forms[] = {"null", "\"centrifugo\"", "\"mercure\"",
                                    "{\"subscribe\":\"/scope\",\"match\":\"/m\"}"};

static cJSON *parse(const char *text)
{
    cJSON *tree = NULL;
    if (json_parse(slice_of(text), &tree) != OK)
        abort();
    return tree;
}

static struct rules *make_rules(void)
{
    struct rules *rules = NULL;
    struct buf why = {0};
    cJSON *tree = parse(rules_text);
    if (rules_new(tree, &rules, &why) != OK)
        abort();
    cJSON_Delete(tree);
    return rules;
}

static struct claim_form *make_form(const char *text)
{
    struct claim_form *form = NULL;
    struct buf why = {0};
    struct place at = PLACE_FILE;
    cJSON *tree = parse(text);
    if (claim_form_new(&at, cJSON_IsNull(tree) ? NULL : tree, &form, &why) != OK)
        abort();
    cJSON_Delete(tree);
    return form;
}

static void check_patterns(const struct strings *patterns)
{
    if (patterns->count > DRAFT_PATTERNS_MAX)
        abort();
    for (size_t i = 0; i < patterns->count; i++)
        if (!name_pattern_valid(slice_of(patterns->items[i])))
            abort();
}

static void check_match(const struct grant_fields *f)
{
    for (size_t i = 0; i < f->match_count; i++)
        if (!f->match[i].name[0] || f->match[i].values.count == 0 ||
            f->match[i].values.count > GRANT_VALUES_MAX)
            abort();
}

/* What a rule fills is of the rule's shape. */
static void check_filled(const struct grant_fields *f)
{
    for (size_t i = 0; i < f->publish.count; i++) {
        struct slice rest = slice_of(f->publish.items[i]);
        if (!slice_is(slice_cut(&rest, '.'), "p") || !slice_cut(&rest, '.').len ||
            !slice_is(rest, ">"))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct rules *rules;
    static struct claim_form *by_form[4];
    const char *wrong;
    cJSON *claims = NULL;
    struct buf trail = {0};
    if (!rules) {
        rules = make_rules();
        for (size_t i = 0; i < 4; i++)
            by_form[i] = make_form(forms[i]);
    }
    if (len == 0 ||
        members_parse((struct slice){(const char *)bytes + 1, len - 1}, &claims, &wrong))
        return 0;
    const struct claim_form *form = by_form[bytes[0] % 4];
    struct draft d = {.trail = bytes[0] & 4 ? &trail : NULL};
    bool by_rules = !claim_form_is_used(form, claims);
    if (by_rules)
        rules_put(rules, claims, &d);
    else
        claim_form_put(form, claims, &d);
    check_patterns(&d.fields.subscribe);
    check_patterns(&d.fields.publish);
    check_patterns(&d.fields.topics);
    check_match(&d.fields);
    if (by_rules)
        check_filled(&d.fields);
    draft_reset(&d);
    buf_reset(&trail);
    cJSON_Delete(claims);
    return 0;
}
