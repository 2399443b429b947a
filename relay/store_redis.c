#include "relay/store_redis.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/log.h"
#include "relay/redis_channels.h"
#include "relay/redis_inbox.h"
#include "relay/redis_library.h"

static const double RETRY_S = 1.0;

struct store_redis;

/* A publish that waits for its answers. */
struct posting {
    struct store_redis *store;
    struct note_publish *note;
    TAILQ_ENTRY(posting) link; /* while parked: a function was missing, and is being loaded */
};

TAILQ_HEAD(posting_list, posting);

struct store_redis {
    struct bus *bus;
    const struct store_events *events;
    struct ev_loop *loop;
    struct config *config;
    struct metrics *metrics;
    struct redis_url url;
    struct redis_conn *commands;
    struct redis_channels *channels;
    struct redis_library *library;
    struct redis_inbox *inbox;
    bool library_ready, channels_ready;
    bool unrepaired; /* the subscriber was away, and what it missed has not been read yet */
    bool up;         /* the bus has been told */
    struct posting_list parked;
    struct log_limit error_limit, entry_limit;
    ev_timer retry; /* after an answer that said "not now" */
};

/* --- going up and down ----------------------------------------------------------------------- */

static void check_up(struct store_redis *s)
{
    if (s->up || !s->library_ready || !s->channels_ready)
        return;
    s->up = true;
    if (s->unrepaired)
        redis_channels_listen(s->channels);
    s->events->up(s->bus, s->unrepaired);
}

static void go_down(struct store_redis *s)
{
    if (!s->up)
        return;
    s->up = false;
    s->events->down(s->bus);
}

static void posting_send(struct posting *posting);

static void on_library_ready(void *arg)
{
    struct store_redis *s = arg;
    s->library_ready = true;
    redis_inbox_enable(s->inbox, true);
    struct posting_list parked = TAILQ_HEAD_INITIALIZER(parked);
    TAILQ_CONCAT(&parked, &s->parked, link);
    struct posting *posting;
    while ((posting = TAILQ_FIRST(&parked))) {
        TAILQ_REMOVE(&parked, posting, link);
        posting_send(posting);
    }
    check_up(s);
}

/* Somebody flushed the functions, or this is a Redis that never had them. */
static void library_lost(struct store_redis *s)
{
    s->library_ready = false;
    redis_inbox_enable(s->inbox, false);
    go_down(s);
    redis_library_ensure(s->library);
}

static bool is_missing_function(const struct redis_reply *reply)
{
    return redis_reply_is_error(reply, "ERR Function not found");
}

/* An answer that says no, which the next one may not. */
static void say_no(struct store_redis *s, const char *what, const struct redis_reply *reply)
{
    uint64_t held;
    if (is_missing_function(reply)) {
        library_lost(s);
        return;
    }
    if (log_limit_pass(&s->error_limit, clock_mono_us(), &held)) {
        struct slice text = redis_reply_text(reply);
        char *copy = text.ptr ? slice_dup(text) : mem_dup("unexpected answer", 17);
        log_put(LOG_ERROR, what, "reply", copy, "not_logged", log_u64(held), NULL);
        free(copy);
    }
    ev_timer_stop(s->loop, &s->retry);
    ev_timer_set(&s->retry, RETRY_S, 0.);
    ev_timer_start(s->loop, &s->retry);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct store_redis *s = w->data;
    if (s->up) /* what waits is tried again */
        s->events->up(s->bus, s->unrepaired);
}

/* --- open ------------------------------------------------------------------------------------ */

static void on_opened(void *arg, const struct redis_reply *reply)
{
    struct store_redis *s = arg;
    if (reply && redis_reply_type(reply) == REDIS_ERROR)
        say_no(s, "cannot open a namespace", reply);
}

