/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: sources and their order, every option's range, messages a stranger
 * understands, output that can be read back. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/json.h"
#include "relay/config/config.h"
#include "relay/config/config_print.h"
#include "relay/config/config_value.h"
#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

START_TEST(test_defaults_are_those_of_the_contract)
{
    struct config *c = load_ok("", "");
    char pid[32];
    ck_assert_uint_eq(c->listen.count, 1);
    ck_assert_str_eq(c->listen.items[0], "127.0.0.1:8080");
    ck_assert_str_eq(c->redis, "redis://127.0.0.1:6379");
    ck_assert_str_eq(c->prefix, "sse");
    snprintf(pid, sizeof(pid), "-%ld", (long)getpid());
    ck_assert_ptr_nonnull(strstr(c->node, pid));
    ck_assert(c->workers >= 1 && c->workers <= 64);
    ck_assert_uint_eq(c->heartbeat_ms, 15000);
    ck_assert_str_eq(c->heartbeat_event, "");
    ck_assert_uint_eq(c->retry_ms, 3000);
    ck_assert_uint_eq(c->max_lifetime_ms, 3600000);
    ck_assert_uint_eq(c->drain_ms, 10000);
    ck_assert_uint_eq(c->queue_max_events, 256);
    ck_assert_uint_eq(c->queue_max_bytes, 1048576);
    ck_assert_uint_eq(c->log_max_events, 1000);
    ck_assert_uint_eq(c->log_ttl_ms, 3600000);
    ck_assert_uint_eq(c->index_ttl_ms, 604800000);
    ck_assert_uint_eq(c->once_ttl_ms, 86400000);
    ck_assert_uint_eq(c->flush_ms, 2000);
    ck_assert_uint_eq(c->flush_min_ms, 20);
    ck_assert_uint_eq(c->flush_max_ms, 60000);
    ck_assert_int_eq(c->slow, SLOW_BLOCK);
    ck_assert_uint_eq(c->slow_allowed.count, SLOW_COUNT);
    ck_assert_uint_eq(c->slow_reads, 200);
    ck_assert_uint_eq(c->slow_max_dropped, 0);
    ck_assert_uint_eq(c->stall_timeout_ms, 60000);
    ck_assert_uint_eq(c->memory_events, 256 << 20);
    ck_assert_uint_eq(c->snapshot_max, 1000);
    ck_assert_uint_eq(c->log_max_events_limit, 100000);
    ck_assert_uint_eq(c->lanes.count, 0);
    ck_assert_ptr_null(c->lane_rules);
    ck_assert_uint_eq(c->replay_max_events, 10000);
    ck_assert_uint_eq(c->max_event_bytes, 1048576);
    ck_assert_uint_eq(c->max_topics, 64);
    ck_assert_uint_eq(c->max_clients, 0);
    ck_assert_uint_eq(c->max_header_bytes, 8192);
    ck_assert_uint_eq(c->http_idle_timeout_ms, 75000);
    ck_assert_uint_eq(c->cors_origins.count, 0);
    ck_assert_uint_eq(c->inbox_namespaces.count, 1);
    ck_assert_str_eq(c->inbox_namespaces.items[0], "default");
    ck_assert(c->control_events == CONTROL_ON && !c->events_type_from_topic);
    ck_assert_str_eq(c->control_prefix, "relay.");
    ck_assert(c->logging_level == LOG_INFO && c->logging_format == LOG_LOGFMT);
    config_unref(c);
}
END_TEST

START_TEST(test_flag_beats_environment_beats_file_beats_default)
{
    file_write("{\"retry\": \"1s\", \"drain\": \"1s\", \"log\": {\"max_events\": 1}}");
    struct config *c = load_ok("--config @ --retry 3s", "SSE_RELAY_RETRY=2s SSE_RELAY_DRAIN=2s");
    unlink(file_path);
    ck_assert_uint_eq(c->retry_ms, 3000);
    ck_assert_uint_eq(c->drain_ms, 2000);
    ck_assert_uint_eq(c->log_max_events, 1);
    ck_assert_uint_eq(c->heartbeat_ms, 15000);
    config_unref(c);
}
END_TEST

START_TEST(test_flags_take_both_forms_and_the_last_wins)
{
    struct config *c = load_ok("--retry=1s --retry 2s --node= --control_prefix=a=b", "");
    ck_assert_uint_eq(c->retry_ms, 2000);
    ck_assert_str_ne(c->node, "");
    ck_assert_str_eq(c->control_prefix, "a=b");
    config_unref(c);
}
END_TEST

