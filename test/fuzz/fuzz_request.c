/* SPDX-License-Identifier: Apache-2.0 */
/* Requests from strangers. The first byte picks what to parse, the rest is the query (up to the
 * first line end) and the body, headers, or path. Checked: no crash, a refusal always says
 * something in UTF-8, and what is accepted keeps its promises. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/event.h"
#include "common/json.h"
#include "common/names.h"
#include "relay/core/publication_arguments.h"
#include "relay/http/request.h"

#define PAIRS_MAX 256
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static char block[] = "block", drop_oldest[] = "drop-oldest";
static char *policies[] = {block, drop_oldest};

static const struct config config = {.max_topics = 4,
                                     .replay_max_events = 100,
                                     .max_event_bytes = 512,
                                     .heartbeat_ms = 15000,
                                     .heartbeat_min_ms = 1000,
                                     .queue_max_events = 256,
                                     .flush_ms = 2000,
                                     .flush_min_ms = 20,
                                     .flush_max_ms = 60000,
                                     .slow_allowed = {policies, 2},
                                     .snapshot_max = 2,
                                     .log_max_events_limit = 1000,
                                     .index_ttl_ms = 100000};

static size_t split_query(struct slice query, struct request_pair pairs[static PAIRS_MAX])
{
    size_t count = 0;
    const char *end = query.ptr + query.len;
    for (const char *p = query.ptr; p < end && count < PAIRS_MAX;) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        const char *equals = memchr(p, '=', (size_t)(stop - p));
        pairs[count].name = (struct slice){p, (size_t)((equals ? equals : stop) - p)};
        pairs[count].value = SLICE_NONE;
        if (equals)
            pairs[count].value = (struct slice){equals + 1, (size_t)(stop - equals - 1)};
        count++;
        p = stop + 1;
    }
    return count;
}

static void check_problem(struct problem *problem)
{
    struct buf body = {0};
    cJSON *tree = NULL;
    CHECK(problem->status == 400 || problem->status == 413 || problem->status == 415);
    CHECK(problem->detail.len > 0 && slice_utf8_valid(buf_slice(&problem->detail)));
    request_put_problem(&body, problem->status, buf_slice(&problem->detail));
    CHECK(json_parse(buf_slice(&body), &tree) == OK);
    cJSON_Delete(tree);
    buf_reset(&body);
}

static void check_stream(const struct request_view *view)
{
    struct subscription_request r;
    struct problem problem = {0};
    if (request_parse_stream(view, &config, UINT64_C(1700000000000000), &r, &problem) != OK) {
        check_problem(&problem);
        buf_reset(&problem.detail);
        return;
    }
    CHECK(name_ns_valid(slice_of(r.ns)));
    CHECK(r.topics.count >= 1 && r.topics.count <= config.max_topics && r.types.count <= 64);
    for (size_t i = 0; i < r.topics.count; i++)
        CHECK(name_pattern_valid(slice_of(r.topics.items[i])));
    for (size_t i = 0; i < r.types.count; i++)
        CHECK(r.types.items[i][0] && !strpbrk(r.types.items[i], "\r\n"));
    CHECK(r.cursor != CURSOR_ID || r.cursor_value <= EVENT_ID_MAX);
    CHECK(r.cursor != CURSOR_LAST || (r.cursor_value >= 1 && r.cursor_value <= 100));
    CHECK(!r.flow.has_slow || r.flow.slow == SLOW_BLOCK || r.flow.slow == SLOW_DROP_OLDEST);
    CHECK(!r.flow.buffer || r.flow.buffer <= config.queue_max_events);
    CHECK(!r.flow.flush_ms || (r.flow.flush_ms >= 20 && r.flow.flush_ms <= 60000));
    subscription_request_reset(&r);
}

static void check_publication(const struct publication *p)
{
    struct publication_arguments a;
    size_t data = 0;
    publication_put_arguments(p, &a);
    CHECK(a.count >= 4 && a.count % 2 == 0 && slice_is(a.items[0], "topic"));
    for (size_t i = 0; i < a.count; i += 2) {
        struct slice name = a.items[i], value = a.items[i + 1];
        CHECK(slice_utf8_valid(value));
        if (slice_is(name, "topic"))
            CHECK(name_topic_valid(value) && data == 0);
        else if (slice_is(name, "data"))
            CHECK(value.len <= config.max_event_bytes && ++data == 1);
        else
            CHECK(value.len > 0 && data == 1 && !memchr(value.ptr, '\r', value.len) &&
                  !memchr(value.ptr, '\n', value.len));
    }
    CHECK(data == 1);
}

static void check_publish(const struct request_view *view)
{
    struct publication_request r;
    struct problem problem = {0};
    if (request_parse_publish(view, &config, &r, &problem) != OK) {
        check_problem(&problem);
        buf_reset(&problem.detail);
        return;
    }
    CHECK(name_ns_valid(slice_of(r.ns)) && r.count >= 1 && (r.batch || r.count == 1));
    for (size_t i = 0; i < r.count; i++)
        check_publication(&r.items[i]);
    publication_request_reset(&r);
}

static void check_end(const struct request_view *view, struct slice path)
{
    struct publication_request r;
    struct problem problem = {0};
    if (request_parse_end(view, path, &r, &problem) != OK) {
        check_problem(&problem);
        buf_reset(&problem.detail);
        return;
    }
    CHECK(name_ns_valid(slice_of(r.ns)) && r.count == 1 && r.items[0].topics.count == 1);
    CHECK(name_topic_valid(slice_of(r.items[0].topics.items[0])));
    publication_request_reset(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const types[] = {"application/json", "application/x-www-form-urlencoded",
                                        "text/plain; charset=utf-8", NULL};
    struct request_pair pairs[PAIRS_MAX];
    if (len < 1)
        return 0;
    struct slice rest = {(const char *)bytes + 1, len - 1};
    const char *line_end = memchr(rest.ptr, '\n', rest.len);
    struct slice query = {rest.ptr, line_end ? (size_t)(line_end - rest.ptr) : rest.len};
    struct slice body = {rest.ptr + query.len, rest.len - query.len};
    if (line_end)
        body = (struct slice){line_end + 1, body.len - 1};
    struct request_view view = {.query = pairs,
                                .query_count = split_query(query, pairs),
                                .content_type = slice_of(types[bytes[0] % 4]),
                                .body = body};
    if (bytes[0] & 8)
        view.content_type = query;
    if (bytes[0] & 32)
        (void)request_accepts_gzip(body);
    if (bytes[0] & 4) {
        view.last_event_id = bytes[0] & 16 ? body : SLICE_NONE;
        view.slow = bytes[0] & 64 ? body : SLICE_NONE;
        view.buffer = bytes[0] & 128 ? body : SLICE_NONE;
        check_stream(&view);
    } else if (bytes[0] & 64) {
        check_end(&view, body);
    } else {
        check_publish(&view);
    }
    return 0;
}
