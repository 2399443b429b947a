/* SPDX-License-Identifier: Apache-2.0 */
/* Requests taken apart: what is accepted becomes exactly this, what is not is refused with a
 * sentence that names it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/event.h"
#include "common/json.h"
#include "relay/core/publication_arguments.h"
#include "relay/http/request.h"
#include "test/unit/tests_run.h"

#define NOW_US UINT64_C(1700000000000000)
#define PAIRS_MAX 128

static const struct config config = {.max_topics = 3,
                                     .replay_max_events = 100,
                                     .snapshot_max = 2,
                                     .max_event_bytes = 1024,
                                     .heartbeat_ms = 15000,
                                     .heartbeat_min_ms = 2000};

/* --- streams --- */

struct query {
    struct request_pair pairs[PAIRS_MAX];
    size_t count;
    char text[8192];
};

/* "a=b&c" without decoding. */
static void query_split(struct query *q, const char *text)
{
    char *save = NULL;
    q->count = 0;
    snprintf(q->text, sizeof(q->text), "%s", text);
    for (char *w = strtok_r(q->text, "&", &save); w; w = strtok_r(NULL, "&", &save)) {
        char *equals = strchr(w, '=');
        struct request_pair *pair = &q->pairs[q->count++];
        *pair = (struct request_pair){slice_of(w), SLICE_NONE};
        if (equals) {
            pair->name.len = (size_t)(equals - w);
            pair->value = slice_of(equals + 1);
        }
    }
}

static enum err stream(const char *query, const char *last_id, struct subscription_request *out,
                       struct problem *problem)
{
    static struct query q;
    query_split(&q, query);
    struct request_view view = {
        .query = q.pairs, .query_count = q.count, .last_event_id = slice_of(last_id)};
    return request_parse_stream(&view, &config, NOW_US, out, problem);
}

static struct subscription_request stream_ok(const char *query, const char *last_id)
{
    struct subscription_request r = {0};
    struct problem problem = {0};
    enum err e = stream(query, last_id, &r, &problem);
    ck_assert_msg(e == OK, "%s: %.*s", query, (int)problem.detail.len, problem.detail.ptr);
    return r;
}

/* The sentence must start with the name of the parameter and hold @part. */
static void check_problem(struct problem *problem, unsigned status, const char *start,
                          const char *part)
{
    ck_assert(slice_utf8_valid(buf_slice(&problem->detail)));
    buf_putc(&problem->detail, '\0');
    ck_assert_msg(problem->status == status, "%u: %s", problem->status, problem->detail.ptr);
    ck_assert_msg(strncmp(problem->detail.ptr, start, strlen(start)) == 0 &&
                      strstr(problem->detail.ptr, part),
                  "\"%s\" does not start with %s or misses %s", problem->detail.ptr, start, part);
    buf_reset(&problem->detail);
}

static void stream_refused(const char *query, const char *start, const char *part)
{
    struct subscription_request r;
    struct problem problem = {0};
    ck_assert_msg(stream(query, NULL, &r, &problem) == ERR_INVALID, "%s was accepted", query);
    check_problem(&problem, 400, start, part);
}

START_TEST(test_topics_are_kept_in_order_without_repeats)
{
    struct subscription_request r =
        stream_ok("topic=b&topic=a.*&x=y&topic=b&topic=c.>&ns=n_1", NULL);
    ck_assert_str_eq(r.ns, "n_1");
    ck_assert_uint_eq(r.topics.count, 3);
    ck_assert_str_eq(r.topics.items[0], "b");
    ck_assert_str_eq(r.topics.items[1], "a.*");
    ck_assert_str_eq(r.topics.items[2], "c.>");
    ck_assert_int_eq(r.cursor, CURSOR_NONE);
    ck_assert_uint_eq(r.types.count, 0);
    subscription_request_reset(&r);
    r = stream_ok("topic=a", NULL);
    ck_assert_str_eq(r.ns, "default");
    subscription_request_reset(&r);
}
END_TEST

START_TEST(test_bad_topics_are_refused)
{
    stream_refused("", "topic:", "missing");
    stream_refused("topics=a", "topic:", "missing");
    stream_refused("topic=", "topic:", "\"\"");
    stream_refused("topic", "topic:", "\"\"");
    stream_refused("topic=a b", "topic:", "\"a b\"");
    stream_refused("topic=a&topic=a..b", "topic:", "\"a..b\"");
    stream_refused("topic=>.a", "topic:", "\">.a\"");
    stream_refused("topic=\xff", "topic:", "\xEF\xBF\xBD");
    stream_refused("topic=a&topic=b&topic=c&topic=d", "topic:", "at most 3");
    stream_refused("topic=a&ns=a.b", "ns:", "\"a.b\"");
    stream_refused("topic=a&ns=", "ns:", "1 to 64");
    stream_refused("topic=a&ns=a&ns=b", "ns:", "twice");
}
END_TEST

