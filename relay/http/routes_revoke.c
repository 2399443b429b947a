/* SPDX-License-Identifier: Apache-2.0 */
/* POST /revoke: a token, a subject's tokens up to now, or all that a key has signed count no more,
 * on all nodes. docs/protocol.md, 14.7. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/http/routes_parts.h"

static const char expected[] = "body: expected {\"jti\":\"…\"}, {\"sub\":\"…\"} perhaps with "
                               "\"before\" (a Unix time in seconds), "
                               "or {\"kid\":\"…\"}";

static bool is_text(const cJSON *item)
{
    return cJSON_IsString(item) && item->valuestring[0];
}

/* Appends its arguments. False: the body is not what it should be. */
static bool parse_body(struct slice body, struct strings *args)
{
    static const char *const kinds[] = {"jti", "sub", "kid"};
    cJSON *tree = NULL;
    const char *kind = NULL, *before = NULL;
    char number[24];
    bool valid = json_parse(body, &tree) == OK && cJSON_IsObject(tree);
    for (const cJSON *item = valid ? tree->child : NULL; item && valid; item = item->next) {
        const char *name = NULL;
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
            if (strcmp(item->string, kinds[i]) == 0)
                name = kinds[i];
        if (name && !kind && is_text(item)) {
            kind = name;
            routes_arg_add(args, kind);
            routes_arg_add(args, item->valuestring);
        } else if (strcmp(item->string, "before") == 0 && !before && cJSON_IsNumber(item) &&
                   item->valuedouble >= 0 && item->valuedouble < 1e15) {
            snprintf(number, sizeof(number), "%.0f", item->valuedouble);
            before = number;
        } else {
            valid = false;
        }
    }
    valid = valid && kind && (!before || strcmp(kind, "sub") == 0);
    if (valid && before) {
        routes_arg_add(args, "before");
        routes_arg_add(args, before);
    }
    cJSON_Delete(tree);
    return valid;
}

static void on_revoked(struct routes *r, struct routes_visit *v, struct note_call *answer)
{
    struct buf body = {0};
    struct slice why = answer->answer.count ? slice_of(answer->answer.items[0]) : SLICE_LIT("");
    if (answer->error) {
        bool judged = slice_has_prefix(why, SLICE_LIT("ERR sse_revoke: "));
        bool full = judged && strstr(why.ptr, ": full") != NULL;
        if (judged)
            routes_refuse(r, v, full ? 507 : 400, why);
        else
            routes_refuse_later(r, v, 1, SLICE_LIT("Redis did not take the revocation; try again"));
        return;
    }
    buf_puts(&body, "{\"revoked\":true}");
    routes_reply(r, v->call, 200, "application/json", &body, NULL);
}

/* The grant's namespace; or, for a grant of none, the one that the query names. */
static char *find_ns(struct routes *r, struct routes_visit *v)
{
    const char *granted = grant_fields(v->grant)->ns;
    const struct request_view *view = front_view(v->call);
    struct slice asked = SLICE_NONE;
    for (size_t i = 0; i < view->query_count; i++)
        if (slice_is(view->query[i].name, "ns"))
            asked = view->query[i].value;
    if (granted && asked.ptr && !slice_is(asked, granted)) {
        routes_refuse(r, v, 403, SLICE_LIT("ns: your credentials are for another namespace"));
        return NULL;
    }
    if (!granted && (!asked.ptr || !name_ns_valid(asked))) {
        routes_refuse(r, v, 400,
                      SLICE_LIT("ns: expected in the query, as your credentials are for no "
                                "namespace alone"));
        return NULL;
    }
    return slice_dup(granted ? slice_of(granted) : asked);
}

void routes_serve_revoke(struct routes *r, struct routes_visit *v)
{
    struct strings args = {0};
    char *ns = NULL;
    if (!parse_body(front_view(v->call)->body, &args))
        routes_refuse(r, v, 400, slice_of(expected));
    else if ((ns = find_ns(r, v)))
        routes_wait_store(r, v, "sse_revoke", ns, &args, on_revoked);
    strings_reset(&args);
    free(ns);
}
