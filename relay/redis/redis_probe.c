/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/kit/log.h"

enum { MISSES_MAX = 2 };

enum probe_state {
    PROBE_NONE, /* none is out */
    PROBE_SENT, /* its PUBLISH has not been answered: that is the commands connection's trouble */
    PROBE_DUE,  /* Redis has sent it on: it must come back */
};

struct redis_probe {
    struct ev_loop *loop;
    struct redis_conn *commands;
    struct config *config;
    const struct redis_probe_handler *handler;
    void *arg;
    struct metrics *metrics;
    char *channel;
    bool begun, listening, proven; /* proven: handler->heard() has been called */
    enum probe_state state;
    uint64_t number, first; /* of the last probe sent; of the first on this connection */
    unsigned unanswered;    /* PUBLISHes on the way */
    size_t due;             /* answers on the subscriber connection */
    uint64_t due_since_us;  /* for PROBE_DUE */
    bool came, answered;    /* since the last tick */
    unsigned missed;
    bool held, role_asked, slow;     /* slow: the commands connection was, at the last tick */
    uint64_t held_since_us, held_us; /* within this period */
    struct log_limit refused_limit, missed_limit;
    ev_timer tick;
};

static void set_heard(struct redis_probe *probe, bool heard)
{
    metrics_set(probe->metrics, M_REDIS_HEARD, heard);
}

static void prove(struct redis_probe *probe)
{
    set_heard(probe, true);
    if (probe->proven)
        return;
    probe->proven = true;
    probe->handler->heard(probe->arg);
}

/* --- one probe ------------------------------------------------------------------------------- */