START_TEST(test_types_filter)
{
    struct subscription_request r = stream_ok("topic=a&event=x&event=y z&event=x", NULL);
    ck_assert_uint_eq(r.types.count, 2);
    ck_assert_str_eq(r.types.items[1], "y z");
    subscription_request_reset(&r);
    stream_refused("topic=a&event=", "event:", "1 to 256");
    stream_refused("topic=a&event=a\nb", "event:", "\\n");
    stream_refused("topic=a&event=a\rb", "event:", "\\r");
    stream_refused("topic=a&event=\xff", "event:", "UTF-8");
    char query[2048] = "topic=a";
    for (size_t i = 0, n = strlen(query); i < 65; i++)
        n += (size_t)snprintf(query + n, sizeof(query) - n, "&event=e%zu", i);
    stream_refused(query, "event:", "at most 64");
}
END_TEST

START_TEST(test_a_nul_in_a_value_is_seen)
{
    struct request_pair pairs[] = {{SLICE_LIT("topic"), SLICE_LIT("a")},
                                   {SLICE_LIT("event"), SLICE_LIT("a\0b")}};
    struct request_view view = {.query = pairs, .query_count = 2};
    struct subscription_request r;
    struct problem problem = {0};
    ck_assert_int_eq(request_parse_stream(&view, &config, NOW_US, &r, &problem), ERR_INVALID);
    check_problem(&problem, 400, "event:", "\\u0000");
    pairs[0].value = SLICE_LIT("a\0");
    ck_assert_int_eq(request_parse_stream(&view, &config, NOW_US, &r, &problem), ERR_INVALID);
    check_problem(&problem, 400, "topic:", "\\u0000");
}
END_TEST

static const struct {
    const char *header, *query;
    enum cursor_kind kind;
    uint64_t value;
} cursors[] = {
    {NULL, "", CURSOR_NONE, 0},
    {"", "", CURSOR_NONE, 0},
    {"5", "", CURSOR_ID, 5},
    {"0", "", CURSOR_ID, 0},
    {"9007199254740991", "", CURSOR_ID, EVENT_ID_MAX},
    {"9007199254740992", "", CURSOR_UNKNOWN, 0},
    {"99999999999999999999999", "", CURSOR_UNKNOWN, 0},
    {"007", "", CURSOR_UNKNOWN, 0},
    {"-1", "", CURSOR_UNKNOWN, 0},
    {"abc", "", CURSOR_UNKNOWN, 0},
    {"5 ", "", CURSOR_ID, 5},
    {"\t 5\t", "", CURSOR_ID, 5},
    {" ", "&lastEventId=6", CURSOR_ID, 6},
    {"5 6", "", CURSOR_UNKNOWN, 0},
    {"\xff\xfe", "", CURSOR_UNKNOWN, 0},
    {"5", "&lastEventId=6", CURSOR_ID, 5},
    {"", "&lastEventId=6", CURSOR_ID, 6},
    {NULL, "&lastEventID=6", CURSOR_ID, 6},
    {NULL, "&last_event_id=6", CURSOR_ID, 6},
    {NULL, "&Last-Event-ID=6", CURSOR_ID, 6},
    {NULL, "&last-event-id=6", CURSOR_NONE, 0},
    {NULL, "&lastEventId= 6 ", CURSOR_ID, 6},
    {NULL, "&lastEventId=7&Last-Event-ID= ", CURSOR_ID, 7},
    {NULL, "&lastEventId=", CURSOR_NONE, 0},
    {NULL, "&lastEventId=6&last_event_id=&lastEventId=7", CURSOR_ID, 7},
    {NULL, "&lastEventId=x", CURSOR_UNKNOWN, 0},
    {"5", "&replay=all&since=0", CURSOR_ID, 5},
    {"x", "&replay=3", CURSOR_UNKNOWN, 0},
    {NULL, "&replay=all", CURSOR_ALL, 0},
    {NULL, "&replay=0", CURSOR_NONE, 0},
    {NULL, "&replay=100", CURSOR_LAST, 100},
    {NULL, "&replay=7&since=0", CURSOR_LAST, 7},
    {NULL, "&replay=all&since=0", CURSOR_ALL, 0},
    {NULL, "&replay=0&since=978307200000", CURSOR_NONE, 0},
    {NULL, "&replay=whole", CURSOR_WHOLE, 0},
    {NULL, "&replay=whole&since=0", CURSOR_WHOLE, 0},
    {"5", "&replay=whole", CURSOR_ID, 5},
    {NULL, "&snapshot=1", CURSOR_SNAPSHOT, 0},
    {NULL, "&snapshot=true", CURSOR_SNAPSHOT, 0},
    {NULL, "&snapshot=0", CURSOR_NONE, 0},
    {NULL, "&snapshot=false&replay=all", CURSOR_ALL, 0},
    {"5", "&snapshot=1", CURSOR_ID, 5},
    {"x", "&snapshot=1", CURSOR_UNKNOWN, 0},
    {NULL, "&since=1700000000123", CURSOR_SINCE, 1700000000123000},
    {NULL, "&since=0", CURSOR_SINCE, 0},
    {NULL, "&since=9007199254740991", CURSOR_SINCE, UINT64_C(9007199254740991)},
    {NULL, "&since=978307200000", CURSOR_SINCE, UINT64_C(978307200000000)},
    {NULL, "&since=2000-12-31T23:59:59Z", CURSOR_SINCE, UINT64_C(978307199000000)},
    {NULL, "&since=-10m", CURSOR_SINCE, NOW_US - 600000000},
    {NULL, "&since=-36500d", CURSOR_SINCE, 0},
    {NULL, "&since=2023-11-14T22:13:20Z", CURSOR_SINCE, NOW_US},
    {NULL, "&since=2023-11-14T23:13:20.5+01:00", CURSOR_SINCE, NOW_US + 500000},
    {NULL, "&since=2023-11-14T23:13:20 01:00", CURSOR_SINCE, NOW_US},
    {NULL, "&since=2100-01-01T00:00:00Z", CURSOR_SINCE, UINT64_C(4102444800000000)},
};

