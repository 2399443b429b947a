/* SPDX-License-Identifier: Apache-2.0 */
/* POST /connections/{connection_id}/token: a new token for an open stream of this node or another,
 * so that streams outlive short tokens. docs/protocol.md, 14.6. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "relay/http/routes_parts.h"

static void on_renewed(struct routes *r, struct routes_visit *v, struct note_remote *answer)
{
    struct buf body = {0};
    uint64_t now_s = clock_wall_us() / 1000000, exp_s = grant_fields(v->grant)->exp_s;
    if (answer->status != 200) {
        struct slice why = answer->detail ? slice_of(answer->detail) : SLICE_LIT("");
        routes_refuse(r, v, answer->status, why);
        return;
    }
    buf_puts(&body, "{\"renewed\":true,\"expires_in\":");
    if (exp_s)
        buf_printf(&body, "%llu}", (unsigned long long)(exp_s > now_s ? exp_s - now_s : 0));
    else
        buf_puts(&body, "null}");
    routes_reply(r, v->call, 200, "application/json", &body, NULL);
}

/* The token of the body, where no header has one. NULL: there is none. */
static char *find_token(struct slice body)
{
    cJSON *tree = NULL;
    char *token = NULL;
    if (json_parse(body, &tree) == OK) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, "token");
        if (cJSON_IsString(item))
            token = slice_dup(slice_of(item->valuestring));
    }
    cJSON_Delete(tree);
    return token;
}

static void judge(struct routes *r, struct routes_visit *v, struct admission_verdict *verdict)
{
    admission_judge(r->admission, v->call, r->config, verdict);
    if (!verdict->is_nobody)
        return;
    char *token = find_token(front_view(v->call)->body);
    if (token) {
        grant_unref(verdict->grant);
        admission_judge_token(r->admission, v->call, r->config, slice_of(token), verdict);
    }
    free(token);
}

void routes_serve_renew(struct routes *r, struct routes_visit *v)
{
    struct admission_verdict verdict;
    struct buf body = {0};
    judge(r, v, &verdict);
    v->grant = verdict.grant;
    if (!routes_pass_credentials(r, v, &verdict))
        return;
    enum err revoked = admission_check_revoked(r->admission, v->grant);
    if (revoked == ERR_AGAIN) {
        routes_wait_trust(r, v);
    } else if (revoked) {
        routes_refuse(r, v, 401, SLICE_LIT("revoked"));
    } else {
        grant_put_json(&body, v->grant);
        routes_wait_remote(r, v, "renew", buf_take(&body, NULL), on_renewed);
    }
}
