/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/store_redis.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"
#include "relay/redis/redis_bridges.h"
#include "relay/redis/redis_calls.h"
#include "relay/redis/redis_channels.h"
#include "relay/redis/redis_clock.h"
#include "relay/redis/redis_condition.h"
#include "relay/redis/redis_inbox.h"
#include "relay/redis/redis_library.h"
#include "relay/redis/redis_position.h"
#include "relay/redis/redis_posts.h"
#include "relay/redis/redis_reader.h"
#include "relay/redis/redis_sentinel.h"
#include "relay/redis/redis_settings.h"

static const double RETRY_S = 1.0;

struct store_redis {
    struct bus *bus;
    const struct store_events *events;
    struct ev_loop *loop;
    struct config *config;
    struct metrics *metrics;
    struct redis_url url;
    struct redis_target *target;
    struct redis_sentinel *sentinel; /* NULL: the URL has the address */
    struct redis_conn *commands;
    struct redis_clock *clock;
    struct redis_channels *channels;
    struct redis_library *library;
    struct redis_inbox *inbox;
    struct redis_bridges *bridges;
    struct redis_reader *reader;
    struct redis_calls *calls;
    struct redis_posts *posts;
    struct redis_settings *settings; /* NULL: an account was made for the relay, and may not ask */
    bool library_ready, channels_ready;
    bool unopened;   /* the functions were not there when the namespaces were to be opened */
    bool unrepaired; /* the subscriber was away, and what it missed has not been read yet */
    bool up;         /* the bus has been told */
    bool moved;      /* it is another server than the one before */
    char server[64]; /* which one */
    struct redis_condition *condition;
    char opened_ns[NAME_NS_MAX + 1]; /* the last that was to be opened: what is asked again to see
                                        whether Redis takes writes */
    struct log_limit error_limit;
    ev_timer retry; /* after an answer that said "not now" */
};

/* --- its condition --------------------------------------------------------------------------- */

static enum store_condition op_condition(const void *impl)
{
    return redis_condition(((const struct store_redis *)impl)->condition);
}

static int64_t op_clock_offset_us(const void *impl)
{
    return redis_clock_offset_us(((const struct store_redis *)impl)->clock);
}

/* @reply is to a call that writes. True: Redis refuses that, and is asked again until it does not.
 */
static bool refuses_writes(struct store_redis *s, const struct redis_reply *reply)
{
    enum redis_writes writes = redis_condition_hear(s->condition, reply);
    if (writes != WRITES_TAKEN)
        timer_once(s->loop, &s->retry, writes == WRITES_BACK ? 0. : RETRY_S);
    return writes == WRITES_REFUSED;
}

/* --- going up and down ----------------------------------------------------------------------- */

static enum store_loss loss(const struct store_redis *s)
{
    return !s->unrepaired ? STORE_WHOLE : s->moved ? STORE_MOVED : STORE_BROKEN;
}

static void check_up(struct store_redis *s)
{
    if (s->up || !s->library_ready || !s->channels_ready)
        return;
    s->up = true;
    /* Where INFO is forbidden any reconnect may have led elsewhere. */
    const char *server = redis_library_server(s->library);
    s->moved |= !server[0] || strcmp(server, s->server) != 0;
    snprintf(s->server, sizeof(s->server), "%s", server);
    if (s->unrepaired)
        redis_channels_listen(s->channels);
    s->events->up(s->bus, loss(s));
}

static void go_down(struct store_redis *s)
{
    if (!s->up)
        return;
    s->up = false;
    s->events->down(s->bus);
}

static void on_library_ready(void *arg)
{
    struct store_redis *s = arg;
    s->library_ready = true;
    if (redis_condition(s->condition) == STORE_CLUSTER)
        redis_condition_set(s->condition, STORE_GOOD);
    redis_posts_refuse(s->posts, false);
    if (s->unopened)
        s->events->reachable(s->bus);
    s->unopened = false;
    redis_inbox_enable(s->inbox, true);
    redis_bridges_enable(s->bridges, true);
    if (s->settings)
        redis_settings_look(s->settings);
    check_up(s);
    redis_posts_enable(s->posts, true);
}

static void on_library_failed(void *arg, const char *why)
{
    struct store_redis *s = arg;
    bool cluster = redis_library_is_in_cluster(s->library);
    redis_condition_set(s->condition, cluster ? STORE_CLUSTER : STORE_GOOD);
    if (cluster)
        redis_posts_obstacle(s->posts, why,
                             "this version does not follow a cluster; it needs a Redis that is "
                             "not in cluster mode");
    else
        redis_posts_obstacle(s->posts, "the function library is not ready", why);
    redis_posts_refuse(s->posts, cluster);
}

