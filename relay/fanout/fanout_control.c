/* SPDX-License-Identifier: Apache-2.0 */
/* What others want of one stream, by the control channel: another grant, its end, a pause, other
 * topics. docs/protocol.md, 4.8, 10.6 and 14.8. */
#include <string.h>

#include "common/json.h"
#include "common/names.h"
#include "relay/core/connection_topic.h"
#include "relay/fanout/fanout_parts.h"

void fanout_make_id(struct fanout *f, struct connection_id *out)
{
    id_pool_take(&f->shared.ids, out);
    out->tag = f->shared.node->tag;
    out->worker = f->shared.worker;
}

#define GONE "there is no such connection"

/* The same whatever is wrong with the id: who guesses learns nothing. */
static struct stream *find_stream(const struct fanout *f, const struct note_control *note)
{
    struct connection_id id;
    if (connection_id_parse(slice_of(note->connection), &id) || id.tag != f->shared.node->tag ||
        id.worker != f->shared.worker)
        return NULL;
    struct stream *s = stream_find(&f->shared, &id);
    return s && s->client.state != CLIENT_CLOSING ? s : NULL;
}

static bool is_text(const cJSON *item, const char *text)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

static void take_end(struct stream *s, struct note_control *note)
{
    cJSON *body;
    bool is_replaced = false;
    if (!json_parse(slice_of(note->body), &body)) {
        is_replaced = is_text(cJSON_GetObjectItemCaseSensitive(body, "reason"), "replaced");
        cJSON_Delete(body);
    }
    if (!s->has_lease) {
        note_control_answer(note, 404, GONE);
        return;
    }
    if (!is_replaced) {
        note_control_answer(note, 403, "a connection is only ended for the reason \"replaced\"");
        return;
    }
    stream_end(s, CLOSE_REPLACED);
    note->status = 200;
}

void fanout_address(struct fanout *f, struct slice ns, struct slice topic)
{
    struct connection_id id;
    if (connection_topic_parse(topic, &id) || id.tag != f->shared.node->tag ||
        id.worker != f->shared.worker)
        return;
    struct stream *s = stream_find(&f->shared, &id);
    if (s && s->client.state != CLIENT_CLOSING && slice_eq(subscription_ns(s->client.sub), ns))
        stream_address(s);
}

/* --- whose stream it is ----------------------------------------------------------------------- */

/* Of a stream with a grant: who has one of the same subject, or the ticket that has opened it; of
 * an anonymous one who knows its id, which nobody guesses. */
static bool owns(struct stream *s, const cJSON *asked)
{
    const cJSON *by = cJSON_GetObjectItemCaseSensitive(asked, "by");
    const char *ticket = stream_ticket(s);
    struct grant *grant;
    if (!s->has_lease ||
        (ticket && is_text(cJSON_GetObjectItemCaseSensitive(asked, "ticket"), ticket)))
        return true;
    if (!cJSON_IsString(by) || grant_parse_json(slice_of(by->valuestring), &grant))
        return false;
    const struct grant *own = subscription_request(s->client.sub)->grant;
    bool same = grant_is_same_subject(own, grant) || grant_are_both_nobody(own, grant);
    grant_unref(grant);
    return same;
}

/* --- other topics ----------------------------------------------------------------------------- */

/* They come from another relay, which has looked at them, if it is one. */
static bool take_names(const cJSON *asked, const char *member, struct strings *out)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(asked, member))
    {
        if (!cJSON_IsString(item) || !name_pattern_valid(slice_of(item->valuestring)))
            return false;
        strings_add_new(out, slice_of(item->valuestring));
    }
    return true;
}

/* What it asks for already it may have: its route has granted what its grant does not. */
static bool has_topic(const struct stream *s, const char *topic)
{
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    return strings_find(topics, slice_of(topic)) < stream_count_asked(s);
}

static const char *find_not_granted(const struct stream *s, const struct strings *topics)
{
    const struct grant *grant = subscription_request(s->client.sub)->grant;
    for (size_t i = 0; grant && i < topics->count; i++)
        if (!grant_may_subscribe(grant, slice_of(topics->items[i])) &&
            !has_topic(s, topics->items[i]))
            return topics->items[i];
    return NULL;
}

/* True: the answer comes later. */
static bool take_topics(struct stream *s, struct note_control *note, const cJSON *asked)
{
    struct strings add = {0}, remove = {0};
    const char *topic = NULL;
    bool is_later = false;
    if (!take_names(asked, "subscribe", &add) || !take_names(asked, "unsubscribe", &remove)) {
        note_control_answer(note, 400, "the topics cannot be read");
    } else if ((topic = find_not_granted(s, &add))) {
        struct buf why = {0};
        buf_printf(&why, "subscribe: \"%s\" is not granted to this stream", topic);
        note->status = 403;
        note->detail = buf_take(&why, NULL);
    } else {
        stream_change_topics(s, &add, &remove, note);
        is_later = true;
    }
    strings_reset(&add);
    strings_reset(&remove);
    return is_later;
}

/* --- what is asked ---------------------------------------------------------------------------- */

/* True: the answer comes later. */
static bool take_wish(struct stream *s, struct note_control *note, const cJSON *asked)
{
    if (!owns(s, asked)) {
        note_control_answer(note, 403, "the stream is of another subject, issuer or namespace");
        return false;
    }
    if (strcmp(note->action, "topics") == 0)
        return take_topics(s, note, asked);
    if (strcmp(note->action, "pause") == 0)
        (void)stream_pause(s);
    else
        (void)stream_resume(s);
    note->status = 200;
    return false;
}

static bool is_wish(const char *action)
{
    return strcmp(action, "pause") == 0 || strcmp(action, "resume") == 0 ||
           strcmp(action, "topics") == 0;
}

bool fanout_control(struct fanout *f, struct note_control *note, const struct revoked *revoked)
{
    struct stream *s = find_stream(f, note);
    cJSON *asked = NULL;
    bool is_later = false;
    if (s && s->has_lease && strcmp(note->action, "renew") == 0)
        fanout_take_renewal(s, note, revoked);
    else if (s && strcmp(note->action, "end") == 0)
        take_end(s, note);
    else if (!s || !is_wish(note->action))
        note_control_answer(note, 404, GONE);
    else if (json_parse(slice_of(note->body), &asked))
        note_control_answer(note, 400, "the request cannot be read");
    else
        is_later = take_wish(s, note, asked);
    cJSON_Delete(asked);
    return !is_later;
}
