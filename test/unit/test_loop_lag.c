/* SPDX-License-Identifier: Apache-2.0 */
/* The longest turn of a loop, work at a turn's end included, anew in each period. */
#include <check.h>
#include <ev.h>
#include <time.h>

#include "relay/kit/loop_lag.h"
#include "test/unit/tests_run.h"

enum { WORK_MS = 30 };
static const double PERIOD_S = 0.1;

static struct ev_loop *loop;
static struct metrics *metrics;
static struct loop_lag *lag;

static void work(void)
{
    struct timespec ts = {.tv_nsec = WORK_MS * 1000000L};
    nanosleep(&ts, NULL);
}

static void setup(void)
{
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    metrics = metrics_new();
    lag = loop_lag_new(loop, metrics, PERIOD_S);
}

static void teardown(void)
{
    loop_lag_free(lag);
    metrics_free(metrics);
    ev_loop_destroy(loop);
}

static uint64_t lag_us(void)
{
    return metrics_total(&metrics, 1, M_LOOP_LAG_US);
}

/* Turn by turn, until a period has been told of. */
static void run_period(void)
{
    metrics_set(metrics, M_LOOP_LAG_US, UINT64_MAX);
    while (lag_us() == UINT64_MAX)
        ev_run(loop, EVRUN_ONCE);
}

static void on_timer(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l, (void)w, (void)revents;
    work();
}

static void on_turn_end(struct ev_loop *l, ev_prepare *w, int revents)
{
    (void)revents;
    work();
    ev_prepare_stop(l, w);
}

START_TEST(test_an_idle_loop_has_next_to_none)
{
    run_period();
    ck_assert_uint_lt(lag_us(), WORK_MS * 1000);
}
END_TEST

START_TEST(test_the_longest_turn_is_told_once)
{
    ev_timer timer;
    ev_timer_init(&timer, on_timer, 0.001, 0.);
    ev_timer_start(loop, &timer);
    run_period();
    ck_assert_uint_ge(lag_us(), WORK_MS * 1000);
    run_period();
    ck_assert_uint_lt(lag_us(), WORK_MS * 1000);
}
END_TEST

START_TEST(test_work_at_the_end_of_a_turn_counts)
{
    ev_prepare end;
    ev_run(loop, EVRUN_NOWAIT); /* so that the turn has a beginning */
    ev_prepare_init(&end, on_turn_end);
    ev_prepare_start(loop, &end);
    run_period();
    ck_assert_uint_ge(lag_us(), WORK_MS * 1000);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("loop_lag");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_an_idle_loop_has_next_to_none);
    tcase_add_test(cases, test_the_longest_turn_is_told_once);
    tcase_add_test(cases, test_work_at_the_end_of_a_turn_counts);
    return tests_run(cases);
}