/* Nobody calls the functions meanwhile. */
static void library_not_ready(struct store_redis *s)
{
    s->library_ready = false;
    redis_inbox_enable(s->inbox, false);
    redis_bridges_enable(s->bridges, false);
    redis_posts_enable(s->posts, false);
}

/* Somebody flushed the functions, or this is a Redis that never had them: loads them. */
static void library_lost(struct store_redis *s)
{
    library_not_ready(s);
    s->unopened = true;
    go_down(s);
    redis_library_ensure(s->library);
}

/* An answer that says no, which the next one may not. */
static void say_no(struct store_redis *s, const char *what, const struct redis_reply *reply)
{
    uint64_t held;
    if (redis_reply_is_unusable(reply))
        return; /* the connections go, and what waits is tried on the next */
    if (redis_reply_type(reply) == REDIS_ERROR &&
        redis_error_is_missing_function(redis_reply_text(reply))) {
        library_lost(s);
        return;
    }
    if (log_limit_pass(&s->error_limit, clock_mono_us(), &held)) {
        struct slice text = redis_reply_text(reply);
        char *copy = text.ptr ? slice_dup(text) : mem_dup("unexpected answer", 17);
        log_put(LOG_ERROR, what, "reply", copy, "not_logged", log_u64(held), NULL);
        free(copy);
    }
    timer_once(s->loop, &s->retry, RETRY_S);
}

/* --- open ------------------------------------------------------------------------------------ */

static void on_opened(void *arg, const struct redis_reply *reply)
{
    struct store_redis *s = arg;
    if (!reply || refuses_writes(s, reply) || redis_reply_type(reply) != REDIS_ERROR)
        return;
    if (s->library_ready)
        say_no(s, "cannot open a namespace", reply);
    else
        s->unopened = true;
}

static void namespace_open(struct store_redis *s, const char *ns, uint64_t seen)
{
    if (ns != s->opened_ns)
        snprintf(s->opened_ns, sizeof(s->opened_ns), "%s", ns);
    redis_position_ask(s->commands, s->config, ns, seen, on_opened, s);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct store_redis *s = w->data;
    if (!s->up)
        return;
    if (redis_condition(s->condition) == STORE_READ_ONLY) {
        namespace_open(s, s->opened_ns, 0);
        return;
    }
    s->events->reachable(s->bus); /* what waits is tried again */
    s->events->up(s->bus, loss(s));
}

static void op_open(void *impl, const char *ns, uint64_t seen, bool watched)
{
    struct store_redis *s = impl;
    namespace_open(s, ns, seen);
    if (watched)
        redis_inbox_add(s->inbox, ns);
}

static void op_close(void *impl, const char *ns)
{
    struct store_redis *s = impl;
    redis_inbox_remove(s->inbox, ns);
}

/* --- reading --------------------------------------------------------------------------------- */

static void on_read_refused(void *arg, const char *what, const struct redis_reply *reply)
{
    say_no(arg, what, reply);
}

static void on_looked(void *arg, const struct redis_reply *reply)
{
    (void)refuses_writes(arg, reply);
}

static void op_look(void *impl, struct store_look *look)
{
    struct store_redis *s = impl;
    if (s->library_ready)
        redis_reader_look(s->reader, look);
    else
        look->done(look, ERR_AGAIN);
}

static void op_range(void *impl, struct store_range *range)
{
    redis_reader_range(((struct store_redis *)impl)->reader, range);
}

/* --- calls ----------------------------------------------------------------------------------- */

static void on_call_refused(void *arg, const char *what, const struct redis_reply *reply)
{
    if (!redis_error_refuses_writes(redis_reply_text(reply))) /* on_looked() has taken note */
        say_no(arg, what, reply);
}

static void op_call(void *impl, struct store_call *call)
{
    struct store_redis *s = impl;
    if (s->library_ready)
        redis_calls_call(s->calls, call);
    else
        call->done(call, ERR_AGAIN);
}

static void op_tell(void *impl, struct store_telling *telling)
{
    redis_calls_tell(((struct store_redis *)impl)->calls, telling);
}

static void on_told(void *arg, const struct store_name *name, struct slice text)
{
    struct store_redis *s = arg;
    s->events->told(s->bus, name, text);
}

/* --- publishing ------------------------------------------------------------------------------ */

static void on_post_opens(void *arg, const char *ns)
{
    namespace_open(arg, ns, 0);
}