START_TEST(test_where_a_stream_starts)
{
    char query[256];
    snprintf(query, sizeof(query), "topic=a%s", cursors[_i].query);
    struct subscription_request r = stream_ok(query, cursors[_i].header);
    ck_assert_int_eq(r.cursor, cursors[_i].kind);
    ck_assert_uint_eq(r.cursor_value, cursors[_i].value);
    subscription_request_reset(&r);
}
END_TEST

START_TEST(test_what_a_stream_begins_with_is_said_clearly)
{
    stream_refused("topic=a&snapshot", "snapshot:", "1 or true, 0 or false, not \"\"");
    stream_refused("topic=a&snapshot=yes", "snapshot:", "\"yes\"");
    stream_refused("topic=a&snapshot=1&snapshot=1", "snapshot:", "twice");
    stream_refused("topic=a&snapshot=1&replay=all", "snapshot:", "replay");
    stream_refused("topic=a&snapshot=1&replay=0", "snapshot:", "replay");
    stream_refused("topic=a&snapshot=1&since=0", "snapshot:", "since");
    stream_refused("topic=a&snapshot=1&replay=all&lastEventId=5", "snapshot:", "replay");
    stream_refused("topic=a&topic=b&topic=c&snapshot=1", "snapshot:", "at most 2 topics");
    stream_refused("topic=a&topic=b.*&replay=whole", "replay:", "wildcards");
    stream_refused("topic=>&replay=whole&lastEventId=5", "replay:", "wildcards");
    struct subscription_request r = stream_ok("topic=a&topic=b&topic=c.*&snapshot=1", NULL);
    ck_assert_int_eq(r.cursor, CURSOR_SNAPSHOT);
    subscription_request_reset(&r);
}
END_TEST

START_TEST(test_whether_204_is_understood)
{
    static const struct {
        const char *query;
        bool finite;
    } cases[] = {{"topic=a", false},
                 {"topic=a&finite=1", true},
                 {"topic=a&finite=true", true},
                 {"topic=a.*&finite=true", true},
                 {"topic=a&finite=0", false},
                 {"topic=a&finite=false", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct subscription_request r = stream_ok(cases[i].query, NULL);
        ck_assert_msg(r.finite == cases[i].finite, "%s", cases[i].query);
        subscription_request_reset(&r);
    }
    stream_refused("topic=a&finite=2", "finite:", "1 or true, 0 or false, not \"2\"");
    stream_refused("topic=a&finite", "finite:", "\"\"");
    stream_refused("topic=a&finite=1&finite=1", "finite:", "twice");
}
END_TEST

START_TEST(test_bad_replay_and_since_are_refused)
{
    static const char *const replays[] = {
        "", "ALL", "101", "-1", "1.5", "x", "99999999999999999999"};
    static const char *const sinces[] = {"",
                                         "-",
                                         "yesterday",
                                         "10m",
                                         "-10",
                                         "2023-11-14",
                                         "-1x",
                                         "9007199254740992",
                                         "2023-02-30T00:00:00Z",
                                         "+1"};
    char query[128];
    for (size_t i = 0; i < sizeof(replays) / sizeof(*replays); i++) {
        snprintf(query, sizeof(query), "topic=a&replay=%s", replays[i]);
        stream_refused(query, "replay:", "all or a number from 0 to 100");
    }
    for (size_t i = 0; i < sizeof(sinces) / sizeof(*sinces); i++) {
        snprintf(query, sizeof(query), "topic=a&since=%s", sinces[i]);
        stream_refused(query, "since:", "-10m");
    }
    stream_refused("topic=a&replay", "replay:", "\"\"");
    stream_refused("topic=a&since=1", "since:", "milliseconds, not seconds");
    stream_refused("topic=a&since=1767225600", "since:", "milliseconds, not seconds");
    stream_refused("topic=a&since=978307199999", "since:", "milliseconds, not seconds");
    stream_refused("topic=a&replay=all&since=5", "since:", "milliseconds, not seconds");
    stream_refused("topic=a&replay=1&replay=1", "replay:", "twice");
    stream_refused("topic=a&since=1&since=1", "since:", "twice");
    stream_refused("topic=a&lastEventId=5&replay=x", "replay:", "\"x\"");
}
END_TEST

START_TEST(test_a_heartbeat_of_its_own_is_within_what_is_configured)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"2s", 2000}, {"4s", 4000}, {"2500ms", 2500}, {"15s", 15000}};
    static const char *const bad[] = {"", "4", "0", "1999ms", "16s", "1h", "-4s", "4 s", "x", "4S"};
    char query[128];
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        snprintf(query, sizeof(query), "topic=a&heartbeat=%s", good[i].text);
        struct subscription_request r = stream_ok(query, NULL);
        ck_assert_uint_eq(r.heartbeat_ms, good[i].ms);
        subscription_request_reset(&r);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(query, sizeof(query), "topic=a&heartbeat=%s", bad[i]);
        stream_refused(query, "heartbeat:", "from 2000ms to 15000ms");
    }
    stream_refused("topic=a&heartbeat=4s&heartbeat=4s", "heartbeat:", "twice");
    struct subscription_request r = stream_ok("topic=a", NULL);
    ck_assert_uint_eq(r.heartbeat_ms, 0);
    subscription_request_reset(&r);
}
END_TEST