START_TEST(test_lists_repeat_as_flags_and_replace_what_came_before)
{
    struct config *c = load_ok("--listen 127.0.0.1:1 --listen=[::1]:0",
                               "SSE_RELAY_LISTEN=0.0.0.0:9 SSE_RELAY_INBOX_NAMESPACES=a,b,,c");
    ck_assert_uint_eq(c->listen.count, 2);
    ck_assert_str_eq(c->listen.items[0], "127.0.0.1:1");
    ck_assert_str_eq(c->listen.items[1], "[::1]:0");
    ck_assert_uint_eq(c->inbox_namespaces.count, 3);
    ck_assert_str_eq(c->inbox_namespaces.items[2], "c");
    config_unref(c);
}
END_TEST

START_TEST(test_file_takes_nested_and_dotted_keys_and_comments)
{
    struct config *c = load_file("// first\n{/* \"redis\": 1, */ \"queue\": {\"max_events\": 7},\n"
                                 "\"queue.max_bytes\": \"8KB\", \"heartbeat\": \"20s\", // 15s\n"
                                 "\"heartbeat.event\": \"// no comment /* here */\",\n"
                                 "\"listen\": [\"127.0.0.1:1\", \"[::]:2\"], \"workers\": 3,\n"
                                 "\"cors.origins\": \"https://a.example,https://b.example\",\n"
                                 "\"max_event_bytes\": 2048, \"max_lifetime\": 0,\n"
                                 "\"inbox\": {\"namespaces\": []},\n"
                                 "\"control_events\": false, \"logging\": {\"level\": \"warn\"}}");
    ck_assert_uint_eq(c->queue_max_events, 7);
    ck_assert_uint_eq(c->queue_max_bytes, 8192);
    ck_assert_uint_eq(c->heartbeat_ms, 20000);
    ck_assert_str_eq(c->heartbeat_event, "// no comment /* here */");
    ck_assert_uint_eq(c->listen.count, 2);
    ck_assert_uint_eq(c->workers, 3);
    ck_assert_uint_eq(c->cors_origins.count, 2);
    ck_assert_uint_eq(c->max_event_bytes, 2048);
    ck_assert_uint_eq(c->max_lifetime_ms, 0);
    ck_assert_uint_eq(c->inbox_namespaces.count, 0);
    ck_assert_int_eq(c->control_events, CONTROL_OFF);
    ck_assert_int_eq(c->logging_level, LOG_WARN);
    config_unref(c);
}
END_TEST

START_TEST(test_file_named_by_environment_and_overruled_by_flag)
{
    char variable[128];
    file_write("{\"prefix\": \"filed\"}");
    snprintf(variable, sizeof(variable), "SSE_RELAY_CONFIG=%s", file_path);
    struct config *c = load_ok("", variable);
    ck_assert_str_eq(c->prefix, "filed");
    config_unref(c);
    c = load_ok("--config @", "SSE_RELAY_CONFIG=/nonexistent");
    ck_assert_str_eq(c->prefix, "filed");
    config_unref(c);
    unlink(file_path);
    c = load_ok("", "SSE_RELAY_CONFIG=");
    config_unref(c);
}
END_TEST

