/* SPDX-License-Identifier: Apache-2.0 */
/* The timing wheel: up to a tick late, never early, whatever is set and cancelled meanwhile. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/kit/wheel.h"
#include "rng.h"
#include "test/unit/tests_run.h"

enum { TICK = 10 };

struct timer {
    struct wheel_entry entry; /* first */
    unsigned fired;
    uint64_t due; /* as it was asked for; 0: not waiting */
};

static struct wheel *wheel;
static uint64_t now;
static void (*on_fire)(struct timer *timer);

static void fire(struct wheel_entry *entry, void *arg)
{
    struct timer *timer = (struct timer *)entry;
    ck_assert_ptr_eq(arg, &now);
    ck_assert_uint_eq(entry->due_ms, 0);
    ck_assert_uint_le(timer->due, now);
    timer->fired++;
    timer->due = 0;
    if (on_fire)
        on_fire(timer);
}

static void setup(void)
{
    now = 1000;
    on_fire = NULL;
    wheel = wheel_new(TICK, now, fire, &now);
}

static void teardown(void)
{
    wheel_free(wheel);
}

static void set(struct timer *timer, uint64_t due)
{
    timer->due = due;
    wheel_set(wheel, &timer->entry, due);
}

static void advance(uint64_t to)
{
    now = to;
    wheel_advance(wheel, now);
}

START_TEST(test_fires_once_and_not_before_it_is_due)
{
    struct timer timer = {0};
    set(&timer, 1055);
    advance(1054);
    ck_assert_uint_eq(timer.fired, 0);
    advance(1055 + TICK);
    ck_assert_uint_eq(timer.fired, 1);
    advance(20000);
    ck_assert_uint_eq(timer.fired, 1);
}
END_TEST

START_TEST(test_what_is_overdue_fires_at_the_next_tick)
{
    struct timer past = {0}, zero = {0};
    set(&past, 500);
    set(&zero, 0);
    advance(1000 + TICK);
    ck_assert_uint_eq(past.fired, 1);
    ck_assert_uint_eq(zero.fired, 1);
}
END_TEST

START_TEST(test_cancelled_never_fires)
{
    struct timer timer = {0};
    wheel_cancel(&timer.entry); /* not set: fine */
    set(&timer, 1050);
    wheel_cancel(&timer.entry);
    wheel_cancel(&timer.entry);
    advance(20000);
    ck_assert_uint_eq(timer.fired, 0);
}
END_TEST

START_TEST(test_set_again_moves)
{
    struct timer timer = {0};
    set(&timer, 1050);
    set(&timer, 2000);
    advance(1999);
    ck_assert_uint_eq(timer.fired, 0);
    set(&timer, 3000);
    set(&timer, 2500);
    advance(2510);
    ck_assert_uint_eq(timer.fired, 1);
}
END_TEST

START_TEST(test_more_than_a_round_ahead_waits_its_rounds)
{
    struct timer timer = {0};
    uint64_t due = 1000 + 3 * 512 * TICK + 5;
    set(&timer, due);
    for (uint64_t t = 1000; t < due; t += TICK)
        advance(t);
    ck_assert_uint_eq(timer.fired, 0);
    advance(due + TICK);
    ck_assert_uint_eq(timer.fired, 1);
}
END_TEST

START_TEST(test_a_long_pause_misses_nothing)
{
    struct timer timers[600] = {0};
    for (size_t i = 0; i < 600; i++)
        set(&timers[i], 1000 + i * TICK);
    advance(1000000);
    for (size_t i = 0; i < 600; i++)
        ck_assert_uint_eq(timers[i].fired, 1);
}
END_TEST

START_TEST(test_a_clock_that_stands_still_fires_nothing_twice)
{
    struct timer timer = {0};
    set(&timer, 1005);
    advance(1010);
    advance(1010);
    ck_assert_uint_eq(timer.fired, 1);
    set(&timer, 1005);
    advance(1010);
    ck_assert_uint_eq(timer.fired, 1);
    advance(1020);
    ck_assert_uint_eq(timer.fired, 2);
}
END_TEST

static void set_again(struct timer *timer)
{
    if (timer->fired < 3)
        set(timer, now + 5120); /* the very same slot */
}

START_TEST(test_fire_may_set_itself_into_the_same_slot)
{
    struct timer timer = {0};
    on_fire = set_again;
    set(&timer, 1010);
    for (uint64_t t = 1000; t < 30000; t += TICK)
        advance(t);
    ck_assert_uint_eq(timer.fired, 3);
}
END_TEST

static struct timer neighbours[3];

static void cancel_others(struct timer *timer)
{
    for (size_t i = 0; i < 3; i++)
        if (&neighbours[i] != timer)
            wheel_cancel(&neighbours[i].entry);
}

START_TEST(test_fire_may_cancel_others_that_are_due_as_well)
{
    memset(neighbours, 0, sizeof(neighbours));
    on_fire = cancel_others;
    for (size_t i = 0; i < 3; i++)
        set(&neighbours[i], 1010);
    advance(1020);
    ck_assert_uint_eq(neighbours[0].fired + neighbours[1].fired + neighbours[2].fired, 1);
}
END_TEST

START_TEST(test_model_every_timer_fires_within_a_tick)
{
    struct rng rng = rng_seeded("wheel");
    enum { COUNT = 200 };
    static struct timer timers[COUNT];
    memset(timers, 0, sizeof(timers));
    for (int step = 0; step < 20000; step++) {
        struct timer *timer = &timers[rng_below(&rng, COUNT)];
        size_t what = rng_below(&rng, 10);
        if (what < 6) {
            set(timer, now + 1 + rng_below(&rng, rng_below(&rng, 2) ? 100 : 20000));
        } else if (what == 6) {
            wheel_cancel(&timer->entry);
            timer->due = 0;
        } else {
            /* A round is the longest step after which lateness is promised to stay within a tick.
             */
            advance(now + rng_below(&rng, rng_below(&rng, 20) ? 30 : 3000));
            for (size_t i = 0; i < COUNT; i++)
                ck_assert(timers[i].due == 0 || timers[i].due + TICK > now);
        }
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("wheel");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_fires_once_and_not_before_it_is_due);
    tcase_add_test(cases, test_what_is_overdue_fires_at_the_next_tick);
    tcase_add_test(cases, test_cancelled_never_fires);
    tcase_add_test(cases, test_set_again_moves);
    tcase_add_test(cases, test_more_than_a_round_ahead_waits_its_rounds);
    tcase_add_test(cases, test_a_long_pause_misses_nothing);
    tcase_add_test(cases, test_a_clock_that_stands_still_fires_nothing_twice);
    tcase_add_test(cases, test_fire_may_set_itself_into_the_same_slot);
    tcase_add_test(cases, test_fire_may_cancel_others_that_are_due_as_well);
    tcase_add_test(cases, test_model_every_timer_fires_within_a_tick);
    return tests_run(cases);
}
