/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/kit/log.h"

enum {
    FAR_US = 5000000, /* beyond, somebody should look after the clocks */
    SLOW_US = 500000, /* what an answer that took longer says may be off by half of that */
};

struct redis_clock {
    struct ev_loop *loop;
    struct redis_conn *conn;
    struct config *config;
    struct metrics *metrics;
    atomic_int_fast64_t offset_us;
    bool known;        /* of this connection's server */
    bool asked;        /* an answer is due */
    bool told;         /* that they are far apart */
    uint64_t asked_us; /* monotonic */
    struct log_limit far_limit;
    ev_timer tick;
};

static void tell(struct redis_clock *clock, int64_t offset_us)
{
    char seconds[32];
    uint64_t held;
    bool far = offset_us > FAR_US || offset_us < -FAR_US, was_told = clock->told;
    clock->told = far;
    if (!far || was_told || !log_limit_pass(&clock->far_limit, clock_mono_us(), &held))
        return;
    snprintf(seconds, sizeof(seconds), "%.1f", (double)offset_us / 1e6);
    log_put(LOG_WARN, "the clocks of Redis and of this machine differ", "redis_ahead_seconds",
            seconds, "hint",
            "ages (since, ttl) go by the clock of Redis; let NTP set both, or whoever reads ids as "
            "times is misled",
            "not_logged", log_u64(held), NULL);
}

/* Seconds, and microseconds of the second. In the middle between question and answer, or there
 * about. */
static void on_time(void *arg, const struct redis_reply *reply)
{
    struct redis_clock *clock = arg;
    uint64_t took_us = clock_mono_us() - clock->asked_us;
    clock->asked = false;
    if (!reply || redis_reply_count(reply) != 2)
        return; /* an ACL may forbid it */
    int64_t seconds = redis_reply_number(redis_reply_at(reply, 0));
    int64_t us = redis_reply_number(redis_reply_at(reply, 1));
    if (seconds <= 0 || us < 0 || (clock->known && took_us > SLOW_US))
        return;
    int64_t offset = seconds * 1000000 + us - (int64_t)(clock_wall_us() - took_us / 2);
    clock->known = true;
    atomic_store_explicit(&clock->offset_us, offset, memory_order_relaxed);
    metrics_set(clock->metrics, M_REDIS_CLOCK_OFFSET_US, (uint64_t)offset);
    tell(clock, offset);
}

static void ask(struct redis_clock *clock)
{
    static const struct slice argv[] = {SLICE_LIT("TIME")};
    if (clock->asked)
        return;
    clock->asked_us = clock_mono_us();
    clock->asked = redis_conn_send(clock->conn, argv, 1, on_time, clock);
}

void redis_clock_ask(struct redis_clock *clock)
{
    clock->known = false;
    ask(clock);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    ask(w->data);
}

static void restart_timer(struct redis_clock *clock)
{
    clock->tick.repeat = (double)clock->config->redis_probe_ms / 1000.;
    ev_timer_again(clock->loop, &clock->tick);
}

struct redis_clock *redis_clock_new(struct ev_loop *loop, struct redis_conn *conn,
                                    struct config *config, struct metrics *metrics)
{
    struct redis_clock *clock = mem_zero(1, sizeof(*clock));
    clock->loop = loop;
    clock->conn = conn;
    clock->config = config_ref(config);
    clock->metrics = metrics;
    ev_init(&clock->tick, on_tick);
    clock->tick.data = clock;
    restart_timer(clock);
    return clock;
}

void redis_clock_configure(struct redis_clock *clock, struct config *config)
{
    bool changed = config->redis_probe_ms != clock->config->redis_probe_ms;
    config_unref(clock->config);
    clock->config = config_ref(config);
    if (changed)
        restart_timer(clock);
}

void redis_clock_free(struct redis_clock *clock)
{
    if (!clock)
        return;
    ev_timer_stop(clock->loop, &clock->tick);
    config_unref(clock->config);
    free(clock);
}

int64_t redis_clock_offset_us(const struct redis_clock *clock)
{
    return (int64_t)atomic_load_explicit(&clock->offset_us, memory_order_relaxed);
}

uint64_t redis_clock_now_us(const struct redis_clock *clock)
{
    return clock_wall_us() + (uint64_t)redis_clock_offset_us(clock);
}
