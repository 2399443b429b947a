/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions over a Redis that refuses, falls silent, or is asked faster than it answers. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hash.h"
#include "common/mem.h"
#include "fake_redis.h"
#include "relay/redis/redis_channels.h"
#include "rng.h"
#include "test/unit/tests_run.h"

enum { NAMES = 6 };
static const double PATIENCE_S = 20.0;

static struct ev_loop *loop;
static struct fake_redis redis;
static struct config *config;
static struct metrics *metrics;
static struct redis_url url;
static struct redis_target *target;
static uint64_t passed;
static struct redis_conn *commands;
static struct redis_channels *channels;
static struct store_name names[NAMES];
static bool watched[NAMES];
static unsigned ready, down, replica, events;
static char told[64]; /* the last message that is none of events */

/* --- the rig ---------------------------------------------------------------------------------- */

static void on_heard(void *arg, struct store_name *name)
{
    (void)arg;
    ck_assert(name->heard);
}

static void on_event(void *arg, struct event *ev, uint64_t workers)
{
    (void)arg, (void)ev, (void)workers;
    events++;
}

static void on_ready(void *arg)
{
    (void)arg;
    ready++;
}

static void on_down(void *arg)
{
    (void)arg;
    down++;
}

static void on_replica(void *arg)
{
    (void)arg;
    replica++;
}

static void on_oversize(void *arg, struct slice ns)
{
    (void)arg, (void)ns;
    ck_abort_msg("nothing here is that large");
}

static void on_passed(void *arg, uint64_t mark)
{
    (void)arg;
    passed = mark;
}

static void on_addressed(void *arg, struct event *ev)
{
    (void)arg;
    snprintf(told, sizeof(told), "%.*s %llu", (int)event_topic(ev).len, event_topic(ev).ptr,
             (unsigned long long)event_id(ev));
}

static void on_told(void *arg, const struct store_name *name, struct slice text)
{
    (void)arg;
    snprintf(told, sizeof(told), "%s %.*s", name->ns, (int)text.len, text.ptr);
}

static void on_bridged(void *arg, const struct store_name *name, struct slice channel,
                       struct slice payload)
{
    (void)arg;
    snprintf(told, sizeof(told), "%s %.*s %.*s", name->name, (int)channel.len, channel.ptr,
             (int)payload.len, payload.ptr);
}

static void commands_up(void *arg)
{
    (void)arg;
    redis_channels_commands_up(channels);
}

static void commands_down(void *arg, const char *why)
{
    (void)arg, (void)why;
}

static const struct redis_conn_handler commands_handler = {commands_up, commands_down, NULL};
static const struct redis_channels_handler handler = {
    on_heard,  on_event,   on_oversize,  on_ready, on_down,
    on_passed, on_replica, on_addressed, on_told,  on_bridged};

static void setup(void)
{
    static char texts[NAMES][2][16];
    signal(SIGPIPE, SIG_IGN);
    hash_seed_init();
    log_setup(LOG_ERROR + 1, LOG_LOGFMT);
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    fake_redis_start(&redis, loop);
    char name[] = "sse-relay", option[] = "--redis", value[96], probe[] = "--redis.probe",
         period[] = "100ms";
    snprintf(value, sizeof(value), "unix://%s", redis.path);
    char *argv[] = {name, option, value, probe, period, NULL}, *none[] = {NULL}, *message = NULL;
    enum config_action action;
    ck_assert_int_eq(config_load(5, argv, none, &config, &action, &message), OK);
    ck_assert_int_eq(redis_url_parse(config->redis, &url), OK);
    metrics = metrics_new();
    target = redis_target_new(&url, config);
    commands = redis_conn_new(loop, target, "commands", &commands_handler, NULL, metrics);
    channels = redis_channels_new(loop, target, commands, config, &handler, NULL, metrics);
    for (size_t i = 0; i < NAMES; i++) {
        snprintf(texts[i][0], 16, "default");
        snprintf(texts[i][1], 16, i % 2 ? "p%zu.*" : "t%zu", i);
        names[i] = (struct store_name){.ns = texts[i][0], .name = texts[i][1], .workers = 1};
        watched[i] = false;
    }
    ready = down = replica = events = 0;
    told[0] = '\0';
}

static void teardown(void)
{
    redis_conn_free(commands);
    redis_channels_free(channels);
    redis_target_free(target);
    redis_url_reset(&url);
    fake_redis_stop(&redis);
    metrics_free(metrics);
    config_unref(config);
    ev_loop_destroy(loop);
}

static void start(void)
{
    redis_conn_start(commands);
    redis_channels_start(channels);
}

static void on_wake(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l, (void)w, (void)revents;
}

