/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/kit/timer.h"
#include "relay/redis/redis_backoff.h"
#include "relay/redis/redis_bridge_parts.h"

/* How long XREADGROUP waits; well below the lease. */
#define BLOCK_MS "1000"
/* The same for all relays, so that none leaves its name behind in the group. */
#define CONSUMER "sse-relay"

enum { STEP_FIRST = 16, STEP_MAX = 64, BYTES_GOAL = 1024 * 1024 };
static const double TAKE_S = 1.0; /* between two tries for another's lease */

/* --- going on --------------------------------------------------------------------------------- */

static void go_on(struct redis_bridge *bridge);

static void wait_for(struct redis_bridge *bridge, double seconds)
{
    timer_once(bridge->loop, &bridge->wait, seconds);
}

/* Others have read before us, perhaps: a relay that stood still, and did not know that it had lost
 * the lease. */
static void look_behind(struct redis_bridge *bridge)
{
    bridge->is_behind = true;
    buf_clear(&bridge->cursor);
}

static void set_holds(struct redis_bridge *bridge, bool holds)
{
    if (bridge->holds == holds)
        return;
    bridge->holds = holds;
    look_behind(bridge);
    if (holds) {
        metrics_add(bridge->metrics, M_BRIDGES_READING, 1);
    } else {
        metrics_sub(bridge->metrics, M_BRIDGES_READING, 1);
        metrics_sub(bridge->metrics, M_BRIDGE_LAG, bridge->lag);
        bridge->lag = 0;
    }
    log_put(LOG_INFO, holds ? "reading a bridged stream" : "no longer reading a bridged stream",
            "stream", bridge->rule->source, "group", bridge->rule->group, NULL);
}

static void fail(struct redis_bridge *bridge, const char *what, struct slice reply)
{
    uint64_t held;
    if (log_limit_pass(&bridge->failed_limit, clock_mono_us(), &held)) {
        char *text = slice_dup(reply);
        /* The pairs end where the hint would begin. */
        const char *hint = redis_error_is_denial(reply) ? "hint" : NULL;
        log_put(LOG_ERROR, what, "stream", bridge->rule->source, "group", bridge->rule->group,
                "reply", text ? text : "unexpected answer", "not_logged", log_u64(held), hint,
                "the user needs the stream's key, and +xreadgroup +xautoclaim +xack +xpending "
                "+xgroup|create (docs/operations.md, section 4)",
                NULL);
        free(text);
    }
    wait_for(bridge, redis_backoff_s(bridge->failures++));
    look_behind(bridge);
}

/* True: an array of fewer than @count. Nobody that is a Redis gives that. */
static bool is_odd(struct redis_bridge *bridge, const struct redis_reply *reply, size_t count)
{
    if (redis_reply_count(reply) >= count)
        return false;
    fail(bridge, "an answer about a bridged stream is not as expected, trying again", SLICE_NONE);
    return true;
}

/* True: an answer that is of no use. An unusable one is told of by the connection, which goes. */
static bool is_refused(struct redis_bridge *bridge, const struct redis_reply *reply,
                       const char *what)
{
    if (!reply)
        return true;
    if (redis_reply_type(reply) != REDIS_ERROR)
        return false;
    if (redis_reply_is_unusable(reply))
        return true;
    if (redis_error_is_missing_function(redis_reply_text(reply)))
        bridge->handler->library_lost(bridge->arg);
    else
        fail(bridge, what, redis_reply_text(reply));
    return true;
}

static struct redis_bridge *answered(void *arg)
{
    struct redis_bridge *bridge = arg;
    bridge->asking = false;
    return bridge;
}

/* --- the lease -------------------------------------------------------------------------------- */

/* The first element of an answer of sse_bridge. */
enum { HELD_BY_OTHERS = 0, HELD = 1, HELD_BUT_BEHIND = 2 };

static int64_t holding(const struct redis_reply *reply)
{
    return redis_reply_count(reply) ? redis_reply_number(redis_reply_at(reply, 0)) : -1;
}

static void on_returned(void *arg, const struct redis_reply *reply)
{
    (void)arg, (void)reply; /* else it ends by itself */
}