/* Values at the edges of what the contract allows, and just beyond. */
static const struct {
    const char *flag, *good, *bad;
} ranges[] = {
    {"listen", "127.0.0.1:0 127.0.0.1:65535 [::]:8080 localhost:80 a-b.example:1",
     "8080 127.0.0.1 127.0.0.1:65536 127.0.0.1:x :8080 [::]8080 [::: ::1:80 [zz]:80 a/b:80 a:1,b"},
    {"redis",
     "redis://h redis://h:1/0 redis://u:p@h:6379/15 redis://:p%40@h unix:///a memory: "
     "redis://[::1]:1 redis+sentinel://u:p@h:1,[::1],i/m/3",
     "redis:// redis://h:0 redis://h:65536 redis://h/x unix://a http://h memory rediss:// "
     "redis+sentinel://h rediss+sentinel://h redis+sentinel://h,/m redis://:p%4@h"},
    {"redis.probe", "100ms 5s 1m", "0 99ms 61s"},
    {"redis.user", "u relay@x", "ä"},
    {"redis.password", "x p@:/ä", "a\nb a\r"},
    {"redis.password_file", "", "\x01"},
    {"redis.ca", "", "/x\x01"},
    {"redis.cert", "", "/x\x01"},
    {"redis.key", "", "/x\x01"},
    {"redis.tls_name", "", "ä"},
    {"sentinel.user", "u", "ä"},
    {"sentinel.password", "x", "a\nb"},
    {"sentinel.password_file", "", "\x01"},
    {"prefix", "s a.b:c_d-1", "a{b} a* ä"},
    {"node", "n a-b_c:1", "ä a\tb a\x7f"},
    {"workers", "0 1 64", "65 -1 1.5 x 18446744073709551616"},
    {"auth.file", "/etc/auth.json a", "a\x01 \xff"},
    {"auth.key_file", "secret.txt", "a\x01"},
    {"auth.algs", "HS256 RS384 PS512,ES256 EdDSA", "none hs256 HS257 *"},
    {"auth.issuer", "https://idp.example/realms/a", "ä"},
    {"auth.audience", "sse-relay", "ä"},
    {"auth.cookie", "__Host-token sse", "a=b a;b ä"},
    {"auth.query", "on off", "maybe"},
    {"auth.leeway", "0 1s 10m", "999ms 601s"},
    {"auth.notice", "0 1s 1h", "999ms 61m"},
    {"auth.timeout", "100ms 5s 20s", "0 99ms 21s"},
    {"auth.max_token_life", "0 1m 30d 3650d", "59s 3651d"},
    {"auth.metrics", "on off", "maybe"},
    {"ticket.reconnect_grace", "0 1s 1h", "999ms 61m"},
    {"heartbeat", "0 1s 1h 60m 3600000ms", "999ms 1h1s 3601s 61m 15 banana -1s"},
    {"heartbeat.event", "ping ä", "a\x01 \xff"},
    {"retry", "100ms 1h", "0 99ms 3601s"},
    {"max_lifetime", "0 1s 30d", "999ms 3651d"},
    {"drain", "0 1ms 1h", "3601s"},
    {"queue.max_events", "1 65536", "0 65537"},
    {"queue.max_bytes", "4KB 4096 1GB", "4095 1025MB 0 1TB 99999999999999999999"},
    {"full.percent", "0 1 100", "101 -1"},
    {"full.rate", "0 1 1000000", "1000001"},
    {"heartbeat.min", "1s 15s", "0 999ms 61m"},
    {"log.max_events", "1 1000000", "0 1000001"},
    {"log.ttl", "1s 7d", "0 999ms"},
    {"index.ttl", "1h 3650d", "0 999ms 3651d"},
    {"once.ttl", "1s 30d", "0 999ms"},
    {"replay.max_events", "1 1000000", "0 1000001"},
    {"redis.check", "100ms 1h", "99ms 61m 0"},
    {"tail.max_events", "0 65536", "65537 -1"},
    {"tail.max_bytes", "64KB 64GB", "65535 65GB 0"},
    {"publish.timeout", "0 100ms 10m", "99ms 601s"},
    {"publish.max_waiting", "1 1000000", "0 1000001"},
    {"publish.max_waiting_bytes", "64KB 64GB", "65535 65GB"},
    {"publish.wait_replicas", "0 16", "17"},
    {"pipe.max", "1s 24h", "0 999ms 25h"},
    {"pipe.silence", "1s 24h", "0 999ms 25h"},
    {"pipe.max_open", "1 1000000", "0 1000001"},
    {"max_event_bytes", "1KB 64MB", "1023 65MB"},
    {"max_topics", "1 1024", "0 1025"},
    {"max_clients", "0 10000000", "10000001"},
    {"max_header_bytes", "1KB 64KB", "1023 65KB"},
    {"accept.rate", "0 1 1000000", "1000001"},
    {"http.idle_timeout", "1s 1h", "0 999ms 3601s"},
    {"park", "suspended handover", "suspend closed"},
    {"socket.unsent", "0 4KB 64KB 1GB", "4095 1025MB -1"},
    {"io_uring", "on off", "auto"},
    {"flush", "20ms 2s 1m", "0 19ms 61s"},
    {"flush.min", "20ms 1s 1m", "0 19ms 61s"},
    {"flush.max", "20ms 1s 1m", "0 19ms 61s"},
    {"lanes", "prices.>=coalesced a=b.c=batched a=instant,b.*=appended ,",
     "prices =batched a=low a=5 a= = a.>.b=batched a..b=batched prices.>:batched a=BATCHED "
     "a=batched,b"},
    {"slow", "block drop-oldest drop-newest disconnect", "drop never blocked off 0"},
    {"slow.allowed", "block drop-oldest,drop-newest disconnect ,",
     "drop block,never Block off block,block,block,block,block"},
    {"slow.reads", "1 1000000", "0 1000001"},
    {"slow.max_dropped", "0 1 1000000000", "1000000001"},
    {"stall_timeout", "0 1s 1h", "999ms 61m"},
    {"memory.events", "0 1MB 1024GB", "1023KB 1025GB -1"},
    {"snapshot.max", "1 100000", "0 100001"},
    {"log.max_events_limit", "1 100000000", "0 100000001"},
    {"publish.max_held_bytes", "0 64KB 64GB", "63KB 65GB"},
    {"cors.origins", "* https://a.example http://localhost:3000 http://[::1]:3000 app://x",
     "a.example https:// https://a/ https://a/b https://A.example https://a:0 https://a?b "
     "https://a,b"},
    {"cors.headers", "Authorization x-a_b !#$%&'+-.^_`|~ a,b", "* a* a:b a/b (a) ä"},
    {"hosts", "* a a.example *.a.example a_b relay-1 A a,b a. *.a.",
     "a:80 [::1] *a a* a/b http://a .a *.*.a"},
    {"compress", "> a a.* a.b,c.>", "a.>.b .a a* a..b"},
    {"control_prefix", "relay. x:", "\x01 ä 012345678901234567890123456789012"},
    {"control_events", "on id off true false yes no 1 0 ON", "maybe 2"},
    {"events.type_from_topic", "on off", "onn"},
    {"metrics.types", "tick tick,a.b é", "other a,other \x01 \xff"},
    {"inbox.namespaces", "a a,b_-9", "a.b a,b*"},
    {"bridges", "[] [{\"channel\":\"a\",\"topic\":\"b\"}]", ""}, /* test_config_bridges.c */
    {"logging.level", "debug info warn error WARN", "trace warning"},
    {"logging.format", "logfmt json", "text"},
};