static void on_lost_library(void *arg)
{
    library_lost(arg);
}

static void on_post_answered(void *arg, struct note_publish *note)
{
    struct store_redis *s = arg;
    bus_published(s->bus, note);
}

static void op_publish(void *impl, struct note_publish *note)
{
    redis_posts_publish(((struct store_redis *)impl)->posts, note);
}

static void op_drain(void *impl)
{
    struct store_redis *s = impl;
    redis_posts_drain(s->posts);
    redis_bridges_drain(s->bridges);
}

/* --- the connections ------------------------------------------------------------------------- */

static void on_commands_up(void *arg)
{
    struct store_redis *s = arg;
    metrics_set(s->metrics, M_REDIS_UP_COMMANDS, 1);
    /* Before anything else, even before it is known that the functions are there: until the counter
     * is raised a publisher may get an id that is too low from a new primary. */
    s->unopened = false;
    s->events->reachable(s->bus);
    redis_clock_ask(s->clock);
    redis_library_ensure(s->library);
    redis_channels_commands_up(s->channels);
}

static void on_commands_down(void *arg, const char *why)
{
    struct store_redis *s = arg;
    metrics_set(s->metrics, M_REDIS_UP_COMMANDS, 0);
    redis_library_stop(s->library);
    library_not_ready(s);
    redis_posts_obstacle(s->posts, "Redis cannot be reached", why);
    redis_posts_refuse(s->posts, false);
    redis_condition_set(s->condition, STORE_GOOD);
    go_down(s);
}

static void on_channels_ready(void *arg)
{
    struct store_redis *s = arg;
    s->channels_ready = true;
    check_up(s);
}

static void on_channels_down(void *arg)
{
    struct store_redis *s = arg;
    s->channels_ready = false;
    s->unrepaired = true;
    go_down(s);
}

/* Whatever is at the address now is to be found anew, by all connections. */
static void on_replica(void *arg)
{
    static const char why[] = "this Redis has become a replica";
    struct store_redis *s = arg;
    redis_conn_drop(s->commands, why);
    redis_channels_drop(s->channels, why);
    redis_inbox_drop(s->inbox, why);
    redis_bridges_drop(s->bridges, why);
}

static void on_heard(void *arg, struct store_name *name)
{
    struct store_redis *s = arg;
    s->events->heard(s->bus, name);
}

static void on_event(void *arg, struct event *ev, uint64_t workers)
{
    struct store_redis *s = arg;
    s->events->deliver(s->bus, ev, workers);
}

static void on_addressed(void *arg, struct event *ev)
{
    struct store_redis *s = arg;
    s->events->addressed(s->bus, ev);
}

static void on_oversize(void *arg, struct slice ns)
{
    struct store_redis *s = arg;
    s->events->missed(s->bus, ns);
}

static void on_passed(void *arg, uint64_t mark)
{
    struct store_redis *s = arg;
    s->events->passed(s->bus, mark);
}

static void on_bridged(void *arg, const struct store_name *name, struct slice channel,
                       struct slice payload)
{
    struct store_redis *s = arg;
    s->events->bridged(s->bus, name, channel, payload);
}

static uint64_t op_mark(void *impl)
{
    return redis_channels_mark(((struct store_redis *)impl)->channels);
}

static void op_start(void *impl)
{
    struct store_redis *s = impl;
    if (s->sentinel)
        redis_sentinel_start(s->sentinel);
    redis_conn_start(s->commands);
    redis_posts_start(s->posts);
    redis_channels_start(s->channels);
    redis_inbox_start(s->inbox);
    redis_bridges_start(s->bridges);
}

static void op_watch(void *impl, struct store_name *name)
{
    redis_channels_watch(((struct store_redis *)impl)->channels, name);
}

static void op_unwatch(void *impl, struct store_name *name)
{
    redis_channels_unwatch(((struct store_redis *)impl)->channels, name);
}

static void op_rewatch(void *impl, struct store_name *name)
{
    redis_channels_rewatch(((struct store_redis *)impl)->channels, name);
}

static void op_pause(void *impl, bool paused)
{
    redis_channels_pause(((struct store_redis *)impl)->channels, CHANNELS_BACKPRESSURE, paused);
}

static void op_hold(void *impl)
{
    redis_channels_pause(((struct store_redis *)impl)->channels, CHANNELS_REPAIR, true);
}

static void op_resume(void *impl)
{
    struct store_redis *s = impl;
    s->moved &= !s->unrepaired; /* else it is still to be told: the commands have moved alone */
    s->unrepaired = false;
    redis_channels_pause(s->channels, CHANNELS_REPAIR, false);
}

