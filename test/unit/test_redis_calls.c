/* SPDX-License-Identifier: Apache-2.0 */
/* What the answers to calls mean, over a Redis that says what it is told to. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fake_redis.h"
#include "relay/kit/log.h"
#include "relay/redis/redis_calls.h"
#include "test/unit/tests_run.h"

static const double PATIENCE_S = 20.0;

static struct ev_loop *loop;
static struct fake_redis redis;
static struct config *config;
static struct metrics *metrics;
static struct redis_url url;
static struct redis_target *target;
static struct redis_conn *conn;
static struct redis_calls *calls;
static unsigned refused, called, done;
static enum err result;
static struct strings answer;
static uint64_t heard;

static void on_refused(void *arg, const char *what, const struct redis_reply *reply)
{
    (void)arg, (void)what, (void)reply;
    refused++;
}

static void on_called(void *arg, const struct redis_reply *reply)
{
    (void)arg, (void)reply;
    called++;
}

static void on_up(void *arg)
{
    (void)arg;
}

static void on_down(void *arg, const char *why)
{
    (void)arg, (void)why;
}

static void on_wake(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l, (void)w, (void)revents;
}

static void setup(void)
{
    static const struct redis_conn_handler conn_handler = {on_up, on_down, NULL};
    static const struct redis_calls_handler handler = {on_refused, on_called};
    signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_ERROR + 1, LOG_LOGFMT);
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    fake_redis_start(&redis, loop);
    char name[] = "sse-relay", option[] = "--redis", value[96];
    snprintf(value, sizeof(value), "unix://%s", redis.path);
    char *argv[] = {name, option, value, NULL}, *none[] = {NULL}, *message = NULL;
    enum config_action action;
    ck_assert_int_eq(config_load(3, argv, none, &config, &action, &message), OK);
    ck_assert_int_eq(redis_url_parse(config->redis, &url), OK);
    metrics = metrics_new();
    target = redis_target_new(&url, config);
    conn = redis_conn_new(loop, target, "commands", &conn_handler, NULL, metrics);
    calls = redis_calls_new(conn, "sse", &handler, NULL);
    refused = called = done = 0;
}

static void teardown(void)
{
    redis_conn_free(conn);
    redis_calls_free(calls);
    strings_reset(&answer);
    redis_target_free(target);
    redis_url_reset(&url);
    fake_redis_stop(&redis);
    metrics_free(metrics);
    config_unref(config);
    ev_loop_destroy(loop);
}

static bool is_up(void)
{
    return redis_conn_is_up(conn);
}

static bool is_done(void)
{
    return done > 0;
}

static bool is_asked(void)
{
    return redis.call[0];
}

static void run_until(bool (*ready)(void))
{
    ev_timer wake;
    double end = ev_time() + PATIENCE_S;
    ev_timer_init(&wake, on_wake, 0.01, 0.01);
    ev_timer_start(loop, &wake);
    while (!ready() && ev_time() < end)
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &wake);
    ck_assert_msg(ready(), "waited in vain");
}

static void on_done(struct store_call *call, enum err e)
{
    done++;
    result = e;
    strings_reset(&answer);
    answer = call->answer;
}

static char *arg_texts[] = {(char *)"sub", (char *)"a b"};
static const struct strings args = {arg_texts, 2};
static struct store_call call;

static void ask(const char *reply)
{
    redis.called = reply;
    redis.call[0] = '\0';
    done = refused = called = 0;
    call =
        (struct store_call){.function = "sse_revoke", .ns = "t1", .args = &args, .done = on_done};
    redis_calls_call(calls, &call);
}

START_TEST(test_a_call_is_one_command_with_the_namespace_s_key)
{
    redis_conn_start(conn);
    run_until(is_up);
    ask("*3\r\n$2\r\nok\r\n:7\r\n$0\r\n\r\n");
    run_until(is_done);
    ck_assert_str_eq(redis.call, " sse_revoke 1 sse:{t1} sub a b");
    ck_assert_int_eq(result, OK);
    ck_assert_uint_eq(answer.count, 3);
    ck_assert_str_eq(answer.items[0], "ok");
    ck_assert_str_eq(answer.items[1], "7");
    ck_assert_str_eq(answer.items[2], "");
    ask("+OK\r\n");
    run_until(is_done);
    ck_assert_int_eq(result, OK);
    ck_assert_uint_eq(answer.count, 1);
    ask("*0\r\n");
    run_until(is_done);
    ck_assert_int_eq(result, OK);
    ck_assert_uint_eq(answer.count, 0);
    ck_assert_uint_eq(called, 1);
}
END_TEST

START_TEST(test_what_the_function_refuses_is_final_and_all_else_is_not)
{
    static const struct {
        const char *reply;
        enum err e;
    } cases[] = {{"-ERR sse_revoke: full: 100000 of a kind\r\n", ERR_DENIED},
                 {"-WRONGTYPE Operation against a key\r\n", ERR_DENIED},
                 {"-NOPERM User relay has no permissions\r\n", ERR_AGAIN},
                 {"-MISCONF Redis is configured to save\r\n", ERR_AGAIN},
                 {"-ERR Function not found\r\n", ERR_AGAIN},
                 {"-BUSY Redis is busy\r\n", ERR_AGAIN},
                 {"-OOM command not allowed\r\n", ERR_AGAIN}};
    redis_conn_start(conn);
    run_until(is_up);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask(cases[i].reply);
        run_until(is_done);
        ck_assert_int_eq(result, cases[i].e);
        ck_assert_uint_eq(refused, cases[i].e == ERR_AGAIN);
        ck_assert_uint_eq(called, 1);
        ck_assert_uint_eq(answer.count, cases[i].e == ERR_DENIED);
    }
}
END_TEST

START_TEST(test_without_a_connection_nothing_was_done_and_with_a_broken_one_nobody_knows)
{
    ask("+OK\r\n");
    ck_assert_uint_eq(done, 1);
    ck_assert_int_eq(result, ERR_AGAIN);
    redis_conn_start(conn);
    run_until(is_up);
    ask(""); /* no answer */
    run_until(is_asked);
    ck_assert_uint_eq(done, 0);
    fake_redis_cut(&redis, "commands");
    run_until(is_done);
    ck_assert_int_eq(result, ERR_CLOSED);
}
END_TEST

