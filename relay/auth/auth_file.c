/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/auth_file.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_comments.h"
#include "common/mem.h"
#include "relay/auth/auth_file_parts.h"
#include "relay/auth/rights.h"
#include "relay/config/config_check.h"

static const char *const members[] = {"issuers", "rules",  "keys", "anonymous",
                                      "routes",  "events", NULL};

/* --- anonymous -------------------------------------------------------------------------------- */

static enum err make_anonymous(const struct place *at, const struct rights *rights, char *ns,
                               struct auth_file *out, struct buf *why, struct buf *warnings)
{
    struct place here = place_member(at, "ns");
    struct draft draft = {0};
    if (!ns || config_check_namespace(ns))
        return place_refuse(&here, why, "%s",
                            ns ? config_check_namespace(ns)
                               : "expected the namespace that requests without credentials get");
    draft.fields.ns = slice_dup(slice_of(ns));
    rights_put(rights, NULL, at, &draft);
    if (warnings && draft.fields.publish.count)
        buf_puts(warnings, "anonymous.publish: everybody may publish, without a token\n");
    if (warnings && draft.fields.admin)
        buf_puts(warnings, "anonymous.admin: everybody may revoke tokens and read /stats\n");
    out->anonymous = grant_new(&draft.fields);
    draft_reset(&draft);
    return OK;
}

static enum err read_anonymous(const cJSON *file, struct auth_file *out, struct buf *why,
                               struct buf *warnings)
{
    static const char *const known[] = {"ns", RIGHTS_MEMBERS, NULL};
    const cJSON *value = place_find(file, "anonymous");
    struct place at = place_member(&PLACE_FILE, "anonymous");
    struct rights *rights = NULL;
    char *ns = NULL;
    if (!value)
        return OK;
    enum err e = place_check_object(&at, value, known, why);
    if (e == OK)
        e = place_read_text(&at, value, "ns", &ns, why);
    if (e == OK)
        e = rights_new(&at, value, false, &rights, why);
    if (e == OK)
        e = make_anonymous(&at, rights, ns, out, why, warnings);
    rights_free(rights);
    free(ns);
    return e;
}

/* --- all of it -------------------------------------------------------------------------------- */

static enum err check_together(const struct auth_file *file, struct buf *why)
{
    struct place at = PLACE_FILE, routes = place_member(&at, "routes");
    if (!file->issuer_count && !static_keys_count(file->keys) && !file->anonymous)
        return place_refuse(&at, why,
                            "expected issuers, keys or anonymous: without them nobody may do "
                            "anything");
    if (route_map_has_public(file->routes) && !file->anonymous)
        return place_refuse(&routes, why,
                            "a public route needs anonymous, which says of which namespace its "
                            "topics are: \"anonymous\": {\"ns\": \"…\"}");
    return OK;
}

static enum err read_all(const cJSON *tree, struct auth_file_keys *keys, struct auth_file *out,
                         struct buf *why, struct buf *warnings)
{
    enum err e = place_check_object(&PLACE_FILE, tree, members, why);
    if (e == OK)
        e = auth_file_read_issuers(tree, keys, out, why, warnings);
    if (e == OK)
        e = rules_new(tree, &out->rules, why);
    if (e == OK)
        e = static_keys_new(tree, &out->keys, why);
    if (e == OK)
        e = read_anonymous(tree, out, why, warnings);
    if (e == OK)
        e = route_map_new(place_find(tree, "routes"), &out->routes, why, warnings);
    out->serves_events = true;
    if (e == OK)
        e = place_read_bool(&PLACE_FILE, tree, "events", &out->serves_events, why);
    return e == OK ? check_together(out, why) : e;
}

static enum err parse_json(struct buf *text, cJSON **tree, struct buf *why)
{
    size_t wrong_at = text->len ? json_comments_blank(text) : 0;
    if (wrong_at < text->len) {
        buf_printf(why, "line %u: a comment without an end", json_comments_line(text, wrong_at));
        return ERR_INVALID;
    }
    enum err e = json_parse_where(buf_slice(text), tree, &wrong_at);
    if (e == ERR_RANGE || e == ERR_FULL)
        buf_puts(why, "it has more values, or is nested deeper, than any needs");
    else if (e)
        buf_printf(why, "line %u: not valid JSON", json_comments_line(text, wrong_at));
    return e ? ERR_INVALID : OK;
}

enum err auth_file_parse(struct buf *text, auth_file_read_keys *read, void *arg,
                         struct auth_file *out, struct buf *why, struct buf *warnings)
{
    struct auth_file_keys keys = {read, arg};
    struct auth_file file = {0};
    cJSON *tree = NULL;
    enum err e = parse_json(text, &tree, why);
    if (e)
        return e;
    e = read_all(tree, &keys, &file, why, warnings);
    cJSON_Delete(tree);
    if (e == OK)
        *out = file;
    else
        auth_file_reset(&file);
    return e;
}

enum err auth_file_make(struct issuer_fields *fields, struct slice key_bytes, struct auth_file *out,
                        struct buf *why, struct buf *warnings)
{
    struct auth_file file = {.serves_events = true};
    cJSON *empty = cJSON_CreateObject();
    struct place at = PLACE_FILE;
    enum err e = auth_file_add_issuer(fields, key_bytes, NULL, &at, NULL, &file, why, warnings);
    if (e == OK)
        e = rules_new(empty, &file.rules, why);
    if (e == OK)
        e = static_keys_new(empty, &file.keys, why);
    if (e == OK)
        e = route_map_new(NULL, &file.routes, why, NULL);
    cJSON_Delete(empty);
    if (e == OK)
        *out = file;
    else
        auth_file_reset(&file);
    return e;
}

void auth_file_reset(struct auth_file *file)
{
    for (size_t i = 0; i < file->issuer_count; i++) {
        issuer_free(file->issuers[i].issuer);
        claim_form_free(file->issuers[i].form);
    }
    free(file->issuers);
    rules_free(file->rules);
    static_keys_free(file->keys);
    grant_unref(file->anonymous);
    route_map_free(file->routes);
    *file = (struct auth_file){0};
}
