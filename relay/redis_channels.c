#include "relay/redis_channels.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/log.h"

enum { SUBSCRIBE_BATCH = 512 };

enum channel_state { CHANNEL_NEW, CHANNEL_ASKED, CHANNEL_HEARD, CHANNEL_LEAVING };

/* A channel or glob in Redis. Several patterns may share a glob. */
struct channel {
    char *text;
    bool glob;
    enum channel_state state;
    unsigned acks_due; /* SUBSCRIBEs on the way: only the answer to the last one counts */
    uint64_t run;      /* the run in which it last delivered */
    uint64_t workers;
    struct store_name **names;
    size_t name_count;
    bool in_todo;
    TAILQ_ENTRY(channel) todo;
    UT_hash_handle hh;
};

TAILQ_HEAD(channel_list, channel);

struct redis_channels {
    struct redis_conn *conn;
    struct ev_loop *loop;
    struct config *config;
    const struct redis_channels_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct channel *direct, *globs; /* by text */
    struct channel_list todo;       /* to be (un)subscribed at the end of the turn */
    size_t acks_due;                /* over all channels */
    bool resubscribing, deaf;       /* deaf: events with an id are left to the repair */
    unsigned pauses;
    struct envelope envelope;
    /* the run of messages that is being received */
    uint64_t run;
    struct buf run_channel;
    struct event *run_event; /* NULL: it was no event */
    uint64_t run_workers;    /* who has it */
    struct log_limit invalid_limit;
    ev_prepare flush;
};

/* --- the registry --------------------------------------------------------------------------- */

static struct channel **table_of(struct redis_channels *ch, bool glob)
{
    return glob ? &ch->globs : &ch->direct;
}

static struct channel *channel_find(struct redis_channels *ch, bool glob, struct slice text)
{
    struct channel *c, *table = *table_of(ch, glob);
    HASH_FIND(hh, table, text.ptr, text.len, c);
    return c;
}

static struct channel *channel_of(struct redis_channels *ch, const struct store_name *name)
{
    bool glob = name_is_pattern(slice_of(name->name));
    struct buf text = {0};
    if (glob)
        name_put_glob(&text, ch->config->prefix, slice_of(name->ns), slice_of(name->name));
    else
        name_put_channel(&text, ch->config->prefix, slice_of(name->ns), slice_of(name->name));
    struct channel *c = channel_find(ch, glob, buf_slice(&text));
    if (!c) {
        c = mem_zero(1, sizeof(*c));
        c->text = mem_dup(text.ptr, text.len);
        c->glob = glob;
        struct channel *table = *table_of(ch, glob);
        HASH_ADD_KEYPTR(hh, table, c->text, text.len, c);
        *table_of(ch, glob) = table;
        metrics_add(ch->metrics, M_CHANNELS, 1);
    }
    buf_reset(&text);
    return c;
}

static void todo_add(struct redis_channels *ch, struct channel *c)
{
    if (c->in_todo)
        return;
    c->in_todo = true;
    TAILQ_INSERT_TAIL(&ch->todo, c, todo);
}

static void channel_free(struct redis_channels *ch, struct channel *c)
{
    struct channel *table = *table_of(ch, c->glob);
    HASH_DEL(table, c);
    *table_of(ch, c->glob) = table;
    if (c->in_todo)
        TAILQ_REMOVE(&ch->todo, c, todo);
    metrics_sub(ch->metrics, M_CHANNELS, 1);
    free(c->names);
    free(c->text);
    free(c);
}

static void channel_count_workers(struct channel *c)
{
    c->workers = 0;
    for (size_t i = 0; i < c->name_count; i++)
        c->workers |= c->names[i]->workers;
}

void redis_channels_watch(struct redis_channels *ch, struct store_name *name)
{
    struct channel *c = channel_of(ch, name);
    c->names = mem_resize(c->names, (c->name_count + 1) * sizeof(*c->names));
    c->names[c->name_count++] = name;
    name->impl = c;
    channel_count_workers(c);
    name->heard = c->state == CHANNEL_HEARD;
    if (name->heard) {
        ch->handler->heard(ch->arg, name);
    } else if (c->state != CHANNEL_ASKED) {
        c->state = CHANNEL_NEW;
        todo_add(ch, c);
    }
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
    if (c->state == CHANNEL_NEW && !c->acks_due) {
        channel_free(ch, c);
        return;
    }
    c->state = CHANNEL_LEAVING;
    todo_add(ch, c);
}