static bool is_true(const void *condition)
{
    return *(const bool *)condition;
}

static void run_until_true(bool (*test)(const void *), const void *arg, double seconds)
{
    ev_timer wake;
    double end = ev_time() + seconds;
    ev_timer_init(&wake, on_wake, 0.01, 0.01);
    ev_timer_start(loop, &wake);
    while (!test(arg) && ev_time() < end)
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &wake);
}

static void run_until(bool (*test)(const void *), const void *arg)
{
    run_until_true(test, arg, PATIENCE_S);
    ck_assert_msg(test(arg), "waited in vain");
}

static void run_for(double seconds)
{
    static const bool never = false;
    run_until_true(is_true, &never, seconds);
}

static void watch(size_t i)
{
    watched[i] = true;
    redis_channels_watch(channels, &names[i]);
}

static void unwatch(size_t i)
{
    watched[i] = false;
    redis_channels_unwatch(channels, &names[i]);
}

/* The name's channel, in a static buffer. */
static const char *channel_of(size_t i)
{
    static char text[64];
    snprintf(text, sizeof(text), "sse:{default}:ch:%s", names[i].name);
    return text;
}

static uint64_t metric(enum metric which)
{
    struct metrics *const sets[] = {metrics};
    return metrics_total(sets, 1, which);
}

/* --- conditions ------------------------------------------------------------------------------- */

static bool is_ready(const void *times)
{
    return ready >= *(const unsigned *)times;
}

static void run_until_ready(unsigned times)
{
    run_until(is_ready, &times);
}

/* What is wanted is heard; what Redis has is that, and the probe's channel. */
static bool is_settled(const void *arg)
{
    (void)arg;
    size_t count = 0;
    for (size_t i = 0; i < NAMES; i++) {
        count += watched[i];
        if (watched[i] && (!names[i].heard || !fake_redis_has(&redis, channel_of(i))))
            return false;
    }
    bool probe = !redis.refused || !strstr(":probe:", redis.refused);
    return fake_redis_count(&redis) == count + probe && metric(M_CHANNELS) == count;
}

static bool is_heard(const void *i)
{
    return names[*(const size_t *)i].heard;
}

static bool is_missed(const void *arg)
{
    (void)arg;
    return metric(M_PROBE_MISSES) > 0;
}

static bool is_down(const void *arg)
{
    (void)arg;
    return down > 0;
}

static bool is_replica(const void *arg)
{
    (void)arg;
    return replica > 0;
}

static bool has_event(const void *arg)
{
    (void)arg;
    return events > 0;
}

/* --- who wants what --------------------------------------------------------------------------- */

START_TEST(test_what_comes_and_goes_in_one_turn_is_unsubscribed)
{
    watch(0);
    start();
    run_until_ready(1);
    unwatch(0);
    watch(0);
    unwatch(0);
    run_until(is_settled, NULL);
    ck_assert_uint_eq(redis.unsubscribes, 1);
}
END_TEST

START_TEST(test_what_goes_and_comes_in_one_turn_stays_heard)
{
    watch(0);
    start();
    run_until_ready(1);
    unsigned before = redis.subscribes;
    unwatch(0);
    watch(0);
    ck_assert(names[0].heard);
    run_for(0.05);
    ck_assert_uint_eq(redis.subscribes, before);
    ck_assert_uint_eq(redis.unsubscribes, 0);
    fake_redis_message(&redis, channel_of(0), "x");
    run_until(has_event, NULL);
}
END_TEST

START_TEST(test_names_that_went_while_redis_was_away_are_forgotten)
{
    watch(0);
    unwatch(0);
    ck_assert_uint_eq(metric(M_CHANNELS), 0);
    start();
    run_until_ready(1);
    ck_assert_uint_eq(redis.subscribes, 1); /* the probe's */
}
END_TEST

/* Any order of wanting, not wanting and turns of the loop; in every other run also refusals and
 * lost connections, which hide what is left over. */
START_TEST(test_redis_has_in_the_end_what_is_wanted)
{
    struct rng rng = {.state = 20 + (uint64_t)_i};
    start();
    for (unsigned step = 0; step < 3000; step++) {
        size_t i = rng_below(&rng, NAMES);
        if (watched[i])
            unwatch(i);
        else
            watch(i);
        if (rng_below(&rng, 3) == 0)
            ev_run(loop, EVRUN_NOWAIT);
        if (_i % 2 && rng_below(&rng, 50) == 0)
            redis.refused = redis.refused ? NULL : "t0";
        if (_i % 2 && rng_below(&rng, 300) == 0)
            fake_redis_cut(&redis, "subscriber");
        if (rng_below(&rng, 100) == 0)
            run_for(0.02);
    }
    redis.refused = NULL;
    run_until_ready(1);
    if (_i % 2)
        fake_redis_cut(&redis, "subscriber"); /* what was refused last is tried at once */
    run_until(is_settled, NULL);
}
END_TEST

