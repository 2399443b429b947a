/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/loop_lag.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"

struct loop_lag {
    struct ev_loop *loop;
    struct metrics *metrics;
    uint64_t begin_us, longest_us; /* of this turn; of the period */
    ev_check begin;
    ev_prepare end;
    ev_timer period;
};

static void on_begin(struct ev_loop *loop, ev_check *watcher, int revents)
{
    (void)loop, (void)revents;
    ((struct loop_lag *)watcher->data)->begin_us = clock_mono_us();
}

static void on_end(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
    (void)loop, (void)revents;
    struct loop_lag *lag = watcher->data;
    uint64_t took_us = lag->begin_us ? clock_mono_us() - lag->begin_us : 0;
    if (took_us > lag->longest_us)
        lag->longest_us = took_us;
}

static void on_period(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    (void)loop, (void)revents;
    struct loop_lag *lag = watcher->data;
    metrics_set(lag->metrics, M_LOOP_LAG_US, lag->longest_us);
    lag->longest_us = 0;
}

struct loop_lag *loop_lag_new(struct ev_loop *loop, struct metrics *metrics, double period_s)
{
    struct loop_lag *lag = mem_zero(1, sizeof(*lag));
    lag->loop = loop;
    lag->metrics = metrics;
    ev_check_init(&lag->begin, on_begin);
    ev_prepare_init(&lag->end, on_end);
    ev_timer_init(&lag->period, on_period, period_s, period_s);
    /* Around everything else, what others do at a turn's end included. */
    ev_set_priority(&lag->begin, EV_MAXPRI);
    ev_set_priority(&lag->end, EV_MINPRI);
    lag->begin.data = lag->end.data = lag->period.data = lag;
    ev_check_start(loop, &lag->begin);
    ev_prepare_start(loop, &lag->end);
    ev_timer_start(loop, &lag->period);
    return lag;
}

void loop_lag_free(struct loop_lag *lag)
{
    if (!lag)
        return;
    ev_check_stop(lag->loop, &lag->begin);
    ev_prepare_stop(lag->loop, &lag->end);
    ev_timer_stop(lag->loop, &lag->period);
    free(lag);
}
