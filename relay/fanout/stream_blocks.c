/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks that are no events: control events, heartbeats, positions. docs/protocol.md, 6.
 *
 * On each connection an EventSource starts with an empty id buffer, and the first blank line makes
 * it the last event id (WHATWG HTML, 9.2.6). So until relay.connected has brought an id, nothing
 * with a blank line may be sent: a client that is cut off then would have forgotten where it was.
 */
#include "common/json.h"
#include "common/sse.h"
#include "relay/fanout/stream_parts.h"

bool stream_blocks_are_on(const struct stream *s)
{
    return stream_control(s) == CONTROL_ON && s->client.state != CLIENT_OPENING;
}

void stream_blocks_put_topics(struct buf *json, const struct strings *topics)
{
    buf_puts(json, "\"topics\":[");
    for (size_t i = 0; i < topics->count; i++) {
        buf_puts(json, i ? "," : "");
        json_put_string(json, slice_of(topics->items[i]));
    }
    buf_putc(json, ']');
}

void stream_blocks_put_connected(struct stream *s, uint64_t start)
{
    struct stream_shared *shared = s->shared;
    const struct subscription_request *request = subscription_request(s->client.sub);
    bool from_zero = request->cursor == CURSOR_ID && request->cursor_value == 0 && !start;
    struct buf json = {0}, frame = {0};
    struct connection_id id;
    if (stream_control(s) != CONTROL_ON) {
        if (start || from_zero)
            client_stand_at(&s->client, start);
        return;
    }
    buf_puts(&json, "{\"connection_id\":\"");
    stream_id(s, &id);
    connection_id_put(&json, &id);
    buf_puts(&json, "\",\"node\":");
    json_put_string(&json, slice_of(shared->node->name));
    buf_putc(&json, ',');
    stream_blocks_put_topics(&json, &request->topics);
    buf_putc(&json, '}');
    if (from_zero) /* no event's id, and yet the cursor that was given */
        buf_puts(&frame, "id: 0\n");
    sse_put_control(&frame, start, shared->config->control_prefix, "connected", buf_slice(&json));
    if (s->has_lease)
        stream_lease_tells_id(s);
    client_put_control(&s->client, event_new_frame(start, buf_slice(&frame)));
    buf_reset(&json);
    buf_reset(&frame);
}

/* @end: of one that tells how its topic has ended. */
static void put_control(struct stream *s, const char *name, const struct buf *json,
                        enum topic_end end)
{
    struct buf frame = {0};
    sse_put_control(&frame, 0, s->shared->config->control_prefix, name, buf_slice(json));
    client_put_control(&s->client, event_new_end_frame(end, buf_slice(&frame)));
    buf_reset(&frame);
}

void stream_blocks_put_expiring(struct stream *s, uint64_t left_ms)
{
    struct buf json = {0};
    buf_printf(&json, "{\"in\":%llu}", (unsigned long long)left_ms);
    put_control(s, "expiring", &json, END_NONE);
    buf_reset(&json);
}

void stream_blocks_put_paused(struct stream *s, const char *name)
{
    struct buf json = {0};
    if (!stream_blocks_are_on(s))
        return;
    buf_puts(&json, "{}");
    put_control(s, name, &json, END_NONE);
    buf_reset(&json);
}

void stream_blocks_put_subscribed(struct stream *s, const struct strings *topics, uint64_t from)
{
    struct buf json = {0};
    if (!stream_blocks_are_on(s))
        return;
    buf_putc(&json, '{');
    stream_blocks_put_topics(&json, topics);
    buf_printf(&json, ",\"from\":\"%llu\"}", (unsigned long long)from);
    put_control(s, "subscribed", &json, END_NONE);
    buf_reset(&json);
}

void stream_blocks_put_unsubscribed(struct stream *s, const struct strings *topics)
{
    struct buf json = {0};
    if (!stream_blocks_are_on(s))
        return;
    buf_putc(&json, '{');
    stream_blocks_put_topics(&json, topics);
    buf_putc(&json, '}');
    put_control(s, "unsubscribed", &json, END_NONE);
    buf_reset(&json);
}

void stream_blocks_put_end(struct stream *s, const struct note_end *end)
{
    struct buf json = {0};
    buf_puts(&json, "{\"topic\":");
    json_put_string(&json, slice_of(end->topic));
    buf_printf(&json, ",\"id\":\"%llu\",\"reason\":\"%s\"}", (unsigned long long)end->id,
               topic_end_name(end->reason));
    put_control(s, "end", &json, end->reason);
    buf_reset(&json);
}

void stream_blocks_put_shutdown(struct stream *s, const char *reason)
{
    struct buf json = {0};
    buf_printf(&json, "{\"reason\":\"%s\"}", reason);
    put_control(s, "shutdown", &json, END_NONE);
    buf_reset(&json);
}

/* It stands further on than it knows: events were left out by the type filter, which a resume would
 * read all again, or control events are off. With `off` it is never told by a block of its own:
 * many clients take a block that has only an id for an event. */
static bool is_position_due(const struct stream *s)
{
    const struct client *c = &s->client;
    return stream_control(s) != CONTROL_OFF && c->state == CLIENT_LIVE &&
           (c->out.told < client_position(c) || c->out.owes_id);
}

/* Of a route that has a type of its own for them. */
static void put_own_heartbeat(struct stream *s, const char *type)
{
    struct buf frame = {0};
    sse_put_control(&frame, 0, type, "", SLICE_LIT("{}"));
    client_put_control(&s->client, event_new_frame(0, buf_slice(&frame)));
    buf_reset(&frame);
}

void stream_blocks_put_heartbeat(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    const char *own = subscription_request(s->client.sub)->heartbeat_event;
    if (is_position_due(s))
        client_put_position(&s->client);
    else if (s->client.state == CLIENT_OPENING)
        client_put_control(&s->client, event_ref(shared->comment));
    else if (own)
        put_own_heartbeat(s, own);
    else
        client_put_control(&s->client, event_ref(shared->heartbeat));
}
