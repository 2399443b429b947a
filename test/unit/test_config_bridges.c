/* SPDX-License-Identifier: Apache-2.0 */
/* The option bridges: what is taken, and which member of which bridge is named where it is not. */
#include <stdlib.h>
#include <string.h>

#include "common/stencil.h"
#include "relay/config/config_print.h"
#include "relay/config/config_value.h"
#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

static struct config *load_bridges(const char *json)
{
    struct buf text = {0};
    buf_printf(&text, "{\"bridges\": %s}", json);
    buf_putc(&text, '\0');
    struct config *c = load_file(text.ptr);
    buf_reset(&text);
    return c;
}

static void expect_refused(const char *json, const char *parts)
{
    struct buf text = {0};
    buf_printf(&text, "{\"bridges\": %s}", json);
    buf_putc(&text, '\0');
    expect_file_error(text.ptr, parts);
    buf_reset(&text);
}

START_TEST(test_none_by_default)
{
    struct config *c = load_ok("", "");
    ck_assert_uint_eq(c->bridge_count, 0);
    ck_assert_str_eq(c->bridges, "[]");
    config_unref(c);
}
END_TEST

START_TEST(test_both_kinds)
{
    struct config *c = load_bridges(
        "[ /* a comment */ {\"channel\": \"events:*\", \"topic\": \"orders.{1}\", \"ns\": \"shop\","
        "\"event\": \"created\", \"priority\": \"coalesced\", \"key\": \"k\"},"
        "{\"channel\": \"plain\", \"topic_field\": \"/t\"},"
        "{\"stream\": \"orders\", \"group\": \"sse\", \"topic\": \"a\", \"event_field\": \"e\"}]");
    ck_assert_uint_eq(c->bridge_count, 3);
    const struct config_bridge *b = c->bridge_list;
    ck_assert(b->is_glob && !b->is_stream && b->has_lane && b->lane == LANE_COALESCED);
    ck_assert_str_eq(b->source, "events:*");
    ck_assert_str_eq(b->ns, "shop");
    ck_assert_str_eq(b->event, "created");
    ck_assert_str_eq(b->key, "k");
    ck_assert(slice_is(stencil_text(b->topic), "orders.{1}"));
    ck_assert_ptr_null(b->data_field);
    b++;
    ck_assert(!b->is_glob && !b->has_lane && !b->topic && !b->event);
    ck_assert_str_eq(b->topic_field, "/t");
    ck_assert_str_eq(b->ns, "default");
    b++;
    ck_assert(b->is_stream);
    ck_assert_str_eq(b->group, "sse");
    ck_assert_str_eq(b->data_field, "data");
    ck_assert_str_eq(b->event_field, "e");
    config_unref(c);
}
END_TEST

START_TEST(test_flag_and_environment_take_the_same_as_text)
{
    struct config *c = load_ok("--bridges [{\"channel\":\"a\",\"topic\":\"b\"}]", "");
    ck_assert_uint_eq(c->bridge_count, 1);
    config_unref(c);
    c = load_ok("", "SSE_RELAY_BRIDGES=[{\"channel\":\"a\",\"topic\":\"b\"}]");
    ck_assert_uint_eq(c->bridge_count, 1);
    config_unref(c);
    expect_error("--bridges [{\"channel\":\"a\"}]", "", "bridges[0].topic|--bridges");
    expect_error("--bridges {}", "", "bridges|array");
    expect_error("--bridges [", "", "bridges|not valid JSON");
    expect_error("--bridges x", "", "bridges|not valid JSON");
}
END_TEST

START_TEST(test_print_can_be_read_back)
{
    static const char json[] = "[{\"channel\":\"a*\",\"topic\":\"b.{1}\"}]";
    struct config *c = load_bridges(json);
    struct buf text = {0};
    config_print_file(&text, c);
    buf_putc(&text, '\0');
    ck_assert_ptr_nonnull(strstr(text.ptr, json));
    struct config *again = load_file(text.ptr);
    ck_assert_uint_eq(again->bridge_count, 1);
    buf_reset(&text);
    config_unref(again);
    config_unref(c);
}
END_TEST

