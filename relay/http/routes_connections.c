/* SPDX-License-Identifier: Apache-2.0 */
/* POST /connections/{connection_id}/pause and /resume, and PATCH /connections/{connection_id}: what
 * is wanted of an open stream of this node or another. docs/protocol.md, 4.8. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/names.h"
#include "common/url.h"
#include "relay/auth/members.h"
#include "relay/http/routes_parts.h"

enum { WISH_BYTES_MAX = 64 << 10 }; /* on its way to another node it is quoted, and may double */

/* --- who asks --------------------------------------------------------------------------------- */

/* What the stream's node judges by: the grant as a text, or the ticket that has opened it. */
static void put_asker(struct buf *b, const struct routes_visit *v)
{
    struct buf grant = {0};
    buf_putc(b, '{');
    if (v->ticket[0])
        buf_printf(b, "\"ticket\":\"%s\"", v->ticket);
    if (v->grant) {
        grant_put_json(&grant, v->grant);
        buf_puts(b, "\"by\":");
        json_put_string(b, buf_slice(&grant));
        buf_reset(&grant);
    }
}

static bool may_ask(struct routes *r, struct routes_visit *v)
{
    return routes_pass_origin(r, v, "ask for that");
}

static void refuse_as_told(struct routes *r, struct routes_visit *v,
                           const struct note_remote *answer)
{
    struct slice why = answer->detail ? slice_of(answer->detail) : SLICE_LIT("");
    routes_refuse(r, v, answer->status, why);
}

/* --- a pause ---------------------------------------------------------------------------------- */

static void reply_paused(struct routes *r, struct routes_visit *v, const struct note_remote *answer,
                         const char *json)
{
    struct buf body = {0};
    if (answer->status != 200) {
        refuse_as_told(r, v, answer);
        return;
    }
    buf_puts(&body, json);
    routes_reply(r, v->call, 200, "application/json", &body, NULL);
}

static void on_paused(struct routes *r, struct routes_visit *v, struct note_remote *answer)
{
    reply_paused(r, v, answer, "{\"paused\":true}");
}

static void on_resumed(struct routes *r, struct routes_visit *v, struct note_remote *answer)
{
    reply_paused(r, v, answer, "{\"paused\":false}");
}

static void ask(struct routes *r, struct routes_visit *v, const char *action,
                void (*told)(struct routes *r, struct routes_visit *v, struct note_remote *answer))
{
    struct buf body = {0};
    if (!may_ask(r, v))
        return;
    put_asker(&body, v);
    buf_putc(&body, '}');
    routes_wait_remote(r, v, action, buf_take(&body, NULL), told);
}

void routes_serve_pause(struct routes *r, struct routes_visit *v)
{
    ask(r, v, "pause", on_paused);
}

void routes_serve_resume(struct routes *r, struct routes_visit *v)
{
    ask(r, v, "resume", on_resumed);
}

/* --- other topics ----------------------------------------------------------------------------- */

/* What the next request for the stream asks for in place of its topics. */
static void put_query(struct buf *b, const cJSON *topics)
{
    const cJSON *item;
    struct buf query = {0};
    cJSON_ArrayForEach(item, topics)
    {
        buf_puts(&query, query.len ? "&topic=" : "topic=");
        url_encode(&query, slice_of(cJSON_GetStringValue(item)));
    }
    json_put_string(b, query.len ? buf_slice(&query) : SLICE_LIT(""));
    buf_reset(&query);
}

/* The stream's node has answered with `"topics":[…]`. */
static void on_changed(struct routes *r, struct routes_visit *v, struct note_remote *answer)
{
    struct buf body = {0};
    cJSON *tree = NULL;
    if (answer->status != 200) {
        refuse_as_told(r, v, answer);
        return;
    }
    buf_printf(&body, "{%s}", answer->detail ? answer->detail : "");
    if (json_parse(buf_slice(&body), &tree)) {
        buf_reset(&body);
        routes_refuse(r, v, 502, SLICE_LIT("the stream's node gave an answer that cannot be read"));
        return;
    }
    body.len--;
    buf_puts(&body, ",\"query\":");
    put_query(&body, cJSON_GetObjectItemCaseSensitive(tree, "topics"));
    buf_putc(&body, '}');
    cJSON_Delete(tree);
    routes_reply(r, v->call, 200, "application/json", &body, NULL);
}

#define NO_LISTS                                                                                   \
    "body: expected a JSON object with subscribe, unsubscribe, or both, each a list of topics "    \
    "and "                                                                                         \
    "patterns"

/* Appends the list as it was given. False: *why says what is wrong with it. */
static bool put_list(struct buf *b, const cJSON *list, struct buf *why)
{
    const cJSON *item;
    if (!cJSON_IsArray(list)) {
        buf_puts(why, NO_LISTS);
        return false;
    }
    json_put_string(b, slice_of(list->string));
    buf_puts(b, ":[");
    cJSON_ArrayForEach(item, list)
    {
        const char *name = cJSON_GetStringValue(item);
        if (!name || !name_pattern_valid(slice_of(name))) {
            buf_printf(why,
                       "%s: expected topics and patterns of 1 to 512 bytes of UTF-8 in tokens "
                       "separated by dots, without spaces; not \"%.80s\"",
                       list->string, name ? name : "something that is no text");
            return false;
        }
        buf_puts(b, item == list->child ? "" : ",");
        json_put_string(b, slice_of(name));
    }
    buf_putc(b, ']');
    return true;
}

static bool put_wish(struct buf *b, struct slice body, struct buf *why)
{
    cJSON *tree = NULL;
    bool good = json_parse(body, &tree) == OK && cJSON_IsObject(tree) && tree->child &&
                members_are_unique(tree);
    if (!good)
        buf_puts(why, NO_LISTS);
    for (const cJSON *item = good ? tree->child : NULL; item && good; item = item->next) {
        bool known =
            strcmp(item->string, "subscribe") == 0 || strcmp(item->string, "unsubscribe") == 0;
        if (!known)
            buf_puts(why, NO_LISTS);
        buf_puts(b, b->ptr[b->len - 1] == '{' ? "" : ",");
        good = known && put_list(b, item, why);
    }
    cJSON_Delete(tree);
    if (good && b->len > WISH_BYTES_MAX) {
        buf_puts(why, "body: too much at a time; ask in several requests");
        return false;
    }
    return good;
}

void routes_serve_topics(struct routes *r, struct routes_visit *v)
{
    struct buf body = {0}, why = {0};
    if (!may_ask(r, v))
        return;
    put_asker(&body, v);
    if (put_wish(&body, front_view(v->call)->body, &why)) {
        buf_putc(&body, '}');
        routes_wait_remote(r, v, "topics", buf_take(&body, NULL), on_changed);
    } else {
        buf_reset(&body);
        routes_refuse(r, v, 400, buf_slice(&why));
    }
    buf_reset(&why);
}
