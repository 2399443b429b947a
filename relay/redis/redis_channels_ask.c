/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/redis/redis_channels_parts.h"
#include "relay/redis/redis_probe.h"
#include "relay/kit/timer.h"

enum { ASK_MAX = 512 };
static const double AGAIN_S = 10.0;

/* --- asking ---------------------------------------------------------------------------------- */

static void send_ask(struct redis_channels *ch, struct ask *ask)
{
    struct slice argv[ASK_MAX + 1];
    argv[0] = ask->leaving ? (ask->glob ? SLICE_LIT("PUNSUBSCRIBE") : SLICE_LIT("UNSUBSCRIBE"))
                           : (ask->glob ? SLICE_LIT("PSUBSCRIBE") : SLICE_LIT("SUBSCRIBE"));
    for (size_t i = 0; i < ask->count; i++)
        argv[i + 1] =
            ask->probe ? redis_probe_channel(ch->probe) : slice_of(ask->channels[i]->text);
    STAILQ_INSERT_TAIL(&ch->asks, ask, link);
    redis_probe_expect(ch->probe, ask->count);
    redis_conn_send_push(ch->conn, argv, ask->count + 1);
}

void redis_channels_ask_probe(struct redis_channels *ch)
{
    struct ask *ask = mem_zero(1, sizeof(*ask));
    ask->probe = true;
    ask->count = 1;
    send_ask(ch, ask);
}

static void todo_take(struct redis_channels *ch, struct channel *c)
{
    TAILQ_REMOVE(&ch->todo, c, todo);
    c->in_todo = false;
}

/* What has changed and changed back in one turn needs nothing. */
static bool is_settled(const struct channel *c)
{
    if (c->name_count)
        return c->state != CHANNEL_NEW;
    return c->state == CHANNEL_NEW || c->state == CHANNEL_REFUSED;
}

static void drop_settled(struct redis_channels *ch)
{
    struct channel *c, *next;
    for (c = TAILQ_FIRST(&ch->todo); c; c = next) {
        next = TAILQ_NEXT(c, todo);
        if (!is_settled(c))
            continue;
        todo_take(ch, c);
        redis_channels_release(ch, c);
    }
}

static void ask_add(struct redis_channels *ch, struct ask *ask, struct channel *c)
{
    todo_take(ch, c);
    c->state = ask->leaving ? CHANNEL_NEW : CHANNEL_ASKED;
    c->due++;
    ask->channels[ask->count++] = c;
}

/* Sends one command for up to ASK_MAX channels of a kind from the list. False: none of the kind is
 * left. */
static bool ask_batch(struct redis_channels *ch, bool glob, bool leaving)
{
    struct channel *c, *next, *group[ASK_MAX];
    size_t count = 0;
    for (c = TAILQ_FIRST(&ch->todo); c && count < ASK_MAX; c = next) {
        next = TAILQ_NEXT(c, todo);
        bool alone = c->alone && !leaving;
        if (c->glob != glob || (c->name_count == 0) != leaving || (alone && count))
            continue;
        group[count++] = c;
        if (alone)
            break;
    }
    if (!count)
        return false;
    struct ask *ask = mem_zero(1, sizeof(*ask) + count * sizeof(struct channel *));
    ask->glob = glob;
    ask->leaving = leaving;
    for (size_t i = 0; i < count; i++)
        ask_add(ch, ask, group[i]);
    send_ask(ch, ask);
    return true;
}

void redis_channels_ask_todo(struct redis_channels *ch)
{
    drop_settled(ch);
    for (int kind = 0; kind < 4; kind++)
        while (ask_batch(ch, kind & 1, kind & 2))
            continue;
}

/* --- what was refused ------------------------------------------------------------------------- */

static void ask_again_table(struct redis_channels *ch, struct channel *table)
{
    struct channel *c, *tmp;
    HASH_ITER (hh, table, c, tmp) {
        if (c->state != CHANNEL_REFUSED)
            continue;
        c->state = CHANNEL_NEW;
        ch->refused--;
        redis_channels_todo(ch, c);
    }
}

void redis_channels_ask_again(struct redis_channels *ch)
{
    if (!ch->refused)
        return;
    ask_again_table(ch, ch->direct);
    ask_again_table(ch, ch->globs);
}

/* A relay with an account for few channels serves its streams all the same: told once. */
static void log_unreachable(struct redis_channels *ch, const struct channel *c)
{
    if (!ch->told_unreachable)
        log_put(LOG_WARN,
                "Redis refused a channel of this relay; others cannot ask anything of its streams",
                "channel", c->text, "hint",
                "the user needs all channels (ACL SETUSER ... &*): docs/operations.md, section 4",
                NULL);
    ch->told_unreachable = true;
}