/* What the good values of an option need beside them. */
static const char *beside(const char *flag)
{
    static const char *const besides[][2] = {
        {"auth.key_file", "--auth.algs=HS256"},
        {"auth.algs", "--auth.key_file=a"},
        {"auth.issuer", "--auth.key_file=a --auth.algs=HS256"},
        {"auth.audience", "--auth.key_file=a --auth.algs=HS256"},
        {"auth.cookie", "--auth.file=a"},
        {"auth.query", "--auth.file=a"},
        {"auth.metrics", "--auth.file=a"},
    };
    for (size_t i = 0; i < sizeof(besides) / sizeof(besides[0]); i++)
        if (strcmp(flag, besides[i][0]) == 0)
            return besides[i][1];
    return "";
}

START_TEST(test_every_option_has_its_range)
{
    char words[256], named[64];
    const char *flag = ranges[_i].flag;
    char *good = strdup(ranges[_i].good), *bad = strdup(ranges[_i].bad), *save = NULL;
    for (char *v = strtok_r(good, " ", &save); v; v = strtok_r(NULL, " ", &save)) {
        snprintf(words, sizeof(words), "--%s=%s %s", flag, v, beside(flag));
        config_unref(load_ok(words, ""));
    }
    snprintf(named, sizeof(named), "%s=|(from --%s)|: ", flag, flag);
    for (char *v = strtok_r(bad, " ", &save); v; v = strtok_r(NULL, " ", &save)) {
        snprintf(words, sizeof(words), "--%s=%s", flag, v);
        expect_error(words, "", named);
    }
    free(good);
    free(bad);
}
END_TEST

START_TEST(test_every_option_of_the_table_is_covered_by_the_ranges)
{
    for (size_t i = 0; i < config_table_count; i++) {
        size_t found = 0;
        for (size_t j = 0; j < sizeof(ranges) / sizeof(ranges[0]); j++)
            found += strcmp(ranges[j].flag, config_table[i].name) == 0;
        ck_assert_msg(found == 1, "%s", config_table[i].name);
    }
}
END_TEST

