/* SPDX-License-Identifier: Apache-2.0 */
/* POST /tickets: something for a URL that opens one stream, for half a minute, in place of a token
 * that would stand in logs and histories. docs/protocol.md, 14.5. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/auth/members.h"
#include "relay/http/digest.h"
#include "relay/http/routes_parts.h"

enum { TICKET_MS = 30000, TICKET_RANDOM = 24 };

/* --- narrowing: what the body asks for lies within the grant ---------------------------------- */

/* True: the sentence in @why says what is wrong, and *status how. */
static bool narrow_topics(const cJSON *topics, const struct grant *grant, struct grant_fields *f,
                          unsigned *status, struct buf *why)
{
    const cJSON *item;
    strings_reset(&f->subscribe);
    strings_reset(&f->topics);
    grant_claims_reset(&f->roles, &f->role_count); /* by them a path may grant others */
    *status = 400;
    if (!cJSON_IsArray(topics) || !topics->child) {
        buf_puts(why, "topics: expected an array of at least one topic or pattern");
        return true;
    }
    cJSON_ArrayForEach(item, topics)
    {
        struct slice topic = slice_of(cJSON_IsString(item) ? item->valuestring : "");
        bool valid = name_pattern_valid(topic);
        if (valid && grant_may_subscribe(grant, topic)) {
            strings_add(&f->subscribe, topic);
            strings_add(&f->topics, topic);
            continue;
        }
        *status = valid ? 403 : 400;
        buf_puts(why, "topics: ");
        json_put_string(why, topic);
        buf_puts(why, valid ? " does not lie within what your credentials grant"
                            : " is no topic or pattern");
        return true;
    }
    return false;
}

static bool has_value(const struct grant_fields *f, const char *name, const char *value)
{
    for (size_t i = 0; i < f->match_count; i++)
        if (strcmp(f->match[i].name, name) == 0)
            return strings_have(&f->match[i].values, slice_of(value));
    return false;
}

static bool narrow_match(const cJSON *match, const struct grant *grant, struct grant_fields *f,
                         unsigned *status, struct buf *why)
{
    const cJSON *pair;
    *status = 400;
    if (!cJSON_IsObject(match)) {
        buf_puts(why, "match: expected an object of texts");
        return true;
    }
    grant_claims_reset(&f->match, &f->match_count); /* it has these pairs and no others */
    cJSON_ArrayForEach(pair, match)
    {
        const char *value = cJSON_IsString(pair) ? pair->valuestring : NULL;
        if (!value || !has_value(grant_fields(grant), pair->string, value)) {
            *status = value ? 403 : 400;
            buf_puts(why, "match: ");
            json_put_string(why, slice_of(pair->string));
            buf_puts(why, value ? " has a value that your credentials do not grant"
                                : " expected a text");
            return true;
        }
        grant_claims_add(&f->match, &f->match_count, slice_of(pair->string), slice_of(value));
    }
    return false;
}

static bool narrow(struct slice body, const struct grant *grant, struct grant_fields *f,
                   unsigned *status, struct buf *why)
{
    cJSON *tree = NULL;
    const cJSON *member;
    bool wrong = false;
    *status = 400;
    if (json_parse(body, &tree) || !cJSON_IsObject(tree) || !members_are_unique(tree)) {
        buf_puts(why, "body: expected nothing, or {\"topics\":[…],\"match\":{…}}, each once");
        wrong = true;
    }
    for (member = wrong ? NULL : tree->child; member && !wrong; member = member->next) {
        if (strcmp(member->string, "topics") == 0) {
            wrong = narrow_topics(member, grant, f, status, why);
        } else if (strcmp(member->string, "match") == 0) {
            wrong = narrow_match(member, grant, f, status, why);
        } else {
            buf_puts(why, "body: unknown member ");
            json_put_string(why, slice_of(member->string));
            buf_puts(why, "; there are topics and match");
            wrong = true;
        }
    }
    cJSON_Delete(tree);
    return wrong;
}

/* --- issuing ---------------------------------------------------------------------------------- */

static void on_issued(struct routes *r, struct routes_visit *v, struct note_call *answer)
{
    if (answer->error) {
        routes_refuse_later(r, v, 1, SLICE_LIT("Redis did not take the ticket; try again"));
        return;
    }
    struct buf body = {0};
    metrics_add(r->node->metrics[r->worker], M_TICKETS_ISSUED, 1);
    buf_puts(&body, "{\"ticket\":");
    json_put_string(&body, slice_of(v->secret));
    buf_printf(&body, ",\"expires_in\":%d}", TICKET_MS / 1000);
    routes_reply(r, v->call, 200, "application/json", &body, NULL);
}

static uint64_t worthless_from(const struct routes *r, const struct grant *grant)
{
    uint64_t exp_s = grant_fields(grant)->exp_s;
    return exp_s ? exp_s + r->config->auth_leeway_ms / 1000 : 0;
}

/* @grant: what the ticket grants; its reference is ours. */
static void issue(struct routes *r, struct routes_visit *v, struct grant *grant)
{
    struct buf text = {0}, hash = {0}, json = {0};
    struct strings args = {0};
    char *ns = slice_dup(slice_of(grant_fields(grant)->ns));
    buf_printf(&text, "%s~", ns);
    if (digest_put_random(&text, TICKET_RANDOM)) {
        routes_refuse_later(r, v, 1, SLICE_LIT("this machine has no random bytes to give"));
    } else {
        digest_put_hex(&hash, buf_slice(&text));
        grant_put_json(&json, grant);
        strings_add(&args, buf_slice(&hash));
        routes_arg_add(&args, "grant");
        strings_add(&args, buf_slice(&json));
        routes_arg_add_u64(&args, "ttl", TICKET_MS);
        routes_arg_add_u64(&args, "until", worthless_from(r, grant));
        v->secret = buf_take(&text, NULL);
        routes_wait_store(r, v, "sse_ticket", ns, &args, on_issued);
    }
    buf_reset(&text);
    buf_reset(&hash);
    buf_reset(&json);
    grant_unref(grant);
    free(ns);
}

void routes_serve_tickets(struct routes *r, struct routes_visit *v)
{
    struct grant_fields f = {0};
    struct buf why = {0};
    unsigned status;
    struct slice body = front_view(v->call)->body;
    grant_fields_copy(&f, grant_fields(v->grant));
    f.from_ticket = true;
    if (!f.ns)
        routes_refuse(r, v, 403,
                      SLICE_LIT("your credentials name no namespace that their issuer may speak "
                                "for"));
    else if (slice_trim(body).len && narrow(body, v->grant, &f, &status, &why))
        routes_refuse(r, v, status, buf_slice(&why));
    else
        issue(r, v, grant_new(&f));
    grant_fields_reset(&f);
    buf_reset(&why);
}