void redis_channels_rewatch(struct redis_channels *ch, struct store_name *name)
{
    (void)ch;
    channel_count_workers(name->impl);
}

/* --- SUBSCRIBE and its acknowledgements ------------------------------------------------------ */

static void run_end(struct redis_channels *ch)
{
    ch->run++;
    buf_clear(&ch->run_channel);
    event_unref(ch->run_event);
    ch->run_event = NULL;
}

/* Sends one command for up to SUBSCRIBE_BATCH channels of a kind from the list. False: none of the
 * kind is left. */
static bool send_batch(struct redis_channels *ch, bool glob, bool leaving)
{
    struct slice argv[SUBSCRIBE_BATCH + 1];
    size_t argc = 1;
    struct channel *c, *next;
    for (c = TAILQ_FIRST(&ch->todo); c && argc <= SUBSCRIBE_BATCH; c = next) {
        next = TAILQ_NEXT(c, todo);
        if (c->glob != glob || (c->state == CHANNEL_LEAVING) != leaving)
            continue;
        TAILQ_REMOVE(&ch->todo, c, todo);
        c->in_todo = false;
        argv[argc++] = slice_of(c->text);
        if (leaving)
            continue;
        c->state = CHANNEL_ASKED;
        c->acks_due++;
        ch->acks_due++;
    }
    if (argc == 1)
        return false;
    argv[0] = leaving ? (glob ? SLICE_LIT("PUNSUBSCRIBE") : SLICE_LIT("UNSUBSCRIBE"))
                      : (glob ? SLICE_LIT("PSUBSCRIBE") : SLICE_LIT("SUBSCRIBE"));
    redis_conn_send_push(ch->conn, argv, argc);
    return true;
}

static void send_todo(struct redis_channels *ch)
{
    for (int kind = 0; kind < 4; kind++)
        while (send_batch(ch, kind & 1, kind & 2))
            continue;
}

static void on_flush(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_channels *ch = w->data;
    if (!TAILQ_EMPTY(&ch->todo) && redis_conn_is_up(ch->conn))
        send_todo(ch);
}

static void check_ready(struct redis_channels *ch)
{
    if (!ch->resubscribing || ch->acks_due)
        return;
    ch->resubscribing = false;
    ch->handler->ready(ch->arg);
}

static void on_subscribed(struct redis_channels *ch, bool glob, struct slice text)
{
    struct channel *c = channel_find(ch, glob, text);
    if (!c || !c->acks_due)
        return;
    c->acks_due--;
    ch->acks_due--;
    if (c->acks_due == 0 && c->state == CHANNEL_ASKED) {
        c->state = CHANNEL_HEARD;
        for (size_t i = 0; i < c->name_count; i++) {
            c->names[i]->heard = true;
            ch->handler->heard(ch->arg, c->names[i]);
        }
    }
    check_ready(ch);
}

static void on_unsubscribed(struct redis_channels *ch, bool glob, struct slice text)
{
    struct channel *c = channel_find(ch, glob, text);
    if (c && c->state == CHANNEL_LEAVING && !c->in_todo && !c->acks_due)
        channel_free(ch, c);
}

/* --- messages ------------------------------------------------------------------------------- */