START_TEST(test_messages_name_option_source_value_and_what_is_allowed)
{
    expect_error(
        "--heartbeat banana", "",
        "heartbeat=banana (from --heartbeat): expected a duration such as 15s, 250ms or 10m, "
        "0 or 1s to 1h");
    expect_error("", "SSE_RELAY_QUEUE_MAX_EVENTS=0",
                 "queue.max_events=0 (from SSE_RELAY_QUEUE_MAX_EVENTS): expected a whole number, 1 "
                 "to 65536");
    expect_error("--queue.max_bytes 1", "", "a size such as 4096, 64KB or 1MB, 4KB to 1GB");
    expect_error("--logging.level loud", "", "expected debug, info, warn or error");
    expect_error("--control_events maybe", "", "expected on, id or off");
    expect_error("--redis redis+sentinel://h", "", "redis+sentinel://|/master-name");
    expect_error("--heartbeat 4s --heartbeat.min 5s", "", "heartbeat.min=\"5s\"|heartbeat=\"4s\"");
    config_unref(load_ok("--heartbeat 0 --heartbeat.min 5s", ""));
    expect_error("--flush.min 2s --flush.max 1s", "", "flush.min=\"2s\" is more|flush.max=\"1s\"");
    expect_error("--flush.min 61s", "", "flush.min=61s (from --flush.min): |20ms to 1m");
    expect_error("--slow fast", "", "expected block, drop-oldest, drop-newest or disconnect");
    expect_error("", "SSE_RELAY_SLOW_ALLOWED=block,fast",
                 "(from SSE_RELAY_SLOW_ALLOWED): expected block, drop-oldest, drop-newest or disc");
    expect_error("--lanes prices.>", "", "lanes=prices.> (from --lanes): expected a topic|=");
    expect_error("--log.ttl 8d", "", "index.ttl=\"7d\"|log.ttl=\"8d\"");
    expect_error("--publish.wait_replicas 1 --publish.timeout 0", "",
                 "publish.wait_replicas needs a publish.timeout above 0");
    expect_file_error("{\"heartbeat\": \"banana\"}", "heartbeat=banana (from /tmp/sse-relay-test-");
}
END_TEST

START_TEST(test_messages_never_show_a_password)
{
    struct config *c = NULL;
    enum config_action action;
    char *msg = NULL;
    ck_assert_int_ne(load("--redis rediss://user:s3cret@h:0", "", &c, &action, &msg), OK);
    ck_assert_ptr_null(strstr(msg, "s3cret"));
    ck_assert_ptr_nonnull(strstr(msg, "rediss://user:***@h:0"));
    free(msg);
    ck_assert_int_ne(load("--redis.password s3c\nret", "", &c, &action, &msg), OK);
    ck_assert_ptr_null(strstr(msg, "s3c"));
    ck_assert_ptr_nonnull(strstr(msg, "redis.password=*** (from --redis.password)"));
    free(msg);
}
END_TEST

START_TEST(test_password_comes_from_a_file)
{
    static const char *const same[] = {"s3c:r@t\n", "s3c:r@t", "s3c:r@t\r\nmore\n"};
    for (size_t i = 0; i < 3; i++) {
        file_write(same[i]);
        struct config *c = load_ok("--redis.password_file @ --sentinel.password_file @", "");
        ck_assert_str_eq(c->redis_password, "s3c:r@t");
        ck_assert_str_eq(c->sentinel_password, "s3c:r@t");
        ck_assert(!c->password_on_command_line);
        struct buf text = {0};
        config_print_file(&text, c);
        buf_putc(&text, '\0');
        ck_assert_ptr_null(strstr(text.ptr, "s3c"));
        buf_reset(&text);
        config_unref(c);
        unlink(file_path);
    }
}
END_TEST

START_TEST(test_password_files_that_are_of_no_use_are_refused)
{
    expect_error("--redis.password_file /nonexistent", "",
                 "redis.password_file|/nonexistent|No such");
    expect_error("--redis.password_file /", "", "redis.password_file|cannot read /");
    for (int i = 0; i < 2; i++) {
        file_write(i ? "\nnot the first line\n" : "");
        expect_error("--redis.password_file @", "",
                     "redis.password_file|a password in the first line");
        expect_error("--sentinel.password_file @", "", "sentinel.password_file|first line");
        unlink(file_path);
    }
    file_write("x");
    expect_error("--redis.password_file @ --redis.password y", "", "both set");
    expect_error("--redis.password_file @ --redis redis://:z@h", "", "set twice");
    unlink(file_path);
    expect_error("--redis.user u --redis redis://v@h", "", "set twice|redis.user");
    expect_error("--redis.ca /etc/passwd", "", "rediss://");
}
END_TEST