static void on_leased(void *arg, const struct redis_reply *reply)
{
    struct redis_bridge *bridge = answered(arg);
    if (is_refused(bridge, reply, "cannot take the lease of a bridged stream, trying again"))
        return;
    bool holder = holding(reply) == HELD;
    if (holder && bridge->draining) {
        redis_bridge_lease(bridge, 0, on_returned);
        return;
    }
    set_holds(bridge, holder);
    bridge->renewed_us = clock_mono_us();
    if (!holder)
        wait_for(bridge, TAKE_S);
    else if (redis_reply_count(reply) > 1 && redis_reply_number(redis_reply_at(reply, 1)) > 0)
        look_behind(bridge);
    go_on(bridge);
}

static bool is_renewal_due(const struct redis_bridge *bridge)
{
    return clock_mono_us() - bridge->renewed_us > REDIS_BRIDGE_LEASE_MS * UINT64_C(1000) / 3;
}

/* --- how far behind --------------------------------------------------------------------------- */

/* Of names and values in turn. */
static const struct redis_reply *find_value(const struct redis_reply *pairs, const char *name)
{
    for (size_t i = 0; i + 1 < redis_reply_count(pairs); i += 2)
        if (slice_is(redis_reply_text(redis_reply_at(pairs, i)), name))
            return redis_reply_at(pairs, i + 1);
    return NULL;
}

static uint64_t count_of(const struct redis_reply *pairs, const char *name)
{
    const struct redis_reply *value = find_value(pairs, name);
    int64_t n = value ? redis_reply_number(value) : 0;
    return n > 0 ? (uint64_t)n : 0; /* Redis does not always know the lag */
}

static void on_groups(void *arg, const struct redis_reply *reply)
{
    struct redis_bridge *bridge = arg;
    if (!reply || !bridge->holds)
        return;
    bridge->may_not_ask = redis_reply_is_error(reply, "NOPERM");
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const struct redis_reply *group = redis_reply_at(reply, i), *name;
        name = find_value(group, "name");
        if (!name || !slice_is(redis_reply_text(name), bridge->rule->group))
            continue;
        uint64_t lag = count_of(group, "pending") + count_of(group, "lag");
        metrics_add(bridge->metrics, M_BRIDGE_LAG, lag - bridge->lag); /* modulo 2^64 */
        bridge->lag = lag;
    }
}

static bool keep_lease(struct redis_bridge *bridge)
{
    struct slice argv[] = {SLICE_LIT("XINFO"), SLICE_LIT("GROUPS"), slice_of(bridge->rule->source)};
    if (bridge->holds && !bridge->may_not_ask)
        redis_conn_send(bridge->conn, argv, 3, on_groups, bridge);
    return redis_bridge_lease(bridge, REDIS_BRIDGE_LEASE_MS, on_leased);
}

/* --- moving ----------------------------------------------------------------------------------- */

static void settle_step(struct redis_bridge *bridge)
{
    const struct redis_bridge_batch *batch = &bridge->batch;
    if (batch->bytes > BYTES_GOAL)
        bridge->step = bridge->step > 2 ? bridge->step / 2 : 1;
    else if (batch->count == bridge->step && bridge->step < STEP_MAX)
        bridge->step *= 2;
    if (bridge->step > STEP_MAX)
        bridge->step = STEP_MAX;
}

static void on_moved(void *arg, const struct redis_reply *reply)
{
    static const char what[] = "cannot publish the entries of a bridged stream, trying again";
    struct redis_bridge *bridge = answered(arg);
    struct slice stopped;
    if (is_refused(bridge, reply, what))
        return;
    if (holding(reply) == HELD && is_odd(bridge, reply, 8))
        return;
    if (holding(reply) != HELD) {
        set_holds(bridge, holding(reply) == HELD_BUT_BEHIND && !bridge->draining);
        look_behind(bridge);
        go_on(bridge);
        return;
    }
    bridge->renewed_us = clock_mono_us();
    redis_bridge_settle(bridge, reply, &stopped);
    settle_step(bridge);
    if (stopped.ptr) {
        fail(bridge, what, stopped);
    } else {
        bridge->failures = 0;
        buf_clear(&bridge->last_id);
        buf_put_slice(&bridge->last_id, buf_slice(&bridge->sent_id));
    }
    go_on(bridge);
}

