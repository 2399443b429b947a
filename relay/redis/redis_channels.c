/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mem.h"
#include "relay/redis/redis_channels_parts.h"
#include "relay/redis/redis_probe.h"

/* --- who wants what -------------------------------------------------------------------------- */

static void channel_count_workers(struct channel *c)
{
    c->workers = 0;
    for (size_t i = 0; i < c->name_count; i++)
        c->workers |= c->names[i]->workers;
}

void redis_channels_watch(struct redis_channels *ch, struct store_name *name)
{
    struct channel *c = redis_channels_get(ch, name);
    c->names = mem_resize(c->names, (c->name_count + 1) * sizeof(*c->names));
    c->names[c->name_count++] = name;
    name->impl = c;
    channel_count_workers(c);
    name->heard = c->state == CHANNEL_HEARD;
    if (name->heard)
        ch->handler->heard(ch->arg, name);
    else if (c->state == CHANNEL_NEW)
        redis_channels_todo(ch, c);
}

void redis_channels_unwatch(struct redis_channels *ch, struct store_name *name)
{
    struct channel *c = name->impl;
    for (size_t i = 0; i < c->name_count; i++) {
        if (c->names[i] != name)
            continue;
        c->names[i] = c->names[--c->name_count];
        break;
    }
    channel_count_workers(c);
    if (c->name_count)
        return;
    if (c->state == CHANNEL_ASKED || c->state == CHANNEL_HEARD)
        redis_channels_todo(ch, c); /* it may be wanted again within this turn */
    else
        redis_channels_release(ch, c);
}

void redis_channels_rewatch(struct redis_channels *ch, struct store_name *name)
{
    (void)ch;
    channel_count_workers(name->impl);
}

/* --- the connection ------------------------------------------------------------------------- */

static void check_ready(struct redis_channels *ch)
{
    if (!ch->starting || ch->awaited || !ch->proven)
        return;
    ch->starting = false;
    ch->handler->ready(ch->arg);
}

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_channels *ch = w->data;
    if (!TAILQ_EMPTY(&ch->todo) && redis_conn_is_up(ch->conn))
        redis_channels_ask_todo(ch);
    check_ready(ch); /* the last that was awaited may have gone */
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    redis_channels_ask_again(w->data);
}

static void on_push(void *arg, const struct redis_reply *reply)
{
    struct redis_channels *ch = arg;
    size_t count = redis_reply_count(reply);
    struct slice kind = count ? redis_reply_text(redis_reply_at(reply, 0)) : SLICE_NONE;
    bool direct = count == 3 && slice_is(kind, "message");
    bool matched = count == 4 && slice_is(kind, "pmessage");
    if (!direct && !matched) {
        redis_channels_run_end(ch); /* what is subscribed changes: runs end */
        redis_channels_answer(ch, reply);
        check_ready(ch);
        return;
    }
    struct slice text = redis_reply_text(redis_reply_at(reply, 1));
    struct slice channel = redis_reply_text(redis_reply_at(reply, matched ? 2 : 1));
    struct slice payload = redis_reply_text(redis_reply_at(reply, matched ? 3 : 2));
    struct channel *c = redis_channels_find(ch, matched, text);
    if (c && c->subject == STORE_BRIDGE) {
        redis_channels_bridge(ch, c, channel, payload);
    } else if (c && c->subject != STORE_EVENTS) {
        redis_channels_run_end(ch);
        if (!c->name_count)
            return; /* it is being left */
        if (c->subject == STORE_CONNECTIONS)
            redis_channels_addressed(ch, c->names[0], payload);
        else
            ch->handler->told(ch->arg, c->names[0], payload);
    } else if (c) {
        redis_channels_message(ch, c, channel, payload);
    } else if (direct && slice_eq(text, redis_probe_channel(ch->probe))) {
        redis_channels_run_end(ch);
        redis_probe_hear(ch->probe, payload);
    }
}

static void forget_answers(struct redis_channels *ch, struct channel *table)
{
    struct channel *c, *tmp;
    HASH_ITER (hh, table, c, tmp) {
        c->state = CHANNEL_NEW;
        c->due = 0;
        c->awaited = false;
        for (size_t i = 0; i < c->name_count; i++)
            c->names[i]->heard = false;
        if (c->name_count)
            redis_channels_todo(ch, c);
        else
            redis_channels_remove(ch, c);
    }
}

static void on_up(void *arg)
{
    struct redis_channels *ch = arg;
    metrics_set(ch->metrics, M_REDIS_UP_SUBSCRIBER, 1);
    ch->starting = true;
    ch->proven = false;
    struct channel *c;
    TAILQ_FOREACH (c, &ch->todo, todo) {
        c->awaited = true;
        ch->awaited++;
    }
    redis_probe_begin(ch->probe);
    redis_channels_ask_probe(ch);
    redis_channels_ask_todo(ch);
}