static void op_configure(void *impl, struct config *config)
{
    struct store_redis *s = impl;
    config_unref(s->config);
    s->config = config_ref(config);
    redis_target_configure(s->target, &s->url, config);
    if (s->sentinel)
        redis_sentinel_configure(s->sentinel, config);
    redis_posts_configure(s->posts, config);
    redis_channels_configure(s->channels, config);
    redis_inbox_configure(s->inbox, config);
    redis_bridges_configure(s->bridges, config);
    redis_reader_configure(s->reader, config);
    redis_clock_configure(s->clock, config);
}

static void op_free(void *impl)
{
    struct store_redis *s = impl;
    redis_posts_end(s->posts);
    ev_timer_stop(s->loop, &s->retry);
    redis_sentinel_free(s->sentinel);
    redis_conn_free(s->commands);
    redis_channels_free(s->channels);
    redis_inbox_free(s->inbox);
    redis_bridges_free(s->bridges);
    redis_library_free(s->library);
    redis_reader_free(s->reader);
    redis_calls_free(s->calls);
    redis_clock_free(s->clock);
    redis_posts_free(s->posts);
    redis_settings_free(s->settings);
    redis_condition_free(s->condition);
    redis_target_free(s->target);
    redis_url_reset(&s->url);
    config_unref(s->config);
    free(s);
}

static const struct store_ops ops = {.kind = "redis",
                                     .start = op_start,
                                     .free = op_free,
                                     .configure = op_configure,
                                     .watch = op_watch,
                                     .unwatch = op_unwatch,
                                     .rewatch = op_rewatch,
                                     .open = op_open,
                                     .close = op_close,
                                     .look = op_look,
                                     .range = op_range,
                                     .publish = op_publish,
                                     .call = op_call,
                                     .tell = op_tell,
                                     .drain = op_drain,
                                     .pause = op_pause,
                                     .hold = op_hold,
                                     .mark = op_mark,
                                     .resume = op_resume,
                                     .condition = op_condition,
                                     .clock_offset_us = op_clock_offset_us};

struct store store_redis_new(struct ev_loop *loop, struct bus *bus,
                             const struct store_events *events, struct config *config,
                             struct metrics *metrics)
{
    static const struct redis_conn_handler commands_handler = {on_commands_up, on_commands_down,
                                                               NULL};
    static const struct redis_channels_handler channels_handler = {
        on_heard,  on_event,   on_oversize,  on_channels_ready, on_channels_down,
        on_passed, on_replica, on_addressed, on_told,           on_bridged};
    static const struct redis_posts_handler posts_handler = {on_post_opens, on_lost_library,
                                                             on_post_answered};
    static const struct redis_reader_handler reader_handler = {on_read_refused, on_looked};
    static const struct redis_bridge_handler bridge_handler = {on_lost_library};
    static const struct redis_calls_handler calls_handler = {on_call_refused, on_looked};
    struct store_redis *s = mem_zero(1, sizeof(*s));
    s->bus = bus;
    s->events = events;
    s->loop = loop;
    s->config = config_ref(config);
    s->metrics = metrics;
    s->unrepaired = true;
    enum err e = redis_url_parse(config->redis, &s->url);
    assert(e == OK);
    (void)e;
    s->target = redis_target_new(&s->url, config);
    if (s->url.master)
        s->sentinel = redis_sentinel_new(loop, &s->url, config, s->target, metrics);
    s->commands = redis_conn_new(loop, s->target, "commands", &commands_handler, s, metrics);
    s->library = redis_library_new(loop, s->commands, config->prefix, on_library_ready,
                                   on_library_failed, s);
    s->condition = redis_condition_new();
    s->clock = redis_clock_new(loop, s->commands, config, metrics);
    s->reader = redis_reader_new(s->commands, s->clock, config, &reader_handler, s, metrics);
    s->calls = redis_calls_new(s->commands, config->prefix, &calls_handler, s);
    if (!s->target->user)
        s->settings = redis_settings_new(s->commands);
    s->inbox = redis_inbox_new(loop, s->target, config, metrics);
    s->bridges = redis_bridges_new(loop, s->target, config, &bridge_handler, s, metrics);
    s->channels =
        redis_channels_new(loop, s->target, s->commands, config, &channels_handler, s, metrics);
    s->posts = redis_posts_new(loop, s->target, s->commands, config, &posts_handler, s, metrics);
    ev_init(&s->retry, on_retry);
    s->retry.data = s;
    return (struct store){&ops, s};
}