static void log_refused(struct redis_channels *ch, const struct channel *c, struct slice reply)
{
    if (c->subject == STORE_NODE || c->subject == STORE_CONNECTIONS) {
        log_unreachable(ch, c);
        return;
    }
    const char *what = c->subject == STORE_BRIDGE
                           ? "Redis refused a subscription; what is published there is not bridged"
                           : "Redis refused a subscription; streams of that topic cannot start";
    uint64_t held;
    if (!log_limit_pass(&ch->refused_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(reply);
    log_put(LOG_ERROR, what, "channel", c->text, "reply", text, "not_logged", log_u64(held), "hint",
            "the user needs +subscribe +psubscribe and, as Redis compares the patterns letter "
            "by letter, all channels (ACL SETUSER ... &*; docs/operations.md has the whole line); "
            "it is tried again every 10 s",
            NULL);
    free(text);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void await_no_more(struct redis_channels *ch, struct channel *c)
{
    ch->awaited -= c->awaited;
    c->awaited = false;
}

static void on_accepted(struct redis_channels *ch, struct channel *c)
{
    c->due--;
    if (c->due == 0 && c->state == CHANNEL_ASKED) {
        await_no_more(ch, c);
        c->state = CHANNEL_HEARD;
        c->alone = false;
        for (size_t i = 0; i < c->name_count; i++) {
            c->names[i]->heard = true;
            ch->handler->heard(ch->arg, c->names[i]);
        }
    }
    redis_channels_release(ch, c);
}

/* @alone: nothing else was in the command, so it is this one that Redis does not want. */
static void on_refused(struct redis_channels *ch, struct channel *c, bool alone, struct slice reply)
{
    c->due--;
    if (c->due == 0 && c->state == CHANNEL_ASKED) {
        c->state = alone ? CHANNEL_REFUSED : CHANNEL_NEW;
        c->alone = true;
        if (alone) {
            await_no_more(ch, c);
            log_refused(ch, c, reply);
            ch->refused++;
            if (!ev_is_active(&ch->again)) {
                timer_once(ch->loop, &ch->again, AGAIN_S);
            }
        } else if (c->name_count) {
            redis_channels_todo(ch, c);
        }
    }
    redis_channels_release(ch, c);
}

static void ask_free(struct redis_channels *ch)
{
    struct ask *ask = STAILQ_FIRST(&ch->asks);
    STAILQ_REMOVE_HEAD(&ch->asks, link);
    free(ask);
}

static void answer_error(struct redis_channels *ch, struct ask *ask, struct slice reply)
{
    metrics_add(ch->metrics, M_REDIS_ERRORS, 1);
    redis_probe_answered(ch->probe, ask->count);
    if (ask->probe)
        redis_probe_refused(ch->probe, reply);
    for (size_t i = 0; !ask->probe && i < ask->count; i++)
        on_refused(ch, ask->channels[i], ask->count == 1, reply);
    ask_free(ch);
}

static bool fits(struct redis_channels *ch, const struct ask *ask, struct slice kind,
                 struct slice text)
{
    static const char *const kinds[2][2] = {{"subscribe", "unsubscribe"},
                                            {"psubscribe", "punsubscribe"}};
    struct slice asked =
        ask->probe ? redis_probe_channel(ch->probe) : slice_of(ask->channels[ask->answered]->text);
    return slice_is(kind, kinds[ask->glob][ask->leaving]) && slice_eq(text, asked);
}

static void answer_one(struct redis_channels *ch, struct ask *ask)
{
    struct channel *c = ask->probe ? NULL : ask->channels[ask->answered];
    ask->answered++;
    redis_probe_answered(ch->probe, 1);
    if (c)
        on_accepted(ch, c);
    else
        redis_probe_listen(ch->probe);
    if (ask->answered == ask->count)
        ask_free(ch);
}

void redis_channels_answer(struct redis_channels *ch, const struct redis_reply *reply)
{
    struct ask *ask = STAILQ_FIRST(&ch->asks);
    if (ask && redis_reply_type(reply) == REDIS_ERROR && ask->answered == 0)
        answer_error(ch, ask, redis_reply_text(reply));
    else if (ask && redis_reply_count(reply) >= 3 &&
             fits(ch, ask, redis_reply_text(redis_reply_at(reply, 0)),
                  redis_reply_text(redis_reply_at(reply, 1))))
        answer_one(ch, ask);
    else
        redis_conn_drop(ch->conn, "an answer that nothing had asked for");
}

void redis_channels_forget_asks(struct redis_channels *ch)
{
    while (!STAILQ_EMPTY(&ch->asks))
        ask_free(ch);
}