/* --- refusals --------------------------------------------------------------------------------- */

START_TEST(test_one_refused_channel_does_not_hold_up_the_others)
{
    static const size_t others[] = {0, 4, 1};
    redis.refused = ":t2";
    watch(0), watch(1), watch(2), watch(4);
    start();
    run_until_ready(1);
    for (size_t i = 0; i < 3; i++)
        ck_assert(names[others[i]].heard);
    ck_assert(!names[2].heard);
    unsigned before = redis.subscribes;
    run_for(0.3);
    ck_assert_uint_eq(redis.subscribes, before); /* not again and again */
    fake_redis_cut(&redis, "subscriber");
    run_until_ready(2); /* nor after a reconnect */
    ck_assert(!names[2].heard && names[0].heard && names[1].heard);
    unwatch(2);
    run_until(is_settled, NULL);
}
END_TEST

START_TEST(test_a_refused_channel_is_heard_once_it_is_allowed)
{
    static const size_t two = 2;
    redis.refused = ":t2";
    watch(0), watch(2);
    start();
    run_until_ready(1);
    redis.refused = NULL;
    fake_redis_cut(&redis, "subscriber");
    run_until(is_heard, &two);
    run_until(is_settled, NULL);
}
END_TEST

START_TEST(test_ready_does_not_wait_for_what_nobody_wants_any_more)
{
    watch(0);
    start();
    run_until_ready(1);
    redis.refused = ":t0";
    fake_redis_cut(&redis, "subscriber");
    run_until(is_down, NULL);
    unwatch(0);
    run_until_ready(2);
}
END_TEST

/* --- the probe -------------------------------------------------------------------------------- */

START_TEST(test_a_deaf_connection_is_made_anew)
{
    watch(0);
    start();
    run_until_ready(1);
    ck_assert_uint_eq(metric(M_REDIS_HEARD), 1);
    redis.mute = true;
    run_until(is_missed, NULL);
    ck_assert_uint_eq(metric(M_REDIS_HEARD), 0);
    run_until(is_down, NULL);
    ck_assert_uint_ge(metric(M_PROBE_MISSES), 2);
    redis.mute = false;
    run_until_ready(2);
    ck_assert_uint_eq(metric(M_REDIS_HEARD), 1);
    ck_assert_uint_ge(redis.logins, 2);
}
END_TEST

START_TEST(test_a_connection_that_does_not_answer_is_made_anew)
{
    redis.silent = true;
    watch(0);
    start();
    run_until(is_down, NULL);
    ck_assert_uint_eq(ready, 0);
    redis.silent = false;
    run_until_ready(1);
    run_until(is_settled, NULL);
}
END_TEST

START_TEST(test_nothing_is_missed_while_nobody_reads)
{
    watch(0);
    start();
    run_until_ready(1);
    redis_channels_pause(channels, CHANNELS_BACKPRESSURE, true);
    run_for(0.7); /* the period is 100 ms */
    ck_assert_uint_eq(metric(M_PROBE_MISSES), 0);
    redis_channels_pause(channels, CHANNELS_BACKPRESSURE, false);
    ck_assert_uint_eq(down, 0);
}
END_TEST

START_TEST(test_a_probe_that_is_not_allowed_holds_up_nothing)
{
    if (_i)
        redis.refused = ":probe:";
    else
        redis.no_publish = true;
    watch(0);
    start();
    run_until_ready(1);
    run_until(is_settled, NULL);
}
END_TEST

START_TEST(test_a_primary_that_became_a_replica_is_told)
{
    start();
    run_until_ready(1);
    run_for(0.25);
    ck_assert_uint_eq(replica, 0);
    redis.role = "slave";
    run_until(is_replica, NULL);
}
END_TEST

/* --- names that are not for events ------------------------------------------------------------ */

static struct store_name revoked = {.subject = STORE_REVOKED, .ns = "default"};
static struct store_name node = {.subject = STORE_NODE, .ns = "1234abcd"};

static bool is_told(const void *arg)
{
    (void)arg;
    return told[0];
}

