/* SPDX-License-Identifier: Apache-2.0 */
/* When the store is asked what is due, and what becomes of its answers, over a store that says what
 * it is told to. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/hash.h"
#include "relay/bus/bus_ends.h"
#include "relay/kit/log.h"
#include "test/unit/tests_run.h"

enum { CALLS = 16 };
static const double PATIENCE_S = 20.0;

static struct bus_base base;
static struct bus_spaces *spaces;
static struct bus_ends *ends;
static struct config *config;
static struct store_call *calls[CALLS]; /* not answered yet */
static size_t call_count, asked;
static enum err at_once; /* the answer, before a call is over; OK: it comes later */

/* --- the store -------------------------------------------------------------------------------- */

static void op_name(void *impl, struct store_name *name)
{
    (void)impl, (void)name;
}

static void op_open(void *impl, const char *ns, uint64_t seen, bool watched)
{
    (void)impl, (void)ns, (void)seen, (void)watched;
}

static void op_close(void *impl, const char *ns)
{
    (void)impl, (void)ns;
}

static void op_call(void *impl, struct store_call *call)
{
    (void)impl;
    ck_assert_str_eq(call->function, "sse_due");
    ck_assert_uint_eq(call->args->count, 0);
    asked++;
    if (at_once) {
        call->done(call, at_once);
        return;
    }
    ck_assert_uint_lt(call_count, CALLS);
    calls[call_count++] = call;
}

/* Answers the oldest call, with @text if there is any. */
static void answer(enum err e, const char *text)
{
    ck_assert_uint_gt(call_count, 0);
    struct store_call *call = calls[0];
    memmove(calls, calls + 1, --call_count * sizeof(calls[0]));
    if (text)
        strings_add(&call->answer, slice_of(text));
    call->done(call, e);
}

/* --- the rig ---------------------------------------------------------------------------------- */

static void setup(void)
{
    static const struct store_ops ops = {.watch = op_name,
                                         .unwatch = op_name,
                                         .rewatch = op_name,
                                         .open = op_open,
                                         .close = op_close,
                                         .call = op_call};
    char name[] = "sse-relay", *argv[] = {name, NULL}, *none[] = {NULL}, *message = NULL;
    enum config_action action;
    hash_seed_init();
    log_setup(LOG_ERROR + 1, LOG_LOGFMT);
    ck_assert_int_eq(config_load(1, argv, none, &config, &action, &message), OK);
    base = (struct bus_base){.loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV),
                             .config = config,
                             .store = {&ops, &base},
                             .tails = tails_new()};
    spaces = bus_spaces_new(&base);
    ends = bus_ends_new(&base, spaces);
    call_count = asked = 0;
    at_once = OK;
}

static void teardown(void)
{
    while (call_count)
        answer(ERR_CLOSED, NULL);
    bus_ends_free(ends);
    bus_spaces_free(spaces);
    tails_free(base.tails);
    ev_loop_destroy(base.loop);
    config_unref(config);
}

static void watch(const char *ns, bool wanted)
{
    char name[] = "t";
    struct note_name note = {.ns = slice_dup(slice_of(ns)), .name = name};
    if (wanted)
        bus_spaces_watch(spaces, &note);
    else
        ck_assert(bus_spaces_unwatch(spaces, &note));
    free(note.ns);
}

/* An event with end_after on a topic of @ns; a minute old, so that it is due as soon as may be. */
static void hear(const char *ns, uint64_t id, enum topic_end end)
{
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .ns = slice_of(ns),
                                  .topic = SLICE_LIT("t"),
                                  .data = SLICE_LIT("x"),
                                  .end = end,
                                  .end_after_ms = 1};
    struct event *ev = event_new(&fields, 0);
    bus_ends_hear(ends, ev);
    event_unref(ev);
}

