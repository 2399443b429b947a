/* SPDX-License-Identifier: Apache-2.0 */
/* What a pipe asks for by its query and its type, and what each of its events has of it. */
#include <check.h>
#include <string.h>

#include "relay/http/request.h"
#include "test/unit/tests_run.h"

static const struct config config = {.max_event_bytes = 16,
                                     .log_max_events_limit = 5000,
                                     .index_ttl_ms = 60000,
                                     .control_prefix = (char *)(uintptr_t)"own."};

static struct request_pair pairs[8];
static struct request_view view;
static struct request_pipe pipe_request;
static struct problem problem;

static void setup(void)
{
    view = (struct request_view){.query = pairs};
    problem = (struct problem){0};
    pipe_request = (struct request_pipe){0};
}

static void teardown(void)
{
    buf_reset(&problem.detail);
    request_pipe_reset(&pipe_request);
}

static void ask(const char *name, const char *value)
{
    pairs[view.query_count++] = (struct request_pair){slice_of(name), slice_of(value)};
}

static void take(const char *topic)
{
    request_pipe_reset(&pipe_request);
    enum err e = request_parse_pipe(&view, &config, slice_of(topic), &pipe_request, &problem);
    ck_assert_msg(e == OK, "%.*s", (int)problem.detail.len, problem.detail.ptr);
}

static void expect_refused(const char *topic, unsigned status, const char *detail)
{
    ck_assert_int_eq(request_parse_pipe(&view, &config, slice_of(topic), &pipe_request, &problem),
                     ERR_INVALID);
    ck_assert_uint_eq(problem.status, status);
    ck_assert_msg(slice_has_prefix(buf_slice(&problem.detail), slice_of(detail)), "%.*s is not %s",
                  (int)problem.detail.len, problem.detail.ptr, detail);
    view.query_count = 0;
}

START_TEST(test_defaults)
{
    take("a%2Fb");
    ck_assert_str_eq(pipe_request.ns, "default");
    ck_assert_str_eq(pipe_request.event.topics.items[0], "a/b");
    ck_assert(pipe_request.ends);
    ck_assert_int_eq(pipe_request.kind, CUTTER_CHUNKS);
}
END_TEST

START_TEST(test_the_type_says_what_an_event_is)
{
    static const struct {
        const char *type;
        enum cutter_kind kind;
    } types[] = {{"text/event-stream", CUTTER_SSE},
                 {"Text/Event-Stream; charset=UTF-8", CUTTER_SSE},
                 {"application/x-ndjson", CUTTER_LINES},
                 {"application/x-ndjson;charset=\"utf-8\"", CUTTER_LINES},
                 {"application/json", CUTTER_CHUNKS},
                 {"text/plain", CUTTER_CHUNKS}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        view.content_type = slice_of(types[i].type);
        take("t");
        ck_assert_int_eq(pipe_request.kind, types[i].kind);
    }
    view.content_type = SLICE_LIT("text/event-stream; charset=latin1");
    expect_refused("t", 415, "Content-Type: ");
    view.content_type = SLICE_LIT("multipart/form-data; boundary=b");
    expect_refused("t", 415, "Content-Type: ");
}
END_TEST

START_TEST(test_the_end_is_asked_for_unless_it_is_not)
{
    static const char *const yes[] = {"1", "true"}, *const no[] = {"0", "false"};
    for (int i = 0; i < 2; i++) {
        view.query_count = 0;
        ask("end", yes[i]);
        take("t");
        ck_assert(pipe_request.ends && !pipe_request.event.ends);
        view.query_count = 0;
        ask("end", no[i]);
        take("t");
        ck_assert(!pipe_request.ends);
    }
    view.query_count = 0;
    ask("end", "");
    expect_refused("t", 400, "end: expected true or false");
    ask("end", "1");
    ask("end", "0");
    expect_refused("t", 400, "end: expected it once");
}
END_TEST

START_TEST(test_what_no_pipe_takes)
{
    static const char *const names[] = {"topic", "data",      "once", "retry",        "ttl",
                                        "match", "ephemeral", "x",    "access_token", "ticket"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ask(names[i], "1");
        expect_refused("t", 400, "unknown parameter in the query: ");
    }
    expect_refused("a.*", 400, "topic: expected an exact topic");
    expect_refused("a%2", 400, "topic: expected two hexadecimal digits");
    ask("event", "relay.end");
    expect_refused("t", 400, "event: expected");
    ask("event", "own.x");
    expect_refused("t", 400, "event: expected");
    ask("log_max", "5001");
    expect_refused("t", 400, "log_max: expected at most 5000");
    ask("log_ttl", "60001");
    expect_refused("t", 400, "log_ttl: expected at most 60000");
    ask("end_after", "86400001");
    expect_refused("t", 400, "end_after: expected");
    ask("priority", "low");
    expect_refused("t", 400, "priority: expected");
}
END_TEST

static enum err cut(const char *type, const char *data, struct publication *out)
{
    const struct cut c = {slice_of(data), type ? slice_of(type) : SLICE_NONE};
    return request_pipe_item(&pipe_request, &config, &c, out, &problem);
}

START_TEST(test_each_event_has_what_the_query_says)
{
    struct publication p;
    ask("event", "delta");
    ask("priority", "appended");
    ask("key", "k");
    ask("log_max", "5000");
    ask("log_ttl", "60000");
    ask("end_after", "1000");
    ask("ns", "shop");
    take("t");
    ck_assert_str_eq(pipe_request.ns, "shop");
    for (int own = 0; own < 2; own++) {
        ck_assert_int_eq(cut(own ? "own" : NULL, "x", &p), OK);
        ck_assert(slice_is(p.event, own ? "own" : "delta") && slice_is(p.data, "x"));
        ck_assert(slice_is(p.key, "k") && p.lane == LANE_APPENDED && !p.ends);
        ck_assert(p.log_max == 5000 && p.log_ttl_ms == 60000 && p.end_after_ms == 1000);
        ck_assert(p.topics.count == 1 && strcmp(p.topics.items[0], "t") == 0);
        publication_reset(&p);
    }
}
END_TEST

START_TEST(test_an_event_that_no_publish_would_take)
{
    struct publication p;
    take("t");
    ck_assert_int_eq(cut(NULL, "0123456789abcdef", &p), OK);
    publication_reset(&p);
    ck_assert_int_eq(cut(NULL, "0123456789abcdef0", &p), ERR_INVALID);
    ck_assert_uint_eq(problem.status, 413);
    ck_assert_int_eq(cut(NULL, "\xFF", &p), ERR_INVALID);
    ck_assert_uint_eq(problem.status, 400);
    ck_assert_int_eq(cut("own.x", "a", &p), ERR_INVALID);
    ck_assert_int_eq(cut("relay.x", "a", &p), ERR_INVALID);
    ck_assert_int_eq(cut("\xFF", "a", &p), ERR_INVALID);
    ck_assert_uint_eq(problem.status, 400);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("request_pipe");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_defaults);
    tcase_add_test(tests, test_the_type_says_what_an_event_is);
    tcase_add_test(tests, test_the_end_is_asked_for_unless_it_is_not);
    tcase_add_test(tests, test_what_no_pipe_takes);
    tcase_add_test(tests, test_each_event_has_what_the_query_says);
    tcase_add_test(tests, test_an_event_that_no_publish_would_take);
    return tests_run(tests);
}