START_TEST(test_password_in_the_environment_is_no_secret_told_on_the_command_line)
{
    struct config *c = load_ok("--redis redis://u@h", "SSE_RELAY_REDIS_PASSWORD=s3cret");
    ck_assert_str_eq(c->redis_password, "s3cret");
    ck_assert(!c->password_on_command_line);
    struct buf text = {0};
    config_print_file(&text, c);
    buf_putc(&text, '\0');
    ck_assert_ptr_null(strstr(text.ptr, "s3cret"));
    ck_assert_ptr_nonnull(strstr(text.ptr, "\"redis.password\": \"***\""));
    buf_reset(&text);
    config_unref(c);
    static const char *const shown[] = {"--redis redis://u:p@h", "--redis.password=p",
                                        "--redis redis+sentinel://:p@h/m", "--sentinel.password p"};
    for (size_t i = 0; i < 4; i++) {
        c = load_ok(shown[i], "");
        ck_assert_msg(c->password_on_command_line, "%s", shown[i]);
        config_unref(c);
    }
    c = load_ok("", "SSE_RELAY_REDIS=redis://u:p@h");
    ck_assert(!c->password_on_command_line);
    config_unref(c);
}
END_TEST

START_TEST(test_unknown_names_are_errors_with_a_suggestion)
{
    expect_error("--hearbeat 1s", "", "unknown option --hearbeat|--heartbeat?");
    expect_error("--queue-max-events=1", "", "--queue.max_events?");
    expect_error("--chek-config", "", "--check-config?");
    expect_error("--zzzzzzzzzz 1", "", "unknown option --zzzzzzzzzz|--help");
    expect_error("", "SSE_RELAY_HEARTBEET=1s",
                 "SSE_RELAY_HEARTBEET|did you mean SSE_RELAY_HEARTBEAT?");
    expect_error("", "SSE_RELAY_QQQQQQQQQQQ=1s", "SSE_RELAY_QQQQQQQQQQQ");
    expect_file_error("{\"queue\": {\"max_event\": 1}}",
                      "\"queue.max_event\"|did you mean \"queue.max_events\"?");
    expect_file_error("{\"nonsense\": {\"x\": 1}}", "\"nonsense\"");
    expect_error("serve", "", "unexpected argument \"serve\"");
    expect_error("--", "", "unexpected argument");
    expect_error("--node", "", "--node needs a value");
    expect_error("--node --workers 3", "", "--node needs a value");
    expect_error("--help=1", "", "--help");
}
END_TEST

START_TEST(test_other_variables_are_not_ours)
{
    config_unref(load_ok("", "PATH=/bin SSE_RELAYS=1 sse_relay_redis=x SSE_RELAY_NOTHING"));
}
END_TEST

START_TEST(test_bad_files_are_errors)
{
    expect_error("--config /nonexistent/x.json", "", "/nonexistent/x.json|No such file");
    expect_error("--config /tmp", "", "cannot read the configuration file /tmp");
    expect_file_error("", "not valid JSON|line 1");
    expect_file_error("{} {}", "not valid JSON");
    expect_file_error("[]", "must hold a JSON object");
    expect_file_error("{\"retry\": {\"x\": 1}}", "retry|expected a string such as");
    expect_file_error("{\"retry\": null}", "retry|expected a string such as");
    expect_file_error("{\"prefix\": 5}", "prefix|expected a string");
    expect_file_error("{\"listen\": [1]}", "listen|an array of strings");
    expect_file_error("{\"listen\": []}", "listen|1 to 64 items");
    expect_file_error("{\"workers\": 1.5}", "workers=1.5|0 to 64");
    expect_file_error("{\"queue.max_events\": 1, \"queue\": {\"max_events\": 2}}",
                      "queue.max_events|twice");
    expect_file_error("{\"queue\": 1}", "unknown key \"queue\"");
    expect_file_error("{\"\\u0000\": 1}", "unknown key");
}
END_TEST

START_TEST(test_too_large_a_file_is_refused)
{
    char *text = malloc(1100001);
    ck_assert_ptr_nonnull(text);
    memset(text, ' ', 1100000);
    text[1100000] = '\0';
    expect_file_error(text, "larger than 1 MB");
    free(text);
}
END_TEST

START_TEST(test_actions_are_recognised)
{
    static const struct {
        const char *words;
        enum config_action action;
    } cases[] = {
        {"", CONFIG_RUN},
        {"--check-config", CONFIG_CHECK},
        {"--print-config --retry 1s", CONFIG_PRINT},
        {"--version", CONFIG_VERSION},
        {"--help", CONFIG_HELP},
        {"-h", CONFIG_HELP},
        {"--version --help --check-config", CONFIG_HELP},
        {"--print-docs", CONFIG_DOCS},
        {"--help --retry banana --config /nonexistent", CONFIG_HELP},
        {"--explain x --auth.file /x", CONFIG_EXPLAIN},
        {"--explain=-", CONFIG_EXPLAIN},
        {"--explain x --help", CONFIG_HELP},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config *c = NULL;
        enum config_action action = CONFIG_RUN;
        char *msg = NULL;
        ck_assert_int_eq(load(cases[i].words, "", &c, &action, &msg), OK);
        ck_assert_int_eq(action, cases[i].action);
        config_unref(c);
    }
    expect_error("--check-config --retry banana", "", "retry=banana");
}
END_TEST