START_TEST(test_what_is_wrong_is_named)
{
    static const struct {
        const char *json, *parts;
    } wrong[] = {
        {"\"[]\"", "bridges|an array of objects"},
        {"[1]", "bridges[0]: |object"},
        {"[{}]", "bridges[0]: |channel or stream"},
        {"[{\"channel\":\"a\",\"stream\":\"b\",\"group\":\"g\",\"topic\":\"t\"}]",
         "bridges[0]: |either channel or stream"},
        {"[{\"chanel\":\"a\",\"topic\":\"t\"}]",
         "bridges[0]: |\"chanel\"|did you mean \"channel\""},
        {"[{\"channel\":\"a\",\"topic\":7}]", "bridges[0].topic: |text"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"topic\":\"u\"}]", "bridges[0].topic: |twice"},
        {"[{\"channel\":\"a\",\"topic\":\"t\"},{\"channel\":\"b\"}]", "bridges[1].topic: |missing"},
        {"[{\"channel\":\"\",\"topic\":\"t\"}]", "bridges[0].channel: |1 to 512"},
        {"[{\"channel\":\"a\\n\",\"topic\":\"t\"}]", "bridges[0].channel: |control"},
        {"[{\"channel\":\"a\",\"topic\":\"t.*\"}]", "bridges[0].topic: |exact topic"},
        {"[{\"channel\":\"a\",\"topic\":\"t..u\"}]", "bridges[0].topic: |expected"},
        {"[{\"channel\":\"a*\",\"topic\":\"t{1}\"}]", "bridges[0].topic: |whole token"},
        {"[{\"channel\":\"a*\",\"topic\":\"t.{2}\"}]", "bridges[0].topic: |{2}|has 1"},
        {"[{\"channel\":\"a*\",\"topic\":\"t.{0}\"}]", "bridges[0].topic: |{1} to {8}"},
        {"[{\"channel\":\"a*\",\"topic\":\"t.{x}\"}]", "bridges[0].topic: |{x}"},
        {"[{\"channel\":\"a\",\"topic\":\"t.{1}\"}]", "bridges[0].topic: |{1}|has 0"},
        {"[{\"stream\":\"a*\",\"group\":\"g\",\"topic\":\"t.{1}\"}]", "bridges[0].topic: |{1}"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"topic_field\":\"/x\"}]",
         "bridges[0].topic_field: |together with topic"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"event\":\"e\",\"event_field\":\"/x\"}]",
         "bridges[0].event_field: |together with event"},
        {"[{\"channel\":\"a\",\"topic_field\":\"x\"}]", "bridges[0].topic_field: |JSON Pointer"},
        {"[{\"channel\":\"a\",\"topic_field\":\"/x~\"}]", "bridges[0].topic_field: |JSON Pointer"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"group\":\"g\"}]", "bridges[0].group: |with stream"},
        {"[{\"stream\":\"a\",\"topic\":\"t\"}]", "bridges[0].group: |missing"},
        {"[{\"stream\":\"a\",\"group\":\"\",\"topic\":\"t\"}]", "bridges[0].group: |1 to 64"},
        {"[{\"stream\":\"a\",\"group\":\"g\",\"topic\":\"t\"},"
         "{\"stream\":\"a\",\"group\":\"g\",\"topic\":\"u\"}]",
         "bridges[1].group: |bridges[0]"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"ns\":\"a.b\"}]", "bridges[0].ns: |1 to 64"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"priority\":\"high\"}]",
         "bridges[0].priority: |instant, batched"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"event\":\"relay.x\"}]", "bridges[0].event: |own"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"event\":\"\"}]", "bridges[0].event: |1 to 256"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"key\":\"a\\tb\"}]", "bridges[0].key: |control"},
        {"[{\"channel\":\"sse:{default}:ch:a\",\"topic\":\"t\"}]",
         "bridges[0].channel: |prefix=sse"},
        {"[{\"stream\":\"sse:{x}:inbox\",\"group\":\"g\",\"topic\":\"t\"}]",
         "bridges[0].stream: |prefix=sse"},
        {"[{\"channel\":\"a\",\"topic\":\"t\"}], \"redis\": \"memory:\"", "bridges[0]: |memory:"},
        {"[{\"channel\":\"a\",\"topic\":\"t\",\"event\":\"my.x\"}], \"control_prefix\": \"my.\"",
         "bridges[0].event: |control_prefix"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_refused(wrong[i].json, wrong[i].parts);
}
END_TEST

START_TEST(test_no_more_than_64)
{
    struct buf json = {0};
    for (int i = 0; i < 64; i++)
        buf_printf(&json, "%c{\"channel\":\"c%d\",\"topic\":\"t\"}", i ? ',' : '[', i);
    buf_puts(&json, "]");
    buf_putc(&json, '\0');
    struct config *c = load_bridges(json.ptr);
    ck_assert_uint_eq(c->bridge_count, 64);
    config_unref(c);
    json.len -= 2;
    buf_printf(&json, ",{\"channel\":\"x\",\"topic\":\"t\"}]");
    buf_putc(&json, '\0');
    expect_refused(json.ptr, "bridges|at most 64");
    buf_reset(&json);
}
END_TEST

START_TEST(test_reload_takes_them)
{
    struct config *running = load_ok("--redis memory:", ""), *merged = NULL;
    struct config *fresh = load_bridges("[{\"channel\":\"a\",\"topic\":\"t\"}]");
    struct buf restart = {0}, why = {0};
    ck_assert_int_eq(config_merge_reload(running, fresh, &merged, &restart, &why), ERR_INVALID);
    buf_putc(&why, '\0');
    expect_parts(why.ptr, "bridges[0]: |memory:");
    config_unref(running);
    running = load_ok("", "");
    buf_clear(&why);
    ck_assert_int_eq(config_merge_reload(running, fresh, &merged, &restart, &why), OK);
    ck_assert_uint_eq(merged->bridge_count, 1);
    config_unref(merged);
    config_unref(running);
    config_unref(fresh);
    buf_reset(&restart);
    buf_reset(&why);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("config_bridges");
    tcase_add_test(cases, test_none_by_default);
    tcase_add_test(cases, test_both_kinds);
    tcase_add_test(cases, test_flag_and_environment_take_the_same_as_text);
    tcase_add_test(cases, test_print_can_be_read_back);
    tcase_add_test(cases, test_what_is_wrong_is_named);
    tcase_add_test(cases, test_no_more_than_64);
    tcase_add_test(cases, test_reload_takes_them);
    return tests_run(cases);
}
