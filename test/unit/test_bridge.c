/* SPDX-License-Identifier: Apache-2.0 */
/* What a message of a bridged channel, or an entry of a bridged stream, becomes. */
#include "relay/core/bridge.h"

#include <stdlib.h>
#include <string.h>

#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

static struct bridge bridge;
static struct config *config;

static const struct config_bridge *rule(const char *json)
{
    struct buf text = {0};
    config_unref(config);
    buf_printf(&text, "{\"bridges\": [%s], \"max_event_bytes\": \"1KB\"}", json);
    buf_putc(&text, '\0');
    config = load_file(text.ptr);
    buf_reset(&text);
    return &config->bridge_list[0];
}

static void done(void)
{
    bridge_reset(&bridge);
    config_unref(config);
    config = NULL;
}

static struct event_fields message(const char *json, const char *channel, struct slice payload)
{
    struct event_fields f;
    enum err e = bridge_read_message(&bridge, config, rule(json), slice_of(channel), payload, &f);
    ck_assert_msg(e == OK, "%s: %s", json, e ? bridge.why : "");
    ck_assert(f.id == 0 && !f.has_prev && f.end == END_NONE && !f.end_after_ms && !f.twin);
    return f;
}

static void expect_none(const char *json, const char *channel, struct slice payload,
                        const char *why)
{
    struct event_fields f;
    const struct config_bridge *r = rule(json);
    ck_assert_int_eq(bridge_read_message(&bridge, config, r, slice_of(channel), payload, &f),
                     ERR_INVALID);
    ck_assert_msg(strstr(bridge.why, why) != NULL, "%s", bridge.why);
}

#define PLAIN "{\"channel\":\"c\",\"topic\":\"t\"}"

START_TEST(test_bytes_are_data)
{
    struct event_fields f = message(PLAIN, "c", SLICE_LIT("a\xFF\0b"));
    ck_assert(slice_eq(f.data, SLICE_LIT("a\xFF\0b")));
    ck_assert(slice_is(f.topic, "t") && slice_is(f.ns, "default") && !f.type.ptr && !f.key.ptr);
    f = message(PLAIN, "c", SLICE_LIT(""));
    ck_assert(f.data.ptr && f.data.len == 0);
    f = message("{\"channel\":\"c\",\"topic\":\"t\",\"ns\":\"n\",\"event\":\"e\",\"key\":\"k\","
                "\"priority\":\"batched\"}",
                "c", SLICE_LIT("{\"a\":1}"));
    ck_assert(slice_is(f.type, "e") && slice_is(f.key, "k") && slice_is(f.ns, "n"));
    ck_assert(f.has_lane && f.lane == LANE_BATCHED && slice_is(f.data, "{\"a\":1}"));
}
END_TEST

/* What an envelope says itself comes first, but for what only a log can hold. */
START_TEST(test_envelopes)
{
    struct event_fields f = message(
        "{\"channel\":\"c\",\"topic\":\"t\",\"event\":\"e\",\"key\":\"k\"}", "c",
        SLICE_LIT("{\"sse\":1,\"id\":\"7\",\"prev\":\"5\",\"topic\":\"other\",\"data\":\"d\","
                  "\"event\":\"own\",\"key\":\"mine\",\"ttl\":9,\"end\":\"end\","
                  "\"end_after\":5,\"twin\":3,\"match\":{\"u\":\"1\"}}"));
    ck_assert(slice_is(f.data, "d") && slice_is(f.type, "own") && slice_is(f.key, "mine"));
    ck_assert(slice_is(f.topic, "t") && f.ttl_ms == 9 && f.has_match && f.match.len);
    f = message("{\"channel\":\"c\",\"topic\":\"t\",\"event\":\"e\"}", "c",
                SLICE_LIT("{\"sse\":1,\"data\":\"d\"}"));
    ck_assert(slice_is(f.type, "e"));
    expect_none(PLAIN, "c", SLICE_LIT("{\"sse\":1}"), "envelope");
    expect_none(PLAIN, "c", SLICE_LIT("{\"sse\":1,\"data\":\"d\",\"event\":\"relay.x\"}"), "own");
}
END_TEST