static void move(struct redis_bridge *bridge, const struct redis_reply *entries)
{
    bridge->asking = redis_bridge_move(bridge, entries, on_moved);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void on_made(void *arg, const struct redis_reply *reply)
{
    struct redis_bridge *bridge = answered(arg);
    bool is_there = reply && redis_reply_is_error(reply, "BUSYGROUP");
    if (!is_there &&
        is_refused(bridge, reply, "cannot make the group of a bridged stream, trying again"))
        return;
    if (!is_there)
        log_put(LOG_INFO, "made the group of a bridged stream", "stream", bridge->rule->source,
                "group", bridge->rule->group, "from",
                bridge->last_id.len ? "the entry that was read last" : "now on", NULL);
    go_on(bridge);
}

/* From now on; where it was there, and somebody has deleted it, or the stream, from where we were.
 */
static void make_group(struct redis_bridge *bridge)
{
    struct slice from = bridge->last_id.len ? buf_slice(&bridge->last_id) : SLICE_LIT("$");
    struct slice argv[] = {SLICE_LIT("XGROUP"),
                           SLICE_LIT("CREATE"),
                           slice_of(bridge->rule->source),
                           slice_of(bridge->rule->group),
                           from,
                           SLICE_LIT("MKSTREAM")};
    bridge->asking = redis_conn_send(bridge->conn, argv, 6, on_made, bridge);
}

/* True: an answer without entries to move, and what has to be done is under way. */
static bool read_fails(struct redis_bridge *bridge, const struct redis_reply *reply)
{
    bool is_gone = reply && (redis_reply_is_error(reply, "NOGROUP") ||
                             redis_reply_is_error(reply, "UNBLOCKED the stream"));
    if (is_gone && bridge->enabled && !bridge->draining) {
        make_group(bridge);
        return true;
    }
    return is_refused(bridge, reply, "cannot read a bridged stream, trying again");
}

/* {cursor, entries, ids of those that are not there any more} */
static void on_claimed(void *arg, const struct redis_reply *reply)
{
    struct redis_bridge *bridge = answered(arg);
    if (read_fails(bridge, reply))
        return;
    if (is_odd(bridge, reply, 2))
        return;
    const struct redis_reply *entries = redis_reply_at(reply, 1);
    struct slice cursor = redis_reply_text(redis_reply_at(reply, 0));
    if (redis_reply_count(reply) > 2)
        redis_bridge_count_deleted(bridge, redis_reply_count(redis_reply_at(reply, 2)));
    buf_clear(&bridge->cursor);
    if (redis_reply_count(entries) > 0) {
        move(bridge, entries);
        return;
    }
    bridge->is_behind = cursor.ptr && !slice_is(cursor, "0-0");
    if (bridge->is_behind)
        buf_put_slice(&bridge->cursor, cursor);
    go_on(bridge);
}

/* Whoever had the lease before may have left entries that were read and not acknowledged. */
static void claim(struct redis_bridge *bridge)
{
    const char *count = log_u64(bridge->step);
    struct slice argv[] = {SLICE_LIT("XAUTOCLAIM"),
                           slice_of(bridge->rule->source),
                           slice_of(bridge->rule->group),
                           SLICE_LIT(CONSUMER),
                           SLICE_LIT("0"),
                           bridge->cursor.len ? buf_slice(&bridge->cursor) : SLICE_LIT("0-0"),
                           SLICE_LIT("COUNT"),
                           slice_of(count)};
    bridge->asking = redis_conn_send(bridge->conn, argv, 8, on_claimed, bridge);
}

/* {{stream, entries}}; nil: none came. */
static void on_read(void *arg, const struct redis_reply *reply)
{
    struct redis_bridge *bridge = answered(arg);
    if (read_fails(bridge, reply))
        return;
    if (redis_reply_count(reply) && !bridge->draining) {
        const struct redis_reply *stream = redis_reply_at(reply, 0);
        if (!is_odd(bridge, stream, 2))
            move(bridge, redis_reply_at(stream, 1));
        return;
    }
    go_on(bridge);
}

static void read_new(struct redis_bridge *bridge)
{
    const char *count = log_u64(bridge->step);
    struct slice argv[] = {SLICE_LIT("XREADGROUP"),
                           SLICE_LIT("GROUP"),
                           slice_of(bridge->rule->group),
                           SLICE_LIT(CONSUMER),
                           SLICE_LIT("COUNT"),
                           slice_of(count),
                           SLICE_LIT("BLOCK"),
                           SLICE_LIT(BLOCK_MS),
                           SLICE_LIT("STREAMS"),
                           slice_of(bridge->rule->source),
                           SLICE_LIT(">")};
    bridge->asking = redis_conn_send(bridge->conn, argv, 11, on_read, bridge);
}

static void go_on(struct redis_bridge *bridge)
{
    if (bridge->asking || !bridge->enabled || bridge->draining || ev_is_active(&bridge->wait) ||
        !redis_conn_is_up(bridge->conn))
        return;
    if (!bridge->holds || is_renewal_due(bridge))
        bridge->asking = keep_lease(bridge);
    else if (bridge->is_behind)
        claim(bridge);
    else
        read_new(bridge);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_wait(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    go_on(w->data);
}

static void on_up(void *arg)
{
    go_on(arg);
}

static void on_down(void *arg, const char *why)
{
    (void)why;
    struct redis_bridge *bridge = arg;
    bridge->asking = bridge->may_not_ask = false;
    bridge->is_behind = true;
    set_holds(bridge, false);
    ev_timer_stop(bridge->loop, &bridge->wait);
}

struct redis_bridge *redis_bridge_new(struct ev_loop *loop, struct redis_target *target,
                                      struct config *config, const struct config_bridge *rule,
                                      const struct redis_bridge_handler *handler, void *arg,
                                      struct metrics *metrics)
{
    static const struct redis_conn_handler conn_handler = {on_up, on_down, NULL};
    struct redis_bridge *bridge = mem_zero(1, sizeof(*bridge));
    bridge->loop = loop;
    bridge->config = config_ref(config);
    bridge->rule = rule;
    bridge->handler = handler;
    bridge->arg = arg;
    bridge->metrics = metrics;
    bridge->step = STEP_FIRST;
    bridge->is_behind = true;
    random_token(bridge->owner);
    name_put_bridge(&bridge->id, slice_of(rule->group), slice_of(rule->source));
    ev_init(&bridge->wait, on_wait);
    bridge->wait.data = bridge;
    bridge->conn = redis_conn_new(loop, target, "bridge", &conn_handler, bridge, metrics);
    return bridge;
}

void redis_bridge_free(struct redis_bridge *bridge)
{
    if (!bridge)
        return;
    bridge->enabled = false;
    redis_conn_free(bridge->conn);
    ev_timer_stop(bridge->loop, &bridge->wait);
    set_holds(bridge, false);
    bridge_reset(&bridge->reading);
    buf_reset(&bridge->id);
    buf_reset(&bridge->cursor);
    buf_reset(&bridge->sent_id);
    buf_reset(&bridge->last_id);
    config_unref(bridge->config);
    free(bridge);
}

void redis_bridge_start(struct redis_bridge *bridge)
{
    redis_conn_start(bridge->conn);
}

void redis_bridge_drop(struct redis_bridge *bridge, const char *why)
{
    redis_conn_drop(bridge->conn, why);
}

bool redis_bridge_is(const struct redis_bridge *bridge, const struct config_bridge *rule)
{
    return rule->is_stream && strcmp(bridge->rule->source, rule->source) == 0 &&
           strcmp(bridge->rule->group, rule->group) == 0;
}

void redis_bridge_configure(struct redis_bridge *bridge, struct config *config,
                            const struct config_bridge *rule)
{
    struct config *old = bridge->config;
    bridge->config = config_ref(config);
    bridge->rule = rule;
    config_unref(old);
}

void redis_bridge_enable(struct redis_bridge *bridge, bool enabled)
{
    bridge->enabled = enabled;
    if (!enabled)
        return;
    bridge->failures = 0;
    ev_timer_stop(bridge->loop, &bridge->wait); /* the functions may have been missing, no more */
    go_on(bridge);
}

/* What is being read stays unacknowledged, and goes first with whoever takes over. */
void redis_bridge_drain(struct redis_bridge *bridge)
{
    bridge->draining = true;
    if (bridge->holds)
        redis_bridge_lease(bridge, 0, on_returned);
    set_holds(bridge, false);
}
