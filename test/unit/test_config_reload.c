/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: what takes effect, what needs a restart, and what is refused. */
#include <check.h>
#include <string.h>
#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

static struct config *merge_ok(const struct config *running, const struct config *fresh,
                               struct buf *restart)
{
    struct config *merged = NULL;
    struct buf why = {0};
    enum err e = config_merge_reload(running, fresh, &merged, restart, &why);
    ck_assert_msg(e == OK, "%.*s", (int)why.len, why.ptr);
    ck_assert_uint_eq(why.len, 0);
    return merged;
}

START_TEST(test_reload_takes_what_is_safe_and_tells_the_rest)
{
    struct buf restart = {0};
    struct config *running = load_ok("--retry 1s --prefix a --listen 127.0.0.1:1", "");
    struct config *fresh = load_ok(
        "--retry 2s --prefix b --listen 127.0.0.1:2 --cors.origins * --logging.level debug", "");
    struct config *merged = merge_ok(running, fresh, &restart);
    ck_assert_uint_eq(merged->retry_ms, 2000);
    ck_assert_uint_eq(merged->cors_origins.count, 1);
    ck_assert_int_eq(merged->logging_level, LOG_DEBUG);
    ck_assert_str_eq(merged->prefix, "a");
    ck_assert_str_eq(merged->listen.items[0], "127.0.0.1:1");
    ck_assert_str_eq(merged->node, running->node);
    ck_assert_uint_eq(merged->workers, running->workers);
    ck_assert(slice_is(buf_slice(&restart), "listen, prefix"));
    buf_clear(&restart);
    config_unref(fresh);
    fresh = merge_ok(merged, merged, &restart);
    ck_assert_uint_eq(restart.len, 0);
    config_unref(fresh);
    config_unref(running);
    config_unref(merged);
    buf_reset(&restart);
}
END_TEST

/* Both are valid, and what would run is not: some options of @now take effect, others do not. */
static void expect_no_merge(const char *then, const char *now, const char *needs_restart,
                            const char *parts)
{
    struct config *running = load_ok(then, ""), *fresh = load_ok(now, ""), *merged = NULL;
    struct buf restart = {0}, why = {0};
    enum err e = config_merge_reload(running, fresh, &merged, &restart, &why);
    ck_assert_msg(e == ERR_INVALID, "%s, then %s: was accepted", then, now);
    ck_assert_ptr_null(merged);
    ck_assert(slice_is(buf_slice(&restart), needs_restart));
    buf_putc(&why, '\0');
    expect_parts(why.ptr, parts);
    buf_reset(&restart);
    buf_reset(&why);
    config_unref(running);
    config_unref(fresh);
}

START_TEST(test_reload_checks_what_will_run)
{
    expect_no_merge("--publish.wait_replicas 1 --publish.timeout 3s", "--publish.timeout 0",
                    "publish.wait_replicas", "publish.wait_replicas needs a publish.timeout");
    expect_no_merge("--redis redis://h", "--redis rediss://h --redis.tls_name x", "redis",
                    "need TLS: write rediss://");
    expect_no_merge("--redis redis://:a@h", "--redis redis://h --redis.password b", "redis",
                    "the password of Redis is set twice");
    expect_no_merge("--redis redis://u@h", "--redis redis://h --redis.user u", "redis",
                    "the user of Redis is set twice");
}
END_TEST

START_TEST(test_flow_control_is_reloaded)
{
    struct buf restart = {0};
    struct config *running = load_ok("", "");
    struct config *fresh =
        load_ok("--flush 1s --flush.min 100ms --flush.max 5s --lanes a=batched,>=coalesced --slow "
                "disconnect --slow.allowed block --slow.reads 7 --slow.max_dropped 8 "
                "--stall_timeout 9s --snapshot.max 10 --log.max_events_limit 11 "
                "--memory.events 12MB",
                "");
    struct config *merged = merge_ok(running, fresh, &restart);
    config_unref(running);
    config_unref(fresh);
    ck_assert_uint_eq(restart.len, 0);
    ck_assert_uint_eq(merged->flush_ms, 1000);
    ck_assert_uint_eq(merged->flush_min_ms, 100);
    ck_assert_uint_eq(merged->flush_max_ms, 5000);
    ck_assert_uint_eq(merged->lanes.count, 2);
    ck_assert(slice_is(merged->lane_rules[1].pattern, ">"));
    ck_assert_int_eq(merged->lane_rules[1].lane, LANE_COALESCED);
    ck_assert_int_eq(merged->slow, SLOW_DISCONNECT);
    ck_assert_uint_eq(merged->slow_allowed.count, 1);
    ck_assert_uint_eq(merged->slow_reads, 7);
    ck_assert_uint_eq(merged->slow_max_dropped, 8);
    ck_assert_uint_eq(merged->stall_timeout_ms, 9000);
    ck_assert_uint_eq(merged->snapshot_max, 10);
    ck_assert_uint_eq(merged->log_max_events_limit, 11);
    ck_assert_uint_eq(merged->memory_events, 12 << 20);
    config_unref(merged);
}
END_TEST

START_TEST(test_reload_keeps_where_the_redis_url_is_from)
{
    struct buf restart = {0};
    struct config *running = load_ok("--redis redis://h", ""), *fresh = load_ok("", "");
    struct config *merged = merge_ok(running, fresh, &restart);
    ck_assert_str_eq(merged->redis_origin, "--redis");
    config_unref(running);
    config_unref(fresh);
    config_unref(merged);
    buf_reset(&restart);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("config_reload");
    tcase_add_test(cases, test_reload_takes_what_is_safe_and_tells_the_rest);
    tcase_add_test(cases, test_reload_checks_what_will_run);
    tcase_add_test(cases, test_flow_control_is_reloaded);
    tcase_add_test(cases, test_reload_keeps_where_the_redis_url_is_from);
    return tests_run(cases);
}