static void expect_topic(const char *glob, const char *topic, const char *channel,
                         const char *wanted)
{
    struct buf json = {0};
    buf_printf(&json, "{\"channel\":\"%s\",\"topic\":\"%s\"}", glob, topic);
    buf_putc(&json, '\0');
    struct event_fields f = message(json.ptr, channel, SLICE_LIT("x"));
    ck_assert_msg(slice_is(f.topic, wanted), "%.*s", (int)f.topic.len, f.topic.ptr);
    buf_reset(&json);
}

START_TEST(test_stars_become_tokens)
{
    char longest[600];
    expect_topic("e:*", "o.{1}", "e:eu", "o.eu");
    expect_topic("e:*", "o.{1}.x", "e:a.b c*d>e%f", "o.a%2Eb%20c%2Ad%3Ee%25f.x");
    expect_topic("e:*:*", "{2}.{1}.{2}", "e:a:b:c", "b:c.a.b:c");
    expect_topic("*", "{1}", "a\xFF\xC3\xA9", "a%FF\xC3\xA9");
    expect_topic("*", "{1}", "a\x01\x7F", "a%01%7F");
    expect_topic("e?*", "fixed", "e1", "fixed");
    expect_none("{\"channel\":\"e:*\",\"topic\":\"o.{1}\"}", "e:", SLICE_LIT("x"), "empty");
    memset(longest, 'x', sizeof(longest));
    longest[599] = '\0';
    expect_none("{\"channel\":\"*\",\"topic\":\"o.{1}\"}", longest, SLICE_LIT("x"), "too long");
}
END_TEST

START_TEST(test_pointers_into_the_data)
{
    static const char json[] = "{\"channel\":\"c\",\"topic_field\":\"/o/r\",\"event_field\":\"/e\","
                               "\"data_field\":\"/d\"}";
    struct event_fields f =
        message(json, "c",
                SLICE_LIT("{\"o\":{\"r\":\"a.b\"},\"e\":\"made\",\"d\":{ \"n\": "
                          "12345678901234567890 }}"));
    ck_assert(slice_is(f.topic, "a.b") && slice_is(f.type, "made"));
    ck_assert(slice_is(f.data, "{\"n\":12345678901234567890}"));
    f = message(json, "c", SLICE_LIT("{\"o\":{\"r\":12345678901234567890},\"d\":\"a\\nb\"}"));
    ck_assert(slice_is(f.topic, "12345678901234567890") && slice_is(f.data, "a\nb") && !f.type.ptr);
    f = message(json, "c",
                SLICE_LIT("{\"sse\":1,\"data\":\"{\\\"o\\\":{\\\"r\\\":\\\"x\\\"},"
                          "\\\"d\\\":7}\"}"));
    ck_assert(slice_is(f.topic, "x") && slice_is(f.data, "7"));
    f = message(json, "c", SLICE_LIT("{\"o\":{\"r\":\"a\"},\"e\":null,\"d\":\"\"}"));
    ck_assert(!f.type.ptr && f.data.ptr && f.data.len == 0);
    f = message(json, "c", SLICE_LIT("{\"o\":{\"r\":\"a\"},\"d\":null}"));
    ck_assert(slice_is(f.data, "null"));
    f = message(json, "c", SLICE_LIT("{\"o\":{\"r\":\"a\"},\"e\":\"\\r\\n\",\"d\":1}"));
    ck_assert(!f.type.ptr);
}
END_TEST

START_TEST(test_what_no_pointer_finds)
{
    static const char json[] = "{\"channel\":\"c\",\"topic_field\":\"/t\",\"event_field\":\"/e\","
                               "\"data_field\":\"/d\"}";
    expect_none(json, "c", SLICE_LIT("text"), "not JSON");
    expect_none(json, "c", SLICE_LIT("{\"d\":1}"), "no topic");
    expect_none(json, "c", SLICE_LIT("{\"t\":null,\"d\":1}"), "no topic");
    expect_none(json, "c", SLICE_LIT("{\"t\":\"a.*\",\"d\":1}"), "no topic");
    expect_none(json, "c", SLICE_LIT("{\"t\":\"\",\"d\":1}"), "no topic");
    expect_none(json, "c", SLICE_LIT("{\"t\":[\"a\"],\"d\":1}"), "neither");
    expect_none(json, "c", SLICE_LIT("{\"t\":\"a\",\"e\":true,\"d\":1}"), "neither");
    expect_none(json, "c", SLICE_LIT("{\"t\":\"a\",\"e\":\"relay.x\",\"d\":1}"), "own");
    expect_none(json, "c", SLICE_LIT("{\"t\":\"a\"}"), "data_field");
}
END_TEST