START_TEST(test_what_is_not_for_events_is_told)
{
    redis_channels_watch(channels, &revoked);
    redis_channels_watch(channels, &node);
    start();
    run_until_ready(1);
    ck_assert(revoked.heard && node.heard);
    ck_assert(fake_redis_has(&redis, "sse:{default}:revoked"));
    ck_assert(fake_redis_has(&redis, "sse:node:1234abcd"));
    fake_redis_message(&redis, "sse:{default}:revoked", "one");
    run_until(is_told, NULL);
    ck_assert_str_eq(told, "default one");
    told[0] = '\0';
    fake_redis_message(&redis, "sse:node:1234abcd", "two");
    run_until(is_told, NULL);
    ck_assert_str_eq(told, "1234abcd two");
    ck_assert_uint_eq(events, 0);
    redis_channels_unwatch(channels, &revoked);
    redis_channels_unwatch(channels, &node);
}
END_TEST

/* What its topic's channel is sent, with the connection's id in front. */
START_TEST(test_events_for_connections)
{
    static struct store_name connections = {
        .subject = STORE_CONNECTIONS, .ns = "default", .name = "1234abcd"};
    static const char channel[] = "sse:{default}:to:1234abcd";
    redis_channels_watch(channels, &connections);
    start();
    run_until_ready(1);
    redis_channels_listen(channels);
    redis_channels_pause(channels, CHANNELS_REPAIR, false);
    ck_assert(connections.heard && fake_redis_has(&redis, channel));
    fake_redis_message(&redis, channel, "too short");
    fake_redis_message(&redis, channel,
                       "1234abcd00000000000000000000000a"
                       "{\"sse\":1,\"id\":\"7\",\"prev\":\"0\",\"data\":\"x\"}");
    run_until(is_told, NULL);
    ck_assert_str_eq(told, "connection.1234abcd00000000000000000000000a 7");
    ck_assert_uint_eq(events, 0);
    redis_channels_unwatch(channels, &connections);
}
END_TEST

/* A glob as wide as it can be: what is a relay's own stays with the relay. */
START_TEST(test_what_others_publish_is_told_with_its_channel)
{
    static char star[] = "*", plain[] = "orders";
    struct store_name glob = {.subject = STORE_BRIDGE, .name = star};
    struct store_name channel = {.subject = STORE_BRIDGE, .name = plain};
    redis_channels_watch(channels, &glob);
    redis_channels_watch(channels, &channel);
    start();
    run_until_ready(1);
    ck_assert(glob.heard && channel.heard && fake_redis_has(&redis, "*"));
    redis_channels_unwatch(channels, &channel);
    ck_assert_str_eq(told, ""); /* nothing of the probes */
    fake_redis_message(&redis, "sse:{default}:revoked", "secret");
    fake_redis_message(&redis, "sse:node:1234abcd", "secret");
    fake_redis_message(&redis, "events:eu", "one");
    run_until(is_told, NULL);
    ck_assert_str_eq(told, "* events:eu one");
    ck_assert_uint_eq(events, 0);
    redis_channels_unwatch(channels, &glob);
}
END_TEST

START_TEST(test_the_node_is_ready_only_when_all_of_them_are_heard_again)
{
    redis_channels_watch(channels, &revoked);
    start();
    run_until_ready(1);
    redis.silent = true;
    fake_redis_cut(&redis, "subscriber");
    run_for(0.25);
    ck_assert(!revoked.heard);
    ck_assert_uint_eq(ready, 1);
    redis.silent = false;
    fake_redis_cut(&redis, "subscriber");
    run_until_ready(2);
    ck_assert(revoked.heard);
    redis_channels_unwatch(channels, &revoked);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("redis_channels");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_what_comes_and_goes_in_one_turn_is_unsubscribed);
    tcase_add_test(cases, test_what_goes_and_comes_in_one_turn_stays_heard);
    tcase_add_test(cases, test_names_that_went_while_redis_was_away_are_forgotten);
    tcase_add_loop_test(cases, test_redis_has_in_the_end_what_is_wanted, 0, 4);
    tcase_add_test(cases, test_one_refused_channel_does_not_hold_up_the_others);
    tcase_add_test(cases, test_a_refused_channel_is_heard_once_it_is_allowed);
    tcase_add_test(cases, test_ready_does_not_wait_for_what_nobody_wants_any_more);
    tcase_add_test(cases, test_a_deaf_connection_is_made_anew);
    tcase_add_test(cases, test_a_connection_that_does_not_answer_is_made_anew);
    tcase_add_test(cases, test_nothing_is_missed_while_nobody_reads);
    tcase_add_loop_test(cases, test_a_probe_that_is_not_allowed_holds_up_nothing, 0, 2);
    tcase_add_test(cases, test_a_primary_that_became_a_replica_is_told);
    tcase_add_test(cases, test_what_is_not_for_events_is_told);
    tcase_add_test(cases, test_events_for_connections);
    tcase_add_test(cases, test_what_others_publish_is_told_with_its_channel);
    tcase_add_test(cases, test_the_node_is_ready_only_when_all_of_them_are_heard_again);
    return tests_run(cases);
}
