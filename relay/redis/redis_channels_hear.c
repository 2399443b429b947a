/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"
#include "common/names.h"
#include "relay/core/connection_topic.h"
#include "relay/redis/redis_channels_parts.h"

void redis_channels_run_end(struct redis_channels *ch)
{
    ch->run++;
    buf_clear(&ch->run_channel);
    event_unref(ch->run_event);
    ch->run_event = NULL;
}

static void count_dropped(struct redis_channels *ch, enum metric metric, const char *what,
                          struct slice channel)
{
    uint64_t held;
    metrics_add(ch->metrics, metric, 1);
    if (!log_limit_pass(&ch->invalid_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(channel);
    log_put(LOG_WARN, what, "channel", text, "not_logged", log_u64(held), NULL);
    free(text);
}

static void count_invalid(struct redis_channels *ch, const char *what, struct slice channel)
{
    count_dropped(ch, M_DROPPED_INVALID, what, channel);
}

/* @channel: for the log. */
static struct event *parse_event(struct redis_channels *ch, struct slice ns, struct slice topic,
                                 struct slice channel, struct slice payload)
{
    struct event_fields fields;
    if (payload.len > ch->config->max_event_bytes * 8) { /* before its tree takes many times that */
        count_invalid(ch, "dropped a live message that is too large; looking for it in the log",
                      channel);
        ch->handler->oversize(ch->arg, ns);
        return NULL;
    }
    enum err e = envelope_parse(&ch->envelope, payload, ns, topic, &fields);
    if ((e && e != ERR_NOT_FOUND) ||
        event_type_is_reserved(fields.type, ch->config->control_prefix))
        goto invalid;
    if (ch->deaf && (fields.id || config_has_auth(ch->config)))
        return NULL;
    if (fields.has_match && !fields.match.len)
        count_dropped(ch, M_DROPPED_MATCH, "an event reaches nobody: its match cannot be read",
                      channel);
    return store_event(ch->config, &fields, clock_mono_us());

invalid:
    count_invalid(ch, "dropped a message that is not a valid event", channel);
    return NULL;
}

static struct event *parse_message(struct redis_channels *ch, struct slice channel,
                                   struct slice payload)
{
    struct slice ns, topic;
    if (name_split_channel(channel, ch->config->prefix, &ns, &topic) == OK)
        return parse_event(ch, ns, topic, channel, payload);
    count_invalid(ch, "dropped a message that is not a valid event", channel);
    return NULL;
}

/* The connection's id, and then what its topic's channel is sent. */
void redis_channels_addressed(struct redis_channels *ch, const struct store_name *name,
                              struct slice payload)
{
    struct buf topic = {0};
    if (payload.len < CONNECTION_ID_CHARS) {
        count_invalid(ch, "dropped a message for a connection that is not valid",
                      slice_of(name->ns));
        return;
    }
    buf_puts(&topic, CONNECTION_TOPIC_PREFIX);
    buf_put(&topic, payload.ptr, CONNECTION_ID_CHARS);
    payload = (struct slice){payload.ptr + CONNECTION_ID_CHARS, payload.len - CONNECTION_ID_CHARS};
    struct event *ev =
        parse_event(ch, slice_of(name->ns), buf_slice(&topic), buf_slice(&topic), payload);
    if (ev)
        ch->handler->addressed(ch->arg, ev);
    event_unref(ev);
    buf_reset(&topic);
}

void redis_channels_message(struct redis_channels *ch, struct channel *c, struct slice channel,
                            struct slice payload)
{
    bool same_publish = slice_eq(buf_slice(&ch->run_channel), channel) && c->run != ch->run;
    if (!same_publish) {
        redis_channels_run_end(ch);
        buf_put_slice(&ch->run_channel, channel);
        ch->run_event = parse_message(ch, channel, payload);
        ch->run_workers = 0;
    }
    c->run = ch->run;
    uint64_t workers = c->workers & ~ch->run_workers;
    if (!ch->run_event || !workers)
        return;
    ch->run_workers |= workers;
    ch->handler->event(ch->arg, ch->run_event, workers);
}

/* A wide glob brings our own channels, too: what is meant for relays alone stays with them, and
 * events come without a bridge (a run of them goes on). With authentication what comes while a
 * stream may have been revoked is dropped, as other events without an id are. */
void redis_channels_bridge(struct redis_channels *ch, struct channel *c, struct slice channel,
                           struct slice payload)
{
    if (name_is_own(channel, ch->config->prefix))
        return;
    redis_channels_run_end(ch);
    if (ch->deaf && config_has_auth(ch->config))
        return;
    for (size_t i = 0; i < c->name_count; i++)
        ch->handler->bridged(ch->arg, c->names[i], channel, payload);
}
