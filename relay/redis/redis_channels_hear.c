/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"
#include "common/names.h"
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

static struct event *parse_message(struct redis_channels *ch, struct slice channel,
                                   struct slice payload)
{
    struct event_fields fields;
    struct slice ns, topic;
    if (name_split_channel(channel, ch->config->prefix, &ns, &topic))
        goto invalid;
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