static void op_open(void *impl, const char *ns, uint64_t seen)
{
    struct store_redis *s = impl;
    const struct config *config = s->config;
    struct buf key = {0};
    name_put_key(&key, config->prefix, slice_of(ns));
    struct slice argv[] = {SLICE_LIT("FCALL"),
                           SLICE_LIT("sse_position"),
                           SLICE_LIT("1"),
                           buf_slice(&key),
                           SLICE_LIT("max_events"),
                           slice_of(log_u64(config->log_max_events)),
                           SLICE_LIT("log_ttl"),
                           slice_of(log_u64(config->log_ttl_ms)),
                           SLICE_LIT("index_ttl"),
                           slice_of(log_u64(config->index_ttl_ms)),
                           SLICE_LIT("once_ttl"),
                           slice_of(log_u64(config->once_ttl_ms)),
                           SLICE_LIT("seen"),
                           slice_of(log_u64(seen))};
    if (s->library_ready)
        redis_conn_send(s->commands, argv, seen ? 14 : 12, on_opened, s);
    redis_inbox_add(s->inbox, ns);
    buf_reset(&key);
}

static void op_close(void *impl, const char *ns)
{
    struct store_redis *s = impl;
    redis_inbox_remove(s->inbox, ns);
}

/* --- look ------------------------------------------------------------------------------------ */

struct look_call {
    struct store_redis *store;
    struct store_look *look;
};

static void look_fill(struct store_look *look, const struct redis_reply *reply)
{
    look->position = (uint64_t)redis_reply_number(redis_reply_at(reply, 0));
    look->horizon = (uint64_t)redis_reply_number(redis_reply_at(reply, 1));
    look->pruned = redis_reply_number(redis_reply_at(reply, 2)) == (int64_t)look->horizon;
    const struct redis_reply *topics = redis_reply_at(reply, 3);
    for (size_t i = 0; i + 1 < redis_reply_count(topics); i += 2) {
        int64_t last = redis_reply_number(redis_reply_at(topics, i + 1));
        if (last > 0)
            store_look_add(look, redis_reply_text(redis_reply_at(topics, i)), (uint64_t)last);
    }
    store_look_settle(look);
}

static void on_looked(void *arg, const struct redis_reply *reply)
{
    struct look_call *call = arg;
    struct store_look *look = call->look;
    struct store_redis *s = call->store;
    free(call);
    if (!reply) {
        look->done(look, ERR_AGAIN);
        return;
    }
    bool valid = redis_reply_count(reply) >= 4 && redis_reply_number(redis_reply_at(reply, 0)) > 0 &&
                 redis_reply_number(redis_reply_at(reply, 1)) >= 0;
    if (!valid) {
        say_no(s, "cannot look at a namespace; its streams wait", reply);
        look->done(look, ERR_AGAIN);
        return;
    }
    look_fill(look, reply);
    look->done(look, OK);
}

/* The part of a pattern before its first wildcard. */
static struct slice literal_prefix(const char *pattern)
{
    struct slice s = slice_of(pattern);
    size_t i = 0;
    while (i < s.len && s.ptr[i] != '*' && s.ptr[i] != '>')
        i++;
    return (struct slice){s.ptr, i};
}

static void op_look(void *impl, struct store_look *look)
{
    struct store_redis *s = impl;
    const struct strings *names = look->names;
    struct buf key = {0};
    name_put_key(&key, s->config->prefix, slice_of(look->ns));
    struct slice *argv = mem_alloc((6 + 2 * names->count + 2) * sizeof(*argv));
    size_t argc = 0;
    argv[argc++] = SLICE_LIT("FCALL");
    argv[argc++] = SLICE_LIT("sse_since");
    argv[argc++] = SLICE_LIT("1");
    argv[argc++] = buf_slice(&key);
    argv[argc++] = SLICE_LIT("cursor");
    argv[argc++] = slice_of(log_u64(look->cursor));
    for (size_t i = 0; i < names->count && !look->moved_only; i++) {
        bool pattern = name_is_pattern(slice_of(names->items[i]));
        argv[argc++] = pattern ? SLICE_LIT("prefix") : SLICE_LIT("topic");
        argv[argc++] = pattern ? literal_prefix(names->items[i]) : slice_of(names->items[i]);
    }
    if (look->moved_only) {
        argv[argc++] = SLICE_LIT("prefix");
        argv[argc++] = SLICE_LIT("");
    }
    struct look_call *call = mem_alloc(sizeof(*call));
    *call = (struct look_call){s, look};
    bool sent = s->library_ready && redis_conn_send(s->commands, argv, argc, on_looked, call);
    free(argv);
    buf_reset(&key);
    if (!sent) {
        free(call);
        look->done(look, ERR_AGAIN);
    }
}