static void on_down(void *arg, const char *why)
{
    (void)why;
    struct redis_channels *ch = arg;
    metrics_set(ch->metrics, M_REDIS_UP_SUBSCRIBER, 0);
    redis_probe_end(ch->probe);
    redis_channels_run_end(ch);
    ch->deaf = true;
    ch->starting = false;
    ch->awaited = ch->refused = 0;
    redis_channels_forget_asks(ch);
    forget_answers(ch, ch->direct);
    forget_answers(ch, ch->globs);
    redis_channels_pause(ch, CHANNELS_REPAIR, false);
    ch->handler->down(ch->arg);
}

static void on_probe_heard(void *arg)
{
    struct redis_channels *ch = arg;
    ch->proven = true;
    check_ready(ch);
}

static void on_probe_passed(void *arg, uint64_t mark)
{
    struct redis_channels *ch = arg;
    ch->handler->passed(ch->arg, mark);
}

static void on_probe_dead(void *arg, const char *why)
{
    struct redis_channels *ch = arg;
    redis_conn_drop(ch->conn, why);
}

static void on_probe_replica(void *arg)
{
    struct redis_channels *ch = arg;
    ch->handler->replica(ch->arg);
}

struct redis_channels *redis_channels_new(struct ev_loop *loop, struct redis_target *target,
                                          struct redis_conn *commands, struct config *config,
                                          const struct redis_channels_handler *handler, void *arg,
                                          struct metrics *metrics)
{
    static const struct redis_conn_handler conn_handler = {on_up, on_down, on_push};
    static const struct redis_probe_handler probe_handler = {on_probe_heard, on_probe_passed,
                                                             on_probe_dead, on_probe_replica};
    struct redis_channels *ch = mem_zero(1, sizeof(*ch));
    ch->loop = loop;
    ch->config = config_ref(config);
    ch->handler = handler;
    ch->arg = arg;
    ch->metrics = metrics;
    ch->deaf = true;
    ch->run = 1;
    TAILQ_INIT(&ch->todo);
    STAILQ_INIT(&ch->asks);
    ch->conn = redis_conn_new(loop, target, "subscriber", &conn_handler, ch, metrics);
    ch->probe = redis_probe_new(loop, commands, config, &probe_handler, ch, metrics);
    ev_prepare_init(&ch->flush, on_flush);
    ev_init(&ch->again, on_again);
    ch->flush.data = ch->again.data = ch;
    ev_prepare_start(loop, &ch->flush);
    return ch;
}

void redis_channels_free(struct redis_channels *ch)
{
    if (!ch)
        return;
    redis_conn_free(ch->conn);
    redis_probe_free(ch->probe);
    redis_channels_forget_asks(ch);
    ev_prepare_stop(ch->loop, &ch->flush);
    ev_timer_stop(ch->loop, &ch->again);
    struct channel *c, *tmp;
    HASH_ITER (hh, ch->direct, c, tmp)
        redis_channels_remove(ch, c);
    HASH_ITER (hh, ch->globs, c, tmp)
        redis_channels_remove(ch, c);
    event_unref(ch->run_event);
    buf_reset(&ch->run_channel);
    envelope_reset(&ch->envelope);
    config_unref(ch->config);
    free(ch);
}

void redis_channels_start(struct redis_channels *ch)
{
    redis_conn_start(ch->conn);
}

void redis_channels_configure(struct redis_channels *ch, struct config *config)
{
    config_unref(ch->config);
    ch->config = config_ref(config);
    redis_probe_configure(ch->probe, config);
}

void redis_channels_commands_up(struct redis_channels *ch)
{
    redis_probe_now(ch->probe);
}

void redis_channels_drop(struct redis_channels *ch, const char *why)
{
    redis_conn_drop(ch->conn, why);
}

void redis_channels_listen(struct redis_channels *ch)
{
    ch->deaf = false;
    redis_channels_pause(ch, CHANNELS_REPAIR, true);
}

void redis_channels_pause(struct redis_channels *ch, enum channels_pause reason, bool paused)
{
    ch->pauses = paused ? ch->pauses | reason : ch->pauses & ~(unsigned)reason;
    redis_conn_pause(ch->conn, ch->pauses != 0);
    redis_probe_hold(ch->probe, ch->pauses != 0);
}

uint64_t redis_channels_mark(struct redis_channels *ch)
{
    return redis_probe_mark(ch->probe);
}