/* Three of a batch for @ns: without end_after, an end, and the one with @id. */
static void publish(const char *ns, uint64_t id, enum publish_outcome outcome)
{
    struct publication items[] = {
        {.ends = false}, {.end_after_ms = 1, .ends = true}, {.end_after_ms = 1}};
    uint64_t ids[] = {1, 2, id};
    char *copy = slice_dup(slice_of(ns));
    struct note_publish note = {
        .request = {.ns = copy, .items = items, .count = 3}, .outcome = outcome, .ids = ids};
    bus_ends_published(ends, &note);
    free(copy);
}

static uint64_t a_minute_ago(void)
{
    return clock_wall_us() - 60000000;
}

static void wait_asked(size_t count)
{
    double end = ev_time() + PATIENCE_S;
    while (asked < count) {
        ck_assert_msg(ev_time() < end, "it was not asked");
        ev_run(base.loop, EVRUN_ONCE);
    }
    ck_assert_uint_eq(asked, count);
}

/* Whatever is to happen now has happened, and no timer is set for what is to come. */
static void expect_rest(size_t count)
{
    ev_run(base.loop, 0); /* until nothing is left to wait for */
    ck_assert_uint_eq(asked, count);
}

static void begin(const char *ns)
{
    watch(ns, true);
    bus_ends_set_up(ends, true);
    wait_asked(1);
}

/* --- tests ------------------------------------------------------------------------------------ */

START_TEST(test_each_namespace_with_watchers_is_asked_once_it_is_up)
{
    watch("a", true);
    watch("b", true);
    bus_ends_ask(ends, "a");
    expect_rest(0);
    bus_ends_set_up(ends, true);
    wait_asked(2);
    answer(OK, "0");
    answer(OK, "0");
    expect_rest(2);
    bus_ends_ask_all(ends);
    bus_ends_ask(ends, "a");
    wait_asked(4);
    answer(OK, "0");
    answer(OK, "0");
    expect_rest(4);
}
END_TEST

static const char *const absurd[] = {NULL,
                                     "",
                                     "0",
                                     "OK",
                                     "-1",
                                     "+1",
                                     " 1",
                                     "1 ",
                                     "1e3",
                                     "1.5",
                                     "x",
                                     "0x10",
                                     "inf",
                                     "nan",
                                     "\xff",
                                     "9007199254740992",
                                     "18446744073709551616",
                                     "99999999999999999999999999999999999999"};

START_TEST(test_an_answer_that_tells_no_time_is_the_end_of_it)
{
    begin("a");
    answer(OK, absurd[_i]);
    expect_rest(1);
    hear("a", a_minute_ago(), END_NONE); /* and of nothing else */
    wait_asked(2);
}
END_TEST

START_TEST(test_what_is_overdue_is_asked_for_again)
{
    begin("a");
    answer(OK, "1");
    wait_asked(2);
    answer(OK, "1");
    wait_asked(3);
    answer(OK, "0");
    expect_rest(3);
}
END_TEST

START_TEST(test_what_is_far_away_waits)
{
    begin("a");
    answer(OK, "9007199254740");                               /* the last that an id can tell */
    ck_assert_int_eq(ev_run(base.loop, EVRUN_NOWAIT) != 0, 1); /* a timer is set */
    ck_assert_uint_eq(asked, 1);
    hear("a", a_minute_ago(), END_NONE); /* sooner */
    wait_asked(2);
}
END_TEST

START_TEST(test_no_answer_and_a_refusal_are_followed_by_another_question)
{
    begin("a");
    answer(ERR_AGAIN, NULL);
    wait_asked(2);
    answer(ERR_DENIED, "ERR sse_publish: no id is left, sse:{a}:seq is at 2^53");
    wait_asked(3);
    answer(OK, "0");
    expect_rest(3);
}
END_TEST

START_TEST(test_a_refusal_before_the_call_is_over)
{
    watch("a", true);
    watch("b", true);
    at_once = ERR_AGAIN;
    bus_ends_set_up(ends, true);
    wait_asked(2);
    at_once = OK;
    wait_asked(4);
    watch("a", false);
    at_once = ERR_AGAIN;
    answer(OK, "1");
    answer(OK, "1");
    at_once = OK;
    wait_asked(5); /* b alone */
}
END_TEST