static void on_told(struct store_telling *telling, enum err e)
{
    done++;
    result = e;
    heard = telling->heard;
}

START_TEST(test_another_relay_is_told_on_its_channel)
{
    struct store_telling telling = {.tag = "0badcafe", .text = SLICE_LIT("{}"), .done = on_told};
    done = 0;
    redis_calls_tell(calls, &telling);
    ck_assert_uint_eq(done, 1);
    ck_assert_int_eq(result, ERR_AGAIN);
    redis_conn_start(conn);
    run_until(is_up);
    done = 0;
    redis_calls_tell(calls, &telling);
    run_until(is_done);
    ck_assert_int_eq(result, OK);
    ck_assert_uint_eq(heard, 1);
    ck_assert_str_eq(redis.published, "sse:node:0badcafe");
    redis.no_publish = true;
    done = 0;
    redis_calls_tell(calls, &telling);
    run_until(is_done);
    ck_assert_int_eq(result, ERR_AGAIN);
    ck_assert_uint_eq(refused, 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("redis_calls");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_a_call_is_one_command_with_the_namespace_s_key);
    tcase_add_test(tests, test_what_the_function_refuses_is_final_and_all_else_is_not);
    tcase_add_test(tests,
                   test_without_a_connection_nothing_was_done_and_with_a_broken_one_nobody_knows);
    tcase_add_test(tests, test_another_relay_is_told_on_its_channel);
    return tests_run(tests);
}