static void count_invalid(struct redis_channels *ch, struct slice channel)
{
    uint64_t held;
    metrics_add(ch->metrics, M_DROPPED_INVALID, 1);
    if (!log_limit_pass(&ch->invalid_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(channel);
    log_put(LOG_WARN, "dropped a message that is not a valid event", "channel", text, "not_logged",
            log_u64(held), NULL);
    free(text);
}

static struct event *parse_message(struct redis_channels *ch, struct slice channel,
                                   struct slice payload)
{
    struct event_fields fields;
    struct slice ns, topic;
    if (name_split_channel(channel, ch->config->prefix, &ns, &topic))
        goto invalid;
    enum err e = envelope_parse(&ch->envelope, payload, ns, topic, &fields);
    if ((e && e != ERR_NOT_FOUND) || payload.len > ch->config->max_event_bytes * 8)
        goto invalid;
    if (ch->deaf && fields.id)
        return NULL;
    return store_event(ch->config, &fields, clock_mono_us());

invalid:
    count_invalid(ch, channel);
    return NULL;
}

static void on_message(struct redis_channels *ch, struct channel *c, struct slice channel,
                       struct slice payload)
{
    bool same_publish = slice_eq(buf_slice(&ch->run_channel), channel) && c->run != ch->run;
    if (!same_publish) {
        run_end(ch);
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

static void on_push(void *arg, const struct redis_reply *reply)
{
    struct redis_channels *ch = arg;
    if (redis_reply_type(reply) == REDIS_ERROR) {
        char *text = slice_dup(redis_reply_text(reply));
        log_put(
            LOG_ERROR, "Redis refused a subscription; streams of that topic cannot start", "reply",
            text, "hint",
            "the user needs +subscribe +psubscribe and, as Redis compares the patterns letter "
            "by letter, all channels (ACL SETUSER ... &*; docs/operations.md has the whole line)",
            NULL);
        free(text);
        return;
    }
    if (redis_reply_count(reply) < 3)
        return;
    struct slice kind = redis_reply_text(redis_reply_at(reply, 0));
    struct slice text = redis_reply_text(redis_reply_at(reply, 1));
    if (slice_is(kind, "message")) {
        struct channel *c = channel_find(ch, false, text);
        if (c)
            on_message(ch, c, text, redis_reply_text(redis_reply_at(reply, 2)));
        return;
    }
    if (slice_is(kind, "pmessage") && redis_reply_count(reply) == 4) {
        struct channel *c = channel_find(ch, true, text);
        if (c)
            on_message(ch, c, redis_reply_text(redis_reply_at(reply, 2)),
                       redis_reply_text(redis_reply_at(reply, 3)));
        return;
    }
    run_end(ch); /* what is subscribed changes: runs end */
    if (slice_is(kind, "subscribe") || slice_is(kind, "psubscribe"))
        on_subscribed(ch, kind.ptr[0] == 'p', text);
    else if (slice_is(kind, "unsubscribe") || slice_is(kind, "punsubscribe"))
        on_unsubscribed(ch, kind.ptr[0] == 'p', text);
}

/* --- the connection ------------------------------------------------------------------------- */

static void forget_acks(struct redis_channels *ch, struct channel *table)
{
    struct channel *c, *tmp;
    HASH_ITER (hh, table, c, tmp) {
        if (!c->name_count) {
            channel_free(ch, c);
            continue;
        }
        c->state = CHANNEL_NEW;
        c->acks_due = 0;
        for (size_t i = 0; i < c->name_count; i++)
            c->names[i]->heard = false;
        todo_add(ch, c);
    }
}

static void on_up(void *arg)
{
    struct redis_channels *ch = arg;
    metrics_set(ch->metrics, M_REDIS_UP_SUBSCRIBER, 1);
    ch->resubscribing = true;
    send_todo(ch);
    check_ready(ch);
}

static void on_down(void *arg, const char *why)
{
    (void)why;
    struct redis_channels *ch = arg;
    metrics_set(ch->metrics, M_REDIS_UP_SUBSCRIBER, 0);
    run_end(ch);
    ch->deaf = true;
    ch->resubscribing = false;
    ch->acks_due = 0;
    forget_acks(ch, ch->direct);
    forget_acks(ch, ch->globs);
    redis_channels_pause(ch, CHANNELS_REPAIR, false);
    ch->handler->down(ch->arg);
}

struct redis_channels *redis_channels_new(struct ev_loop *loop, const struct redis_url *url,
                                          struct config *config,
                                          const struct redis_channels_handler *handler, void *arg,
                                          struct metrics *metrics)
{
    static const struct redis_conn_handler conn_handler = {on_up, on_down, on_push};
    struct redis_channels *ch = mem_zero(1, sizeof(*ch));
    ch->loop = loop;
    ch->config = config_ref(config);
    ch->handler = handler;
    ch->arg = arg;
    ch->metrics = metrics;
    ch->deaf = true;
    ch->run = 1;
    TAILQ_INIT(&ch->todo);
    ch->conn = redis_conn_new(loop, url, "subscriber", &conn_handler, ch, metrics);
    ev_prepare_init(&ch->flush, on_flush);
    ch->flush.data = ch;
    ev_prepare_start(loop, &ch->flush);
    return ch;
}

void redis_channels_free(struct redis_channels *ch)
{
    if (!ch)
        return;
    redis_conn_free(ch->conn);
    ev_prepare_stop(ch->loop, &ch->flush);
    struct channel *c, *tmp;
    HASH_ITER (hh, ch->direct, c, tmp)
        channel_free(ch, c);
    HASH_ITER (hh, ch->globs, c, tmp)
        channel_free(ch, c);
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
}
