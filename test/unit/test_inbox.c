/* SPDX-License-Identifier: Apache-2.0 */
/* Many producers, one consumer: nothing lost, nothing twice, each producer's order kept, and the
 * loop always woken. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include "common/mem.h"
#include "relay/kit/inbox.h"
#include "test/unit/tests_run.h"

enum { PRODUCERS = 4, ITEMS = 20000, STEP = 100 };

struct parcel {
    struct inbox_item item; /* first */
    unsigned producer, number;
};

static struct ev_loop *loop;
static struct inbox *inbox;
static unsigned next[PRODUCERS], total, goal, turns;
static unsigned at_a_time; /* pops per turn, then it wakes itself; 0: all */

static void on_ready(void *arg)
{
    ck_assert_ptr_eq(arg, &total);
    struct parcel *parcel;
    unsigned taken = 0;
    turns++;
    while ((at_a_time == 0 || taken < at_a_time) && (parcel = (struct parcel *)inbox_pop(inbox))) {
        ck_assert_uint_eq(parcel->number, next[parcel->producer]);
        next[parcel->producer]++;
        total++;
        taken++;
        free(parcel);
    }
    if (at_a_time && taken == at_a_time)
        inbox_wake(inbox);
    if (total == goal)
        ev_break(loop, EVBREAK_ALL);
}

static void setup(void)
{
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    inbox = inbox_new(loop, on_ready, &total);
    for (unsigned i = 0; i < PRODUCERS; i++)
        next[i] = 0;
    total = turns = at_a_time = 0;
}

static void teardown(void)
{
    inbox_free(inbox);
    ev_loop_destroy(loop);
}

static void push(unsigned producer, unsigned number)
{
    struct parcel *parcel = mem_alloc(sizeof(*parcel));
    parcel->producer = producer;
    parcel->number = number;
    inbox_push(inbox, &parcel->item);
}

START_TEST(test_pop_gives_what_was_pushed_in_order)
{
    ck_assert_ptr_null(inbox_pop(inbox));
    for (unsigned i = 0; i < 3; i++)
        push(0, i);
    ck_assert_uint_eq(inbox_depth(inbox), 3);
    for (unsigned i = 0; i < 3; i++) {
        if (i == 1)
            push(0, 3); /* behind those that are out already */
        struct parcel *parcel = (struct parcel *)inbox_pop(inbox);
        ck_assert_uint_eq(parcel->number, i);
        free(parcel);
    }
    free(inbox_pop(inbox));
    ck_assert_ptr_null(inbox_pop(inbox));
    ck_assert_uint_eq(inbox_depth(inbox), 0);
}
END_TEST

START_TEST(test_many_pushes_wake_once)
{
    goal = 10;
    for (unsigned i = 0; i < 10; i++)
        push(0, i);
    ev_run(loop, 0);
    ck_assert_uint_eq(turns, 1);
}
END_TEST

START_TEST(test_a_push_during_the_callback_wakes_again)
{
    goal = 1;
    push(0, 0);
    ev_run(loop, 0);
    push(0, 1);
    goal = 2;
    ev_run(loop, 0);
    ck_assert_uint_eq(total, 2);
}
END_TEST

static void *produce(void *arg)
{
    unsigned producer = *(unsigned *)arg;
    for (unsigned i = 0; i < ITEMS; i++)
        push(producer, i);
    return NULL;
}

/* @_i: how many the consumer takes before it gives others a turn. */
START_TEST(test_threads_lose_nothing_and_keep_their_order)
{
    pthread_t threads[PRODUCERS];
    unsigned numbers[PRODUCERS];
    goal = PRODUCERS * ITEMS;
    at_a_time = (unsigned)_i * STEP;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, produce, &numbers[i]), 0);
    }
    ev_run(loop, 0); /* ends only if every push that needs it wakes the loop */
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(total, goal);
    ck_assert_uint_eq(inbox_depth(inbox), 0);
    for (unsigned i = 0; i < PRODUCERS; i++)
        ck_assert_uint_eq(next[i], ITEMS);
}
END_TEST

/* Two loops that answer each other: as worker and bus do. */
struct side {
    struct ev_loop *loop;
    struct inbox *inbox, *other;
    unsigned left;
};

static void on_side_ready(void *arg)
{
    struct side *side = arg;
    struct inbox_item *item;
    while (side->left && (item = inbox_pop(side->inbox))) {
        struct parcel *parcel = (struct parcel *)item;
        parcel->number++;
        if (--side->left == 0)
            ev_break(side->loop, EVBREAK_ALL);
        inbox_push(side->other, item);
    }
}

static void *run_side(void *arg)
{
    struct side *side = arg;
    ev_run(side->loop, 0);
    return NULL;
}

START_TEST(test_two_loops_wake_each_other)
{
    enum { ROUNDS = 5000 };
    struct side a = {ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV), NULL, NULL, ROUNDS};
    struct side b = {ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV), NULL, NULL, ROUNDS};
    struct parcel parcel = {.number = 0};
    pthread_t thread;
    a.inbox = b.other = inbox_new(a.loop, on_side_ready, &a);
    b.inbox = a.other = inbox_new(b.loop, on_side_ready, &b);
    ck_assert_int_eq(pthread_create(&thread, NULL, run_side, &b), 0);
    inbox_push(a.inbox, &parcel.item);
    ev_run(a.loop, 0);
    pthread_join(thread, NULL);
    ck_assert_ptr_eq(inbox_pop(a.inbox), &parcel.item);
    ck_assert_uint_eq(parcel.number, 2 * ROUNDS);
    inbox_free(a.inbox);
    inbox_free(b.inbox);
    ev_loop_destroy(a.loop);
    ev_loop_destroy(b.loop);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("inbox");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_pop_gives_what_was_pushed_in_order);
    tcase_add_test(cases, test_many_pushes_wake_once);
    tcase_add_test(cases, test_a_push_during_the_callback_wakes_again);
    tcase_add_loop_test(cases, test_threads_lose_nothing_and_keep_their_order, 0, 2);
    tcase_add_test(cases, test_two_loops_wake_each_other);
    return tests_run(cases);
}