START_TEST(test_what_is_to_be_explained)
{
    struct config *c = NULL;
    enum config_action action;
    char *msg = NULL;
    ck_assert_int_eq(load("--explain a --auth.file /x --explain b", "", &c, &action, &msg), OK);
    ck_assert_str_eq(c->explain, "b");
    config_unref(c);
    expect_error("--explain", "", "--explain needs a value");
    expect_error("--explain --auth.file /x", "", "--explain needs a value");
    expect_error("--explian x", "", "--explain?");
    expect_error("", "SSE_RELAY_EXPLAIN=x", "unknown environment variable SSE_RELAY_EXPLAIN");
}
END_TEST

/* Half a configuration does not start. */
START_TEST(test_authentication_as_a_whole_or_not_at_all)
{
    expect_error("--auth.file /x --auth.key_file /y", "", "auth.file says everything");
    expect_error("--auth.file /x --auth.algs HS256", "", "auth.file says everything");
    expect_error("--auth.key_file /x", "", "auth.key_file needs auth.algs");
    expect_error("--auth.algs HS256", "", "need auth.key_file");
    expect_error("--auth.issuer x", "", "need auth.key_file");
    expect_error("--auth.cookie x", "", "need auth.file or auth.key_file");
    expect_error("--auth.query on", "", "need auth.file or auth.key_file");
    expect_error("--auth.metrics on", "", "need auth.file or auth.key_file");
    expect_error("--auth.file /x --auth.cookie x --cors.origins *", "", "cors.origins=*");
    config_unref(load_ok("--auth.file /x --auth.cookie __Host-x --cors.origins http://a.example "
                         "--auth.query on --auth.metrics on",
                         ""));
    config_unref(load_ok("--auth.key_file /x --auth.algs HS256,EdDSA --auth.issuer i "
                         "--auth.audience a",
                         ""));
}
END_TEST

START_TEST(test_printed_file_reads_back_to_the_same)
{
    static const char *const cases[] = {
        "",
        "--node n1 --workers 2 --heartbeat 0 --retry 1500ms --log.ttl 90m --queue.max_bytes 5000 "
        "--control_events off --cors.origins https://a.example,* --inbox.namespaces= --compress "
        "a.*,b "
        "--logging.format json --lanes a=b=appended,>=batched --slow drop-oldest --slow.allowed "
        "block "
        "--listen 127.0.0.1:1 --listen [::]:2 --heartbeat.event \"\\ --max_event_bytes 64MB "
        "--redis memory:",
    };
    struct buf first = {0}, second = {0};
    struct config *c = load_ok(cases[_i], "");
    config_print_file(&first, c);
    buf_putc(&first, '\0');
    struct config *again = load_file(first.ptr);
    config_print_file(&second, again);
    buf_putc(&second, '\0');
    ck_assert_str_eq(first.ptr, second.ptr);
    for (size_t i = 0; i < config_table_count; i++) {
        ck_assert(config_value_equal(c, again, &config_table[i]));
        ck_assert_ptr_nonnull(strstr(first.ptr, config_table[i].help));
    }
    config_unref(c);
    config_unref(again);
    buf_reset(&first);
    buf_reset(&second);
}
END_TEST

START_TEST(test_printed_default_file_names_no_machine)
{
    struct buf b = {0};
    struct config *c = load_ok("", "");
    config_print_file(&b, c);
    buf_putc(&b, '\0');
    ck_assert_ptr_nonnull(strstr(b.ptr, "\"node\": \"\""));
    ck_assert_ptr_nonnull(strstr(b.ptr, "\"workers\": 0"));
    ck_assert_ptr_null(strstr(b.ptr, c->node));
    config_unref(c);
    buf_reset(&b);
}
END_TEST