START_TEST(test_sizes)
{
    char bytes[8 * 1024 + 1];
    memset(bytes, 'x', sizeof(bytes));
    message(PLAIN, "c", (struct slice){bytes, 1024});
    expect_none(PLAIN, "c", (struct slice){bytes, 1025}, "max_event_bytes");
    expect_none(PLAIN, "c", (struct slice){bytes, sizeof(bytes)}, "eight times");
}
END_TEST

#define ENTRY "{\"stream\":\"s\",\"group\":\"g\","

static enum err entry(const char *json, const char *words, struct event_fields *f)
{
    struct slice fields[16], rest = slice_of(words);
    size_t count = 0;
    while (rest.ptr && rest.len)
        fields[count++] = slice_cut(&rest, '|');
    return bridge_read_entry(&bridge, config, rule(json), fields, count, f);
}

START_TEST(test_entries)
{
    struct event_fields f;
    ck_assert_int_eq(entry(ENTRY "\"topic\":\"t\"}", "x|1|data|D|data|E", &f), OK);
    ck_assert(slice_is(f.topic, "t") && slice_is(f.data, "D") && !f.type.ptr);
    ck_assert_int_eq(entry(ENTRY "\"topic_field\":\"where\",\"event_field\":\"what\","
                                 "\"data_field\":\"payload\"}",
                           "where|a.b|what|made|payload|P|data|no", &f),
                     OK);
    ck_assert(slice_is(f.topic, "a.b") && slice_is(f.type, "made") && slice_is(f.data, "P"));
    ck_assert_int_eq(entry(ENTRY "\"topic_field\":\"/order/region\",\"data_field\":\"payload\"}",
                           "payload|{\"order\":{\"region\":\"eu\"}}", &f),
                     OK);
    ck_assert(slice_is(f.topic, "eu") && slice_is(f.data, "{\"order\":{\"region\":\"eu\"}}"));
    ck_assert_int_eq(entry(ENTRY "\"topic_field\":\"/t\",\"data_field\":\"/d\"}",
                           "data|{\"t\":\"a\",\"d\":[1, 2]}", &f),
                     OK);
    ck_assert(slice_is(f.topic, "a") && slice_is(f.data, "[1,2]"));
}
END_TEST

START_TEST(test_entries_that_are_no_events)
{
    struct event_fields f;
    ck_assert_int_eq(entry(ENTRY "\"topic\":\"t\"}", "x|1", &f), ERR_INVALID);
    ck_assert_str_eq(bridge.why, "it has no data");
    ck_assert_int_eq(entry(ENTRY "\"topic_field\":\"w\"}", "data|x", &f), ERR_INVALID);
    ck_assert_int_eq(entry(ENTRY "\"topic_field\":\"w\"}", "data|x|w|a b", &f), ERR_INVALID);
    ck_assert_int_eq(entry(ENTRY "\"topic_field\":\"/w\"}", "data|x", &f), ERR_INVALID);
    ck_assert_int_eq(entry(ENTRY "\"topic\":\"t\",\"event_field\":\"e\"}", "data|x|e|relay.y", &f),
                     ERR_INVALID);
    ck_assert_int_eq(entry(ENTRY "\"topic\":\"t\",\"event_field\":\"e\"}", "data|x", &f), OK);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("bridge");
    tcase_add_checked_fixture(cases, NULL, done);
    tcase_add_test(cases, test_bytes_are_data);
    tcase_add_test(cases, test_envelopes);
    tcase_add_test(cases, test_stars_become_tokens);
    tcase_add_test(cases, test_pointers_into_the_data);
    tcase_add_test(cases, test_what_no_pointer_finds);
    tcase_add_test(cases, test_sizes);
    tcase_add_test(cases, test_entries);
    tcase_add_test(cases, test_entries_that_are_no_events);
    return tests_run(cases);
}