/* --- range ----------------------------------------------------------------------------------- */

struct range_call {
    struct store_redis *store;
    struct store_range *range;
};

/* An entry that is not ours, or a log that is no stream: counted, logged once in a while, and passed over. */
static void count_invalid(struct store_redis *s, const struct store_range *range, const char *what)
{
    uint64_t held;
    metrics_add(s->metrics, M_DROPPED_INVALID, 1);
    if (log_limit_pass(&s->entry_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, what, "ns", range->ns, "topic", range->topic, "not_logged", log_u64(held), NULL);
}

static bool is_expired(const struct event_fields *fields)
{
    return fields->ttl_ms && fields->id + fields->ttl_ms * 1000 < clock_wall_us();
}

static bool entry_fill(struct store_redis *s, const struct store_range *range,
                       const struct redis_reply *reply, struct store_entry *out)
{
    if (redis_reply_count(reply) != 2)
        return false;
    const struct redis_reply *pairs = redis_reply_at(reply, 1);
    size_t count = redis_reply_count(pairs);
    struct slice fields[64];
    if (count > sizeof(fields) / sizeof(fields[0]))
        return false;
    for (size_t i = 0; i < count; i++)
        fields[i] = redis_reply_text(redis_reply_at(pairs, i));
    struct event_fields event;
    if (envelope_from_entry(redis_reply_text(redis_reply_at(reply, 0)), fields, count,
                            slice_of(range->ns), slice_of(range->topic), &event))
        return false;
    *out = (struct store_entry){.event = is_expired(&event) ? NULL : store_event(s->config, &event, 0),
                                .id = event.id,
                                .prev = event.prev,
                                .has_prev = event.has_prev};
    return true;
}

static void reverse_entries(struct store_range *range)
{
    for (size_t i = 0, j = range->count; i + 1 < j; i++) {
        struct store_entry entry = range->entries[i];
        range->entries[i] = range->entries[--j];
        range->entries[j] = entry;
    }
}

static void on_ranged(void *arg, const struct redis_reply *reply)
{
    struct range_call *call = arg;
    struct store_range *range = call->range;
    struct store_redis *s = call->store;
    free(call);
    if (!reply) {
        range->done(range, ERR_AGAIN);
        return;
    }
    if (redis_reply_type(reply) == REDIS_ERROR)
        count_invalid(s, range, "cannot read a log; what it held counts as lost");
    size_t count = redis_reply_count(reply);
    range->entries = mem_alloc((count ? count : 1) * sizeof(*range->entries));
    for (size_t i = 0; i < count; i++) {
        if (entry_fill(s, range, redis_reply_at(reply, i), &range->entries[range->count]))
            range->count++;
        else
            count_invalid(s, range, "passed over a log entry that is not an event");
    }
    /* A page that held nothing of ours must not be asked for again. */
    range->more = count >= range->limit && range->count > 0;
    if (range->reverse)
        reverse_entries(range);
    range->done(range, OK);
}

static void op_range(void *impl, struct store_range *range)
{
    struct store_redis *s = impl;
    struct buf key = {0};
    name_put_log(&key, s->config->prefix, slice_of(range->ns), slice_of(range->topic));
    struct slice low = slice_of(log_u64(range->after + 1)), high = slice_of(log_u64(range->upto));
    struct slice argv[] = {range->reverse ? SLICE_LIT("XREVRANGE") : SLICE_LIT("XRANGE"),
                           buf_slice(&key),
                           range->reverse ? high : low,
                           range->reverse ? low : high,
                           SLICE_LIT("COUNT"),
                           slice_of(log_u64(range->limit))};
    struct range_call *call = mem_alloc(sizeof(*call));
    *call = (struct range_call){s, range};
    bool sent = redis_conn_send(s->commands, argv, 6, on_ranged, call);
    buf_reset(&key);
    if (!sent) {
        free(call);
        range->done(range, ERR_AGAIN);
    }
}

/* --- publish --------------------------------------------------------------------------------- */

/* @text: what Redis said, added behind @detail. */
static void answer(struct posting *posting, unsigned status, const char *detail, struct slice text)
{
    struct note_publish *note = posting->note;
    note->status = status;
    buf_clear(&note->detail);
    buf_puts(&note->detail, detail);
    buf_put_slice(&note->detail, text);
    bus_published(posting->store->bus, note);
    free(posting);
}

static void answer_error(struct posting *posting, const struct redis_reply *reply)
{
    struct slice text = redis_reply_text(reply);
    static const char ours[] = "ERR sse_publish: ";
    if (redis_reply_is_error(reply, "OOM"))
        answer(posting, 503, "Redis is out of memory and refuses to publish; nothing was published: ", text);
    else if (redis_reply_is_error(reply, "READONLY"))
        answer(posting, 503, "this Redis is a read-only replica; nothing was published: ", text);
    else if (redis_reply_is_error(reply, ours))
        answer(posting, 400, "",
               (struct slice){text.ptr + sizeof(ours) - 1, text.len - sizeof(ours) + 1});
    else
        answer(posting, 503, "Redis refused to publish: ", text);
}

static void park(struct posting *posting)
{
    struct store_redis *s = posting->store;
    TAILQ_INSERT_TAIL(&s->parked, posting, link);
    library_lost(s);
}

static const struct redis_reply *find_error(const struct redis_reply *reply)
{
    if (redis_reply_type(reply) == REDIS_ERROR)
        return reply;
    for (size_t i = 0; i < redis_reply_count(reply); i++)
        if (redis_reply_type(redis_reply_at(reply, i)) == REDIS_ERROR)
            return redis_reply_at(reply, i);
    return NULL;
}

/* @reply: one id, or EXEC's array of them; nil where the event is ephemeral. */
static void on_posted(void *arg, const struct redis_reply *reply)
{
    struct posting *posting = arg;
    struct note_publish *note = posting->note;
    if (!reply) {
        answer(posting, 503, "the connection to Redis broke before it answered: whether the event was "
                             "published is not known; publish again with the same \"once\" key", SLICE_NONE);
        return;
    }
    const struct redis_reply *error = find_error(reply);
    if (error && is_missing_function(error)) {
        park(posting);
        return;
    }
    if (error) {
        answer_error(posting, error);
        return;
    }
    bool many = note->request.count > 1;
    for (size_t i = 0; i < note->request.count; i++) {
        int64_t id = redis_reply_number(many ? redis_reply_at(reply, i) : reply);
        note->ids[i] = id > 0 ? (uint64_t)id : 0;
    }
    answer(posting, 200, "", SLICE_NONE);
}

static bool send_item(struct store_redis *s, struct slice key, const struct publication *item,
                      redis_done done, void *arg)
{
    struct slice *argv = mem_alloc((4 + item->args.count) * sizeof(*argv));
    argv[0] = SLICE_LIT("FCALL");
    argv[1] = SLICE_LIT("sse_publish");
    argv[2] = SLICE_LIT("1");
    argv[3] = key;
    for (size_t i = 0; i < item->args.count; i++)
        argv[4 + i] = slice_of(item->args.items[i]);
    bool sent = redis_conn_send(s->commands, argv, 4 + item->args.count, done, arg);
    free(argv);
    return sent;
}

static void posting_send(struct posting *posting)
{
    static const struct slice multi = SLICE_LIT("MULTI"), exec = SLICE_LIT("EXEC");
    struct store_redis *s = posting->store;
    struct publish_request *request = &posting->note->request;
    if (!redis_conn_is_up(s->commands) || !s->library_ready) {
        answer(posting, 503, "Redis cannot be reached; nothing was published", SLICE_NONE);
        return;
    }
    struct buf key = {0};
    name_put_key(&key, s->config->prefix, slice_of(request->ns));
    bool sent = true;
    if (request->count == 1) {
        sent = send_item(s, buf_slice(&key), &request->items[0], on_posted, posting);
    } else {
        redis_conn_send(s->commands, &multi, 1, NULL, NULL);
        for (size_t i = 0; i < request->count; i++)
            send_item(s, buf_slice(&key), &request->items[i], NULL, NULL);
        sent = redis_conn_send(s->commands, &exec, 1, on_posted, posting);
    }
    buf_reset(&key);
    if (!sent)
        answer(posting, 503, "Redis cannot be reached; nothing was published", SLICE_NONE);
}

static void op_publish(void *impl, struct note_publish *note)
{
    struct posting *posting = mem_zero(1, sizeof(*posting));
    posting->store = impl;
    posting->note = note;
    note->ids = mem_zero(note->request.count, sizeof(*note->ids));
    posting_send(posting);
}

static void answer_parked(struct store_redis *s)
{
    struct posting *posting;
    while ((posting = TAILQ_FIRST(&s->parked))) {
        TAILQ_REMOVE(&s->parked, posting, link);
        answer(posting, 503, "Redis cannot be reached; nothing was published", SLICE_NONE);
    }
}

/* --- the connections ------------------------------------------------------------------------- */

static void on_commands_up(void *arg)
{
    struct store_redis *s = arg;
    metrics_set(s->metrics, M_REDIS_UP_COMMANDS, 1);
    redis_library_ensure(s->library);
}

static void on_commands_down(void *arg, const char *why)
{
    (void)why;
    struct store_redis *s = arg;
    metrics_set(s->metrics, M_REDIS_UP_COMMANDS, 0);
    redis_library_stop(s->library);
    s->library_ready = false;
    redis_inbox_enable(s->inbox, false);
    answer_parked(s);
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

static void op_start(void *impl)
{
    struct store_redis *s = impl;
    redis_conn_start(s->commands);
    redis_channels_start(s->channels);
    redis_inbox_start(s->inbox);
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

static void op_resume(void *impl)
{
    struct store_redis *s = impl;
    s->unrepaired = false;
    redis_channels_pause(s->channels, CHANNELS_REPAIR, false);
}

static void op_configure(void *impl, struct config *config)
{
    struct store_redis *s = impl;
    config_unref(s->config);
    s->config = config_ref(config);
    redis_channels_configure(s->channels, config);
    redis_inbox_configure(s->inbox, config);
}

static void op_free(void *impl)
{
    struct store_redis *s = impl;
    answer_parked(s);
    ev_timer_stop(s->loop, &s->retry);
    redis_conn_free(s->commands);
    redis_channels_free(s->channels);
    redis_inbox_free(s->inbox);
    redis_library_free(s->library);
    redis_url_reset(&s->url);
    config_unref(s->config);
    free(s);
}

struct store store_redis_new(struct ev_loop *loop, struct bus *bus,
                             const struct store_events *events, struct config *config,
                             struct metrics *metrics)
{
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
                                         .pause = op_pause,
                                         .resume = op_resume};
    static const struct redis_conn_handler commands_handler = {on_commands_up, on_commands_down, NULL};
    static const struct redis_channels_handler channels_handler = {on_heard, on_event,
                                                                  on_channels_ready, on_channels_down};
    struct store_redis *s = mem_zero(1, sizeof(*s));
    s->bus = bus;
    s->events = events;
    s->loop = loop;
    s->config = config_ref(config);
    s->metrics = metrics;
    s->unrepaired = true;
    TAILQ_INIT(&s->parked);
    enum err e = redis_url_parse(config->redis, &s->url);
    assert(e == OK);
    (void)e;
    s->commands = redis_conn_new(loop, &s->url, "commands", &commands_handler, s, metrics);
    s->library = redis_library_new(loop, s->commands, on_library_ready, s);
    s->inbox = redis_inbox_new(loop, &s->url, config, metrics);
    s->channels = redis_channels_new(loop, &s->url, config, &channels_handler, s, metrics);
    ev_init(&s->retry, on_retry);
    s->retry.data = s;
    return (struct store){&ops, s};
}