static void log_refused(struct redis_probe *probe, struct slice reply)
{
    uint64_t held;
    if (!log_limit_pass(&probe->refused_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(reply);
    log_put(LOG_ERROR, "Redis does not let the relay probe its subscriber connection", "reply",
            text ? text : "", "hint",
            "a connection that went deaf will not be noticed; the user needs +publish, +subscribe "
            "and the channels &P:probe:* (docs/operations.md has the whole ACL line)",
            NULL);
    free(text);
}

static void on_published(void *arg, const struct redis_reply *reply)
{
    struct redis_probe *probe = arg;
    probe->unanswered--;
    if (probe->state != PROBE_SENT || probe->unanswered) /* it came back already */
        return;
    if (reply && redis_reply_type(reply) != REDIS_ERROR) {
        probe->state = PROBE_DUE;
        probe->due_since_us = clock_mono_us();
        return;
    }
    probe->state = PROBE_NONE;
    if (reply && redis_reply_is_error(reply, "NOPERM"))
        redis_probe_refused(probe, redis_reply_text(reply));
}

static void send_probe(struct redis_probe *probe)
{
    char number[24];
    int len = snprintf(number, sizeof(number), "%llu", (unsigned long long)++probe->number);
    struct slice argv[] = {SLICE_LIT("PUBLISH"), slice_of(probe->channel),
                           (struct slice){number, (size_t)len}};
    bool sent = redis_conn_send(probe->commands, argv, 3, on_published, probe);
    probe->unanswered += sent;
    probe->state = sent ? PROBE_SENT : PROBE_NONE;
}

void redis_probe_hear(struct redis_probe *probe, struct slice payload)
{
    uint64_t number;
    if (!probe->listening || slice_u64(payload, probe->number, &number) || number < probe->first)
        return;
    probe->came = true;
    if (number == probe->number)
        probe->state = PROBE_NONE;
    prove(probe);
    probe->handler->passed(probe->arg, number);
}

uint64_t redis_probe_mark(struct redis_probe *probe)
{
    if (!probe->listening || !redis_conn_is_up(probe->commands))
        return 0;
    send_probe(probe);
    return probe->number;
}

/* --- the server's role ------------------------------------------------------------------------
 */

static void on_role(void *arg, const struct redis_reply *reply)
{
    struct redis_probe *probe = arg;
    probe->role_asked = false;
    /* Where ROLE is forbidden nobody can tell. */
    if (!reply || redis_reply_count(reply) == 0)
        return;
    struct slice role = redis_reply_text(redis_reply_at(reply, 0));
    if (slice_is(role, "slave") || slice_is(role, "replica"))
        probe->handler->replica(probe->arg);
}

static void ask_role(struct redis_probe *probe)
{
    static const struct slice argv[] = {SLICE_LIT("ROLE")};
    if (!probe->role_asked)
        probe->role_asked = redis_conn_send(probe->commands, argv, 1, on_role, probe);
}

/* --- every period ----------------------------------------------------------------------------- */

static void period_begin(struct redis_probe *probe)
{
    probe->came = probe->answered = false;
    probe->held_us = 0;
    probe->held_since_us = clock_mono_us();
}

/* Held for most of the period: a backlog is being worked off, and the probe stands in it. */
static bool was_held(struct redis_probe *probe)
{
    uint64_t now = clock_mono_us();
    uint64_t held_us = probe->held_us + (probe->held ? now - probe->held_since_us : 0);
    return held_us * 2 > probe->config->redis_probe_ms * 1000;
}

/* Redis has only just sent it on: it is looked at in the next period. */
static bool is_young(const struct redis_probe *probe)
{
    return probe->state == PROBE_DUE &&
           (clock_mono_us() - probe->due_since_us) * 2 < probe->config->redis_probe_ms * 1000;
}

/* False: the connection is dead, and gone. */
static bool check(struct redis_probe *probe)
{
    bool silent = probe->state == PROBE_DUE && !probe->came && !is_young(probe);
    bool stuck = probe->due && !probe->answered;
    if (!silent && !stuck) {
        if (!is_young(probe)) /* which proves nothing yet */
            probe->missed = 0;
        return true;
    }
    set_heard(probe, false);
    metrics_add(probe->metrics, M_PROBE_MISSES, 1);
    if (++probe->missed < MISSES_MAX) {
        uint64_t held;
        if (log_limit_pass(&probe->missed_limit, clock_mono_us(), &held))
            log_put(LOG_WARN, "the subscriber connection seems to be deaf", "reason",
                    silent ? "a probe did not come back" : "no answer to a subscription",
                    "not_logged", log_u64(held), NULL);
        return true;
    }
    probe->handler->dead(probe->arg, silent ? "it is deaf: two probes did not come back"
                                            : "it is deaf: no answer to a subscription");
    return false;
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_probe *probe = w->data;
    /* What was sent a period ago has no answer: that connection, or Redis itself, hangs. The period
     * in which that ends is no whole one for the subscriber connection either. */
    bool slow = probe->role_asked || probe->unanswered, was_slow = probe->slow;
    probe->slow = slow;
    if (redis_conn_is_up(probe->commands))
        ask_role(probe);
    if (!probe->begun)
        return;
    if (slow || was_slow || was_held(probe) || !redis_conn_is_up(probe->commands))
        probe->missed = 0;
    else if (!check(probe))
        return;
    period_begin(probe);
    if (probe->listening && !probe->unanswered && !is_young(probe))
        send_probe(probe);
}

static void restart_timer(struct redis_probe *probe)
{
    probe->tick.repeat = (double)probe->config->redis_probe_ms / 1000.;
    ev_timer_again(probe->loop, &probe->tick);
}

/* --- what the connections tell ---------------------------------------------------------------- */

void redis_probe_begin(struct redis_probe *probe)
{
    probe->begun = true;
    probe->listening = probe->proven = false;
    probe->state = PROBE_NONE;
    probe->first = probe->number + 1;
    probe->due = 0;
    probe->missed = 0;
    period_begin(probe);
    restart_timer(probe);
}

void redis_probe_end(struct redis_probe *probe)
{
    probe->begun = probe->listening = false;
    probe->state = PROBE_NONE;
    set_heard(probe, false);
}

void redis_probe_listen(struct redis_probe *probe)
{
    probe->listening = true;
    send_probe(probe);
}

void redis_probe_refused(struct redis_probe *probe, struct slice reply)
{
    log_refused(probe, reply);
    probe->listening = false;
    probe->state = PROBE_NONE;
    if (probe->begun)
        prove(probe);
}

void redis_probe_expect(struct redis_probe *probe, size_t count)
{
    /* Its time begins within the period; but that of the first ones began with begin(). */
    if (probe->due == 0 && probe->proven)
        probe->answered = true;
    probe->due += count;
}

void redis_probe_answered(struct redis_probe *probe, size_t count)
{
    probe->due -= count;
    probe->answered = true;
}

void redis_probe_hold(struct redis_probe *probe, bool held)
{
    if (probe->held == held)
        return;
    uint64_t now = clock_mono_us();
    if (probe->held)
        probe->held_us += now - probe->held_since_us;
    probe->held = held;
    probe->held_since_us = now;
}

void redis_probe_now(struct redis_probe *probe)
{
    probe->role_asked = false;
    if (!probe->listening)
        return;
    set_heard(probe, false);
    send_probe(probe);
}

/* --- life ------------------------------------------------------------------------------------- */

static char *make_channel(const char *prefix)
{
    uint64_t random_bits = 0;
    char digits[32];
    if (getrandom(&random_bits, sizeof(random_bits), 0) != (ssize_t)sizeof(random_bits))
        random_bits = clock_wall_us() ^ (uint64_t)random() << 32;
    snprintf(digits, sizeof(digits), ":probe:%016llx", (unsigned long long)random_bits);
    struct buf channel = {0};
    size_t len;
    buf_puts(&channel, prefix);
    buf_puts(&channel, digits);
    return buf_take(&channel, &len);
}

struct redis_probe *redis_probe_new(struct ev_loop *loop, struct redis_conn *commands,
                                    struct config *config,
                                    const struct redis_probe_handler *handler, void *arg,
                                    struct metrics *metrics)
{
    struct redis_probe *probe = mem_zero(1, sizeof(*probe));
    probe->loop = loop;
    probe->commands = commands;
    probe->config = config_ref(config);
    probe->handler = handler;
    probe->arg = arg;
    probe->metrics = metrics;
    probe->channel = make_channel(config->prefix);
    ev_init(&probe->tick, on_tick);
    /* After all reading of a turn: a process that was stopped for a while must not count as missed
     * what waits in its sockets. */
    ev_set_priority(&probe->tick, EV_MINPRI);
    probe->tick.data = probe;
    restart_timer(probe);
    return probe;
}

void redis_probe_free(struct redis_probe *probe)
{
    if (!probe)
        return;
    ev_timer_stop(probe->loop, &probe->tick);
    config_unref(probe->config);
    free(probe->channel);
    free(probe);
}

void redis_probe_configure(struct redis_probe *probe, struct config *config)
{
    bool changed = config->redis_probe_ms != probe->config->redis_probe_ms;
    config_unref(probe->config);
    probe->config = config_ref(config);
    if (changed)
        restart_timer(probe);
}

struct slice redis_probe_channel(const struct redis_probe *probe)
{
    return slice_of(probe->channel);
}