START_TEST(test_what_is_heard_while_it_is_asked_stands_beside_the_answer)
{
    begin("a");
    hear("a", a_minute_ago(), END_NONE);
    ck_assert_uint_eq(asked, 1);
    answer(OK, "0");
    wait_asked(2);
}
END_TEST

START_TEST(test_what_has_no_watchers_no_id_or_its_end_asks_nothing)
{
    begin("a");
    answer(OK, "0");
    hear("b", a_minute_ago(), END_NONE);
    hear("a", 0, END_NONE);
    hear("a", a_minute_ago(), END_DONE);
    expect_rest(1);
}
END_TEST

START_TEST(test_what_this_node_published_needs_no_watchers)
{
    bus_ends_set_up(ends, true);
    publish("a", a_minute_ago(), PUBLISH_DONE);
    wait_asked(1);
    answer(OK, "1"); /* something else is due there */
    wait_asked(2);
    answer(OK, "0");
    expect_rest(2);
    publish("a", 0, PUBLISH_DONE); /* ephemeral */
    publish("a", NOTE_ID_ENDED, PUBLISH_DONE);
    publish("a", a_minute_ago(), PUBLISH_UNKNOWN);
    expect_rest(2);
}
END_TEST

START_TEST(test_an_id_ahead_of_the_clock_delays_nothing)
{
    begin("a");
    answer(OK, "0");
    hear("a", EVENT_ID_MAX, END_NONE);
    wait_asked(2);
}
END_TEST

START_TEST(test_who_has_left_meanwhile_is_forgotten)
{
    begin("a");
    watch("a", false);
    answer(OK, "1");
    expect_rest(1);
    watch("a", true);
    hear("a", a_minute_ago(), END_NONE);
    wait_asked(2);
}
END_TEST

START_TEST(test_while_it_is_down_nothing_is_asked_and_then_everything)
{
    begin("a");
    bus_ends_set_up(ends, false);
    answer(ERR_CLOSED, NULL);
    hear("a", a_minute_ago(), END_NONE);
    bus_ends_ask_all(ends);
    expect_rest(1);
    bus_ends_set_up(ends, true);
    wait_asked(2);
    answer(OK, "0");
    expect_rest(2);
}
END_TEST

START_TEST(test_it_may_go_with_what_it_knows)
{
    begin("a");
    answer(OK, "9007199254740");
    watch("b", true);
    bus_ends_ask(ends, "b");
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("bus_ends");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_each_namespace_with_watchers_is_asked_once_it_is_up);
    tcase_add_loop_test(cases, test_an_answer_that_tells_no_time_is_the_end_of_it, 0,
                        (int)(sizeof(absurd) / sizeof(absurd[0])));
    tcase_add_test(cases, test_what_is_overdue_is_asked_for_again);
    tcase_add_test(cases, test_what_is_far_away_waits);
    tcase_add_test(cases, test_no_answer_and_a_refusal_are_followed_by_another_question);
    tcase_add_test(cases, test_a_refusal_before_the_call_is_over);
    tcase_add_test(cases, test_what_is_heard_while_it_is_asked_stands_beside_the_answer);
    tcase_add_test(cases, test_what_has_no_watchers_no_id_or_its_end_asks_nothing);
    tcase_add_test(cases, test_what_this_node_published_needs_no_watchers);
    tcase_add_test(cases, test_an_id_ahead_of_the_clock_delays_nothing);
    tcase_add_test(cases, test_who_has_left_meanwhile_is_forgotten);
    tcase_add_test(cases, test_while_it_is_down_nothing_is_asked_and_then_everything);
    tcase_add_test(cases, test_it_may_go_with_what_it_knows);
    return tests_run(cases);
}