START_TEST(test_a_heartbeat_of_its_own_where_the_relay_sends_none)
{
    struct config silent = config;
    struct query q;
    struct subscription_request r;
    struct problem problem = {0};
    silent.heartbeat_ms = 0;
    query_split(&q, "topic=a&heartbeat=1h");
    struct request_view view = {.query = q.pairs, .query_count = q.count};
    ck_assert_int_eq(request_parse_stream(&view, &silent, NOW_US, &r, &problem), OK);
    ck_assert_uint_eq(r.heartbeat_ms, 3600000);
    subscription_request_reset(&r);
    query_split(&q, "topic=a&heartbeat=61m");
    view.query_count = q.count;
    ck_assert_int_eq(request_parse_stream(&view, &silent, NOW_US, &r, &problem), ERR_INVALID);
    check_problem(&problem, 400, "heartbeat:", "3600000ms");
}
END_TEST

START_TEST(test_long_values_are_shown_cut)
{
    char query[2048] = "topic=a&replay=";
    memset(query + strlen(query), 'x', 1000);
    stream_refused(query, "replay:", "xxx\"...");
}
END_TEST

/* --- publishing --- */

static enum err publish(const char *type, const char *query, struct slice body,
                        struct publication_request *out, struct problem *problem)
{
    static struct query q;
    query_split(&q, query);
    struct request_view view = {
        .query = q.pairs, .query_count = q.count, .content_type = slice_of(type), .body = body};
    return request_parse_publish(&view, &config, out, problem);
}

/* The arguments of all publications: names and values, separated by |, publications by a line end.
 */
static char *publish_text(const char *type, const char *query, struct slice body)
{
    struct publication_request r = {0};
    struct problem problem = {0};
    struct buf b = {0};
    enum err e = publish(type, query, body, &r, &problem);
    ck_assert_msg(e == OK, "%s: %.*s", body.ptr, (int)problem.detail.len, problem.detail.ptr);
    ck_assert(r.count >= 1 && (r.batch || r.count == 1));
    for (size_t i = 0; i < r.count; i++) {
        struct publication_arguments arguments;
        publication_put_arguments(&r.items[i], &arguments);
        for (size_t j = 0; j < arguments.count; j++) {
            buf_puts(&b, j > 0 ? "|" : i > 0 ? "\n" : "");
            buf_put_slice(&b, arguments.items[j]);
        }
    }
    publication_request_reset(&r);
    return buf_take(&b, NULL);
}

static void expect_json(const char *body, const char *args)
{
    char *text = publish_text("application/json", "", slice_of(body));
    ck_assert_str_eq(text, args);
    free(text);
}

static void refuse(const char *type, const char *query, struct slice body, unsigned status,
                   const char *start, const char *part)
{
    struct publication_request r;
    struct problem problem = {0};
    enum err e = publish(type, query, body, &r, &problem);
    ck_assert_msg(e == ERR_INVALID, "%s was accepted", body.ptr ? body.ptr : "nothing");
    check_problem(&problem, status, start, part);
}

static void refuse_json(const char *body, const char *start, const char *part)
{
    refuse("application/json", "", slice_of(body), 400, start, part);
}

START_TEST(test_json_becomes_arguments_in_order)
{
    expect_json("{\"topic\":\"a\",\"data\":\"x\"}", "topic|a|data|x");
    expect_json(
        "{\"match\":{\"user_id\":\"42\",\"b\":\"\"},\"ttl\":5,\"key\":\"k\",\"priority\":"
        "\"batched\","
        "\"once\":\"o\",\"retry\":0,\"event\":\"e v\",\"data\":{\"a\": [1, \"b c\"]},"
        "\"topics\":[\"a\",\"b\",\"a\"]}",
        "topic|a|topic|b|data|{\"a\":[1,\"b c\"]}|event|e v|retry|0|once|o|priority|batched|key|k|"
        "ttl|5|match|{\"user_id\":\"42\",\"b\":\"\"}");
    expect_json("{\"topic\":\"a\",\"data\":\"\",\"ephemeral\":true,\"priority\":\"batched\"}",
                "topic|a|data||ephemeral|1|priority|batched");
    expect_json("{\"topic\":\"a\",\"data\":\"\",\"ephemeral\":false,\"once\":\"x\"}",
                "topic|a|data||once|x");
    expect_json(" [ {\"topic\":\"a\",\"data\":1} , {\"topic\":\"b\",\"data\":\"],[{\\\"\"} ] ",
                "topic|a|data|1\ntopic|b|data|],[{\"");
}
END_TEST