START_TEST(test_passwords_are_masked)
{
    static const char *const cases[][2] = {
        {"redis://user:pw@host:1/2", "redis://user:***@host:1/2"},
        {"redis://:pw@host", "redis://:***@host"},
        {"redis://:p@w:/x@host", "redis://:***@host"},
        {"redis://user@host:1", "redis://user@host:1"},
        {"redis://host:1", "redis://host:1"},
        {"unix:///a/b", "unix:///a/b"},
        {"memory:", "memory:"},
        {"user:pw@host", "user:***@host"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        config_print_url(&b, cases[i][0]);
        buf_putc(&b, '\0');
        ck_assert_str_eq(b.ptr, cases[i][1]);
        buf_reset(&b);
    }
    struct buf b = {0};
    struct config *c = load_ok("--redis redis://:s3cret@h:1", "");
    config_print_file(&b, c);
    buf_putc(&b, '\0');
    ck_assert_ptr_null(strstr(b.ptr, "s3cret"));
    config_unref(c);
    buf_reset(&b);
}
END_TEST

START_TEST(test_help_and_docs_name_every_option)
{
    struct buf help = {0}, docs = {0};
    config_print_help(&help);
    buf_putc(&help, '\0');
    config_print_docs(&docs);
    buf_putc(&docs, '\0');
    for (size_t i = 0; i < config_table_count; i++) {
        char word[80];
        snprintf(word, sizeof(word), "--%s", config_table[i].name);
        ck_assert_ptr_nonnull(strstr(help.ptr, word));
        snprintf(word, sizeof(word), "| `%s` |", config_table[i].name);
        ck_assert_ptr_nonnull(strstr(docs.ptr, word));
    }
    expect_parts(help.ptr, "--config FILE|SSE_RELAY_|Exit codes|Example");
    buf_reset(&help);
    buf_reset(&docs);
}
END_TEST

START_TEST(test_references_share_one_configuration)
{
    struct config *c = load_ok("", "");
    ck_assert_ptr_eq(config_ref(c), c);
    config_unref(c);
    ck_assert_str_eq(c->prefix, "sse");
    config_unref(c);
    config_unref(NULL);
}
END_TEST

START_TEST(test_environment_names_are_unambiguous)
{
    for (size_t i = 0; i < config_table_count; i++)
        for (size_t j = 0; j < i; j++) {
            const char *a = config_table[i].name, *b = config_table[j].name;
            while (*a && (*a == *b || (strchr("._", *a) && strchr("._", *b) && *b))) {
                a++;
                b++;
            }
            ck_assert(*a || *b);
        }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("config");
    tcase_add_test(cases, test_defaults_are_those_of_the_contract);
    tcase_add_test(cases, test_flag_beats_environment_beats_file_beats_default);
    tcase_add_test(cases, test_flags_take_both_forms_and_the_last_wins);
    tcase_add_test(cases, test_lists_repeat_as_flags_and_replace_what_came_before);
    tcase_add_test(cases, test_file_takes_nested_and_dotted_keys_and_comments);
    tcase_add_test(cases, test_file_named_by_environment_and_overruled_by_flag);
    tcase_add_loop_test(cases, test_every_option_has_its_range, 0,
                        (int)(sizeof(ranges) / sizeof(ranges[0])));
    tcase_add_test(cases, test_every_option_of_the_table_is_covered_by_the_ranges);
    tcase_add_test(cases, test_messages_name_option_source_value_and_what_is_allowed);
    tcase_add_test(cases, test_messages_never_show_a_password);
    tcase_add_test(cases, test_password_comes_from_a_file);
    tcase_add_test(cases, test_password_files_that_are_of_no_use_are_refused);
    tcase_add_test(cases, test_password_in_the_environment_is_no_secret_told_on_the_command_line);
    tcase_add_test(cases, test_unknown_names_are_errors_with_a_suggestion);
    tcase_add_test(cases, test_other_variables_are_not_ours);
    tcase_add_test(cases, test_bad_files_are_errors);
    tcase_add_test(cases, test_too_large_a_file_is_refused);
    tcase_add_test(cases, test_actions_are_recognised);
    tcase_add_test(cases, test_what_is_to_be_explained);
    tcase_add_test(cases, test_authentication_as_a_whole_or_not_at_all);
    tcase_add_loop_test(cases, test_printed_file_reads_back_to_the_same, 0, 2);
    tcase_add_test(cases, test_printed_default_file_names_no_machine);
    tcase_add_test(cases, test_passwords_are_masked);
    tcase_add_test(cases, test_help_and_docs_name_every_option);
    tcase_add_test(cases, test_references_share_one_configuration);
    tcase_add_test(cases, test_environment_names_are_unambiguous);
    return tests_run(cases);
}