START_TEST(test_json_data_keeps_its_digits_and_drops_nul)
{
    static const char *const cases[][2] = {
        {"12345678901234567890", "12345678901234567890"},
        {"1.10", "1.10"},
        {"null", "null"},
        {"[ 1 , 2.50 ]", "[1,2.50]"},
        {"\"a\\u0000b\\nc\"", "ab\nc"},
        {"\"\\u00e4\\ud83d\\ude00\"", "ä😀"},
        {"\"plain\"", "plain"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char body[256], args[256];
        snprintf(body, sizeof(body), "{\"topic\":\"a\",\"data\":%s}", cases[i][0]);
        snprintf(args, sizeof(args), "topic|a|data|%s", cases[i][1]);
        expect_json(body, args);
        snprintf(body, sizeof(body),
                 "[{\"topic\":\"z\",\"data\":0},{\"d\\u0061ta\":%s,\"topic\":\"a\"}]", cases[i][0]);
        snprintf(args, sizeof(args), "topic|z|data|0\ntopic|a|data|%s", cases[i][1]);
        expect_json(body, args);
    }
}
END_TEST

static const struct {
    const char *body, *start, *part;
} bad_json[] = {
    {"", "body:", "empty"},
    {"{", "body:", "valid JSON"},
    {"{\"topic\":\"a\",\"data\":1} x", "body:", "valid JSON"},
    {"\"a\"", "body:", "an object, or an array"},
    {"[]", "body:", "at least one"},
    {"[1]", "[0]:", "an object"},
    {"[{\"topic\":\"a\",\"data\":1},{\"topic\":\"a\",\"data\":1},[]]", "[2]:", "an object"},
    {"[{\"topic\":\"a\",\"data\":1},{\"topic\":\"a b\",\"data\":1}]", "[1].topic:", "\"a b\""},
    {"[{\"topic\":\"a\",\"data\":1},{\"topic\":\"a\",\"date\":1}]", "[1].unknown field",
     "\"date\""},
    {"{\"topic\":\"a\"}", "data:", "needs data"},
    {"{\"data\":1}", "topic:", "at least one"},
    {"{\"topic\":\"a\",\"topics\":[\"a\"],\"data\":1}", "topics:", "not both"},
    {"{\"topic\":\"a\",\"topic\":\"b\",\"data\":1}", "topic:", "twice"},
    {"{\"topic\":[\"a\"],\"data\":1}", "topic:", "a string"},
    {"{\"topic\":\"a.*\",\"data\":1}", "topic:", "an exact topic"},
    {"{\"topic\":\"\",\"data\":1}", "topic:", "1 to 512"},
    {"{\"topic\":\"a\\u0000\",\"data\":1}", "topic:", "\\n"},
    {"{\"topics\":\"a\",\"data\":1}", "topics:", "an array"},
    {"{\"topics\":[],\"data\":1}", "topics:", "an array"},
    {"{\"topics\":[1],\"data\":1}", "topics:", "strings"},
    {"{\"topic\":\"a\",\"data\":1,\"Event\":\"x\"}", "unknown field", "\"Event\""},
    {"{\"topic\":\"a\",\"data\":1,\"id\":\"7\"}", "unknown field", "\"id\""},
    {"{\"topic\":\"a\",\"data\":1,\"event\":\"\"}", "event:", "1 to 256"},
    {"{\"topic\":\"a\",\"data\":1,\"event\":\"a\\nb\"}", "event:", "line breaks"},
    {"{\"topic\":\"a\",\"data\":1,\"event\":\"a\\rb\"}", "event:", "line breaks"},
    {"{\"topic\":\"a\",\"data\":1,\"event\":\"a\\u0000b\"}", "event:", "line breaks"},
    {"{\"topic\":\"a\",\"data\":1,\"event\":1}", "event:", "a string"},
    {"{\"topic\":\"a\",\"data\":1,\"retry\":-1}", "retry:", "0 to 86400000"},
    {"{\"topic\":\"a\",\"data\":1,\"retry\":86400001}", "retry:", "0 to 86400000"},
    {"{\"topic\":\"a\",\"data\":1,\"retry\":1.5}", "retry:", "0 to 86400000"},
    {"{\"topic\":\"a\",\"data\":1,\"retry\":1e300}", "retry:", "0 to 86400000"},
    {"{\"topic\":\"a\",\"data\":1,\"retry\":\"5\"}", "retry:", "0 to 86400000"},
    {"{\"topic\":\"a\",\"data\":1,\"ephemeral\":1}", "ephemeral:", "true or false"},
    {"{\"topic\":\"a\",\"data\":1,\"ephemeral\":true,\"once\":\"x\"}", "once:", "ephemeral"},
    {"{\"topic\":\"a\",\"data\":1,\"once\":\"\"}", "once:", "1 to 256"},
    {"{\"topic\":\"a\",\"data\":1,\"once\":\"a\\tb\"}", "once:", "control"},
    {"{\"topic\":\"a\",\"data\":1,\"once\":\"a\\u0000b\"}", "once:", "control"},
    {"{\"topic\":\"a\",\"data\":1,\"once\":5}", "once:", "a string"},
    {"{\"topic\":\"a\",\"data\":1,\"key\":\"\"}", "key:", "1 to 256"},
    {"{\"topic\":\"a\",\"data\":1,\"priority\":\"urgent\"}",
     "priority:", "instant, batched, coalesced"},
    {"{\"topic\":\"a\",\"data\":1,\"priority\":10}", "priority:", "a string"},
    {"{\"topic\":\"a\",\"data\":1,\"priority\":true}", "priority:", "a string"},
    {"{\"topic\":\"a\",\"data\":1,\"ttl\":0}", "ttl:", "at least 1"},
    {"{\"topic\":\"a\",\"data\":1,\"ttl\":null}", "ttl:", "at least 1"},
    {"{\"topic\":\"a\",\"data\":1,\"match\":{}}", "match:", "at least one member"},
    {"{\"topic\":\"a\",\"data\":1,\"match\":[]}", "match:", "an object"},
    {"{\"topic\":\"a\",\"data\":1,\"match\":{\"a\":1}}", "match:", "strings"},
    {"{\"topic\":\"a\",\"data\":1,\"match\":{\"a\":\"\\u0000\"}}", "match:", "strings"},
    {"{\"topic\":\"a\",\"data\":1,\"match\":{\"\":\"x\"}}", "match:", "strings"},
};

START_TEST(test_bad_json_names_field_and_reason)
{
    refuse_json(bad_json[_i].body, bad_json[_i].start, bad_json[_i].part);
}
END_TEST

START_TEST(test_limits_of_publishing_are_reached)
{
    struct buf b = {0};
    buf_puts(&b, "{\"topic\":\"a\",\"data\":\"");
    for (int i = 0; i < 1024; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\"}");
    free(publish_text("application/json", "", buf_slice(&b)));
    b.len -= 2;
    buf_puts(&b, "y\"}");
    refuse("application/json", "", buf_slice(&b), 413, "data:", "at most 1024");

    buf_clear(&b);
    buf_puts(&b, "{\"data\":1,\"topics\":[\"t0\"");
    for (int i = 1; i < 64; i++)
        buf_printf(&b, ",\"t%d\"", i);
    buf_puts(&b, ",\"t5\"]}"); /* a repeat does not count */
    free(publish_text("application/json", "", buf_slice(&b)));
    b.len -= 2;
    buf_puts(&b, ",\"t64\"]}");
    refuse("application/json", "", buf_slice(&b), 400, "topics:", "at most 64");

    buf_clear(&b);
    for (int i = 0; i < 10000; i++)
        buf_puts(&b, i > 0 ? ",{\"topic\":\"a\",\"data\":1}" : "[{\"topic\":\"a\",\"data\":1}");
    buf_putc(&b, ']');
    free(publish_text("application/json", "", buf_slice(&b)));
    b.len--;
    buf_puts(&b, ",{\"topic\":\"a\",\"data\":1}]");
    refuse("application/json", "", buf_slice(&b), 400, "body:", "at most 10000");

    buf_clear(&b);
    buf_puts(&b, "{\"topic\":\"a\",\"data\":1,\"match\":{\"a\":\"");
    for (int i = 0; i < 5000; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\"}}");
    refuse("application/json", "", buf_slice(&b), 400, "match:", "at most 4096");
    buf_reset(&b);
}
END_TEST

static void put_nested(struct buf *b, size_t depth)
{
    buf_puts(b, "{\"topic\":\"a\",\"data\":");
    for (size_t i = 1; i < depth; i++)
        buf_putc(b, '[');
    for (size_t i = 1; i < depth; i++)
        buf_putc(b, ']');
    buf_putc(b, '}');
}

START_TEST(test_json_is_nested_within_bounds)
{
    struct buf b = {0};
    put_nested(&b, JSON_DEPTH_MAX);
    refuse("application/json", "", buf_slice(&b), 413,
           "data:", "1998 bytes"); /* not for its depth */
    buf_clear(&b);
    put_nested(&b, JSON_DEPTH_MAX + 1);
    refuse("application/json", "", buf_slice(&b), 400, "body:", "nested at most 1000 deep");
    buf_clear(&b);
    buf_putc(&b, '['); /* of a batch: it counts, too */
    put_nested(&b, JSON_DEPTH_MAX);
    buf_putc(&b, ']');
    refuse("application/json", "", buf_slice(&b), 400, "body:", "nested at most 1000 deep");
    buf_reset(&b);
}
END_TEST

START_TEST(test_lengths_of_names_are_limited)
{
    static const char *const fields[] = {"event", "once", "key"};
    char body[512], value[258];
    for (size_t i = 0; i < 3; i++) {
        memset(value, 'x', 256);
        value[256] = '\0';
        snprintf(body, sizeof(body), "{\"topic\":\"a\",\"data\":1,\"%s\":\"%s\"}", fields[i],
                 value);
        free(publish_text("application/json", "", slice_of(body)));
        memcpy(value + 256, "x", 2);
        snprintf(body, sizeof(body), "{\"topic\":\"a\",\"data\":1,\"%s\":\"%s\"}", fields[i],
                 value);
        refuse_json(body, fields[i], "1 to 256");
    }
}
END_TEST

START_TEST(test_broken_utf8_in_json_is_refused)
{
    refuse_json("{\"topic\":\"a\",\"data\":\"\xff\"}", "body:", "UTF-8");
}
END_TEST

START_TEST(test_half_of_a_surrogate_pair_is_data_and_no_name)
{
    char *text = publish_text("application/json", "",
                              slice_of("{\"topic\":\"a\",\"data\":{\"delta\":\"\\ud83d\"}}"));
    ck_assert_str_eq(text, "topic|a|data|{\"delta\":\"\\ud83d\"}");
    free(text);
    refuse_json("{\"topic\":\"\\ud83d\",\"data\":1}", "topic:", "UTF-8");
    refuse_json("{\"topic\":\"a\",\"data\":1,\"once\":\"\\ud83d\"}", "once:", "control");
}
END_TEST

START_TEST(test_content_type_decides)
{
    static const char *const json[] = {"application/json", "Application/JSON;charset=UTF-8",
                                       "application/json ; x=y; charset=\"utf-8\""};
    for (size_t i = 0; i < 3; i++) {
        char *text = publish_text(json[i], "ns=n", slice_of("{\"topic\":\"a\",\"data\":1}"));
        ck_assert_str_eq(text, "topic|a|data|1");
        free(text);
    }
    static const char *const raw[] = {NULL, "", "text/plain", "application/jsonx", ";"};
    for (size_t i = 0; i < 5; i++) {
        char *text = publish_text(raw[i], "topic=a", slice_of("{\"topic\":\"a\"}"));
        ck_assert_str_eq(text, "topic|a|data|{\"topic\":\"a\"}");
        free(text);
    }
    refuse("application/json; charset=latin1", "", slice_of("{}"), 415, "Content-Type:", "utf-8");
    refuse("text/plain; charset=utf-16", "topic=a", slice_of("x"), 415, "Content-Type:", "utf-8");
    refuse("multipart/form-data; boundary=B", "topic=a", slice_of("x"), 415,
           "Content-Type:", "multipart/form-data");
}
END_TEST

START_TEST(test_raw_body_is_the_data)
{
    char *text =
        publish_text("text/plain",
                     "topic=a&ns=x&topic=b&event=e&retry=5&ephemeral=1&priority=batched&key=k&"
                     "ttl=9&match={ \"a\" : \"b\" }",
                     SLICE_LIT("line\r\n\0two&x=%41"));
    ck_assert_str_eq(text, "topic|a|topic|b|data|line\r\ntwo&x=%41|event|e|retry|5|ephemeral|1|"
                           "priority|batched|key|k|ttl|9|match|{\"a\":\"b\"}");
    free(text);
    text = publish_text("text/plain", "topic=a&ephemeral=false&once=o", SLICE_NONE);
    ck_assert_str_eq(text, "topic|a|data||once|o");
    free(text);
    refuse("text/plain", "topic=a", slice_of("\xff"), 400, "data:", "UTF-8");
    refuse("text/plain", "", slice_of("x"), 400, "topic:", "at least one");
    refuse("text/plain", "topic=a&evnt=x", slice_of("x"), 400, "unknown field", "\"evnt\"");
    refuse("text/plain", "topic=a&data=x", slice_of("x"), 400, "data:", "in the body");
    refuse("text/plain", "topic=a&retry=x", slice_of("x"), 400, "retry:", "\"x\"");
    refuse("text/plain", "topic=a&retry=1&retry=1", slice_of("x"), 400, "retry:", "twice");
    refuse("text/plain", "topic=a&match=x", slice_of("x"), 400, "match:", "JSON");
    refuse("text/plain", "topic=a&ephemeral=yes", slice_of("x"), 400, "ephemeral:", "\"yes\"");
    refuse("text/plain", "topic=a&ns=b.c", slice_of("x"), 400, "ns:", "\"b.c\"");
}
END_TEST

#define FORM "application/x-www-form-urlencoded"

START_TEST(test_forms_are_decoded)
{
    char *text =
        publish_text(FORM "; charset=utf-8", "ns=x",
                     slice_of("&topic=a%2eb&data=x+y%0A%c3%a4%00%26&&topic=c&event=e%20v&"));
    ck_assert_str_eq(text, "topic|a.b|topic|c|data|x y\nä&|event|e v");
    free(text);
    text = publish_text(FORM, "", slice_of("topics=a&topics=b&data"));
    ck_assert_str_eq(text, "topic|a|topic|b|data|");
    free(text);
    refuse(FORM, "", slice_of("topic=a&data=%4"), 400, "body:", "after %");
    refuse(FORM, "", slice_of("topic=a&data=%"), 400, "body:", "after %");
    refuse(FORM, "", slice_of("topic=a&data=%zz"), 400, "body:", "after %");
    refuse(FORM, "", slice_of("topic=a&data=%ff"), 400, "data:", "UTF-8");
    refuse(FORM, "", slice_of("topic=a&data=1&data=2"), 400, "data:", "twice");
    refuse(FORM, "", slice_of("topic=a&topics=b&data=1"), 400, "topics:", "not both");
    refuse(FORM, "", slice_of("hello"), 400, "unknown field", "\"hello\"");
    refuse(FORM, "topic=a", slice_of("hello"), 400, "unknown field", "Content-Type: text/plain");
    refuse(FORM, "", slice_of("topic=a&data=1&event=a%0db"), 400, "event:", "line breaks");
    refuse(FORM, "", slice_of("topic=a&data=1&event=a%00b"), 400, "event:", "line breaks");
    refuse(FORM, "", SLICE_NONE, 400, "topic:", "at least one");
}
END_TEST

/* A misspelt option must not be lost silently, nor one that stands where nobody looks. */
START_TEST(test_json_and_forms_leave_the_query_to_the_namespace)
{
    struct slice json = slice_of("{\"topic\":\"a\",\"data\":1}"), form = slice_of("topic=a&data=1");
    static const char *const fields[] = {"ephemeral", "event", "topic", "data", "once"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        char query[64], name[64];
        snprintf(query, sizeof(query), "ns=n&%s=true", fields[i]);
        snprintf(name, sizeof(name), "%s:", fields[i]);
        refuse("application/json", query, json, 400, name, "not in the query");
        refuse(FORM, query, form, 400, name, "not in the query");
    }
    refuse("application/json", "bogus=1", json, 400, "unknown parameter in the query", "\"bogus\"");
    refuse("application/json", "bogus", json, 400, "unknown parameter in the query", "\"bogus\"");
    refuse(FORM, "bogus=1", form, 400, "unknown parameter in the query", "\"bogus\"");
    refuse(FORM, "topic=a", SLICE_NONE, 400, "topic:", "Content-Type: text/plain");
}
END_TEST

START_TEST(test_namespace_comes_from_the_query)
{
    struct publication_request r;
    struct problem problem = {0};
    ck_assert_int_eq(publish("application/json", "ns=tenant",
                             slice_of("[{\"topic\":\"a\",\"data\":1}]"), &r, &problem),
                     OK);
    ck_assert_str_eq(r.ns, "tenant");
    ck_assert(r.batch);
    publication_request_reset(&r);
    ck_assert_int_eq(publish(NULL, "topic=a", SLICE_NONE, &r, &problem), OK);
    ck_assert_str_eq(r.ns, "default");
    ck_assert(!r.batch);
    publication_request_reset(&r);
}
END_TEST

START_TEST(test_problem_is_json)
{
    struct buf b = {0};
    cJSON *tree = NULL;
    request_put_problem(&b, 400, SLICE_LIT("a \"b\" \xff\n"));
    ck_assert_int_eq(json_parse(buf_slice(&b), &tree), OK);
    ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "title")->valuestring, "Bad Request");
    ck_assert_int_eq(cJSON_GetObjectItemCaseSensitive(tree, "status")->valueint, 400);
    ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "detail")->valuestring,
                     "a \"b\" \xEF\xBF\xBD\n");
    cJSON_Delete(tree);
    buf_clear(&b);
    request_put_problem(&b, 599, SLICE_LIT(""));
    buf_putc(&b, '\0');
    ck_assert_str_eq(b.ptr, "{\"title\":\"Error\",\"status\":599,\"detail\":\"\"}");
    buf_reset(&b);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("request");
    tcase_add_test(cases, test_topics_are_kept_in_order_without_repeats);
    tcase_add_test(cases, test_bad_topics_are_refused);
    tcase_add_test(cases, test_types_filter);
    tcase_add_test(cases, test_a_nul_in_a_value_is_seen);
    tcase_add_loop_test(cases, test_where_a_stream_starts, 0,
                        (int)(sizeof(cursors) / sizeof(*cursors)));
    tcase_add_test(cases, test_bad_replay_and_since_are_refused);
    tcase_add_test(cases, test_what_a_stream_begins_with_is_said_clearly);
    tcase_add_test(cases, test_whether_204_is_understood);
    tcase_add_test(cases, test_a_heartbeat_of_its_own_is_within_what_is_configured);
    tcase_add_test(cases, test_a_heartbeat_of_its_own_where_the_relay_sends_none);
    tcase_add_test(cases, test_long_values_are_shown_cut);
    tcase_add_test(cases, test_json_becomes_arguments_in_order);
    tcase_add_test(cases, test_json_data_keeps_its_digits_and_drops_nul);
    tcase_add_loop_test(cases, test_bad_json_names_field_and_reason, 0,
                        (int)(sizeof(bad_json) / sizeof(*bad_json)));
    tcase_add_test(cases, test_limits_of_publishing_are_reached);
    tcase_add_test(cases, test_lengths_of_names_are_limited);
    tcase_add_test(cases, test_broken_utf8_in_json_is_refused);
    tcase_add_test(cases, test_half_of_a_surrogate_pair_is_data_and_no_name);
    tcase_add_test(cases, test_content_type_decides);
    tcase_add_test(cases, test_raw_body_is_the_data);
    tcase_add_test(cases, test_forms_are_decoded);
    tcase_add_test(cases, test_json_and_forms_leave_the_query_to_the_namespace);
    tcase_add_test(cases, test_json_is_nested_within_bounds);
    tcase_add_test(cases, test_namespace_comes_from_the_query);
    tcase_add_test(cases, test_problem_is_json);
    return tests_run(cases);
}
