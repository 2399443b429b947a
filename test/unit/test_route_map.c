/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/route_map.h"
#include "common/names.h"
#include "test/unit/auth_rig.h"
#include "test/unit/tests_run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUTES                                                                                     \
    "[{'path': '/projects/{id}/events', 'topics': ['project.{id}', 'all']},"                       \
    " {'path': '/{table}/_events', 'topics': ['entity.{table}.*']},"                               \
    " {'path': '/a/{x}/{y}', 'topics': ['{y}.{x}']},"                                              \
    " {'path': '/api/events', 'topics': ['item.*', 'server.state'], 'grants': true,"               \
    "  'require': {'/roles': ['viewer', 'admin']}, 'heartbeat_event': 'heartbeat'},"               \
    " {'path': '/p/{id}/e', 'topics': ['p.{id}'], 'grants': true,"                                 \
    "  'require': {'/projects': '{id}', '/level': [3, true]}},"                                    \
    " {'path': '/open', 'topics': ['status'], 'grants': true, 'public': true},"                    \
    " {'path': '/caf%C3%A9/~a', 'topics': ['c']}]"

static struct route_map *map;
static struct buf why;
static struct route_hit hit;

static struct route_map *make(const char *routes, struct buf *warnings)
{
    struct route_map *made = NULL;
    cJSON *tree = rig_json(routes);
    enum err e = route_map_new(tree, &made, &why, warnings);
    cJSON_Delete(tree);
    ck_assert_int_eq(e != OK, made == NULL);
    return made;
}

static void setup(void)
{
    map = make(ROUTES, NULL);
    ck_assert_ptr_nonnull(map);
}

static void teardown(void)
{
    route_map_free(map);
    buf_reset(&why);
}

static enum route_find find(const char *path)
{
    route_hit_reset(&hit);
    buf_clear(&why);
    return route_map_find(map, slice_of(path), &hit, &why);
}

static void expect_found(const char *path, const char *topics)
{
    ck_assert_msg(find(path) == ROUTE_FOUND, "%s", path);
    rig_expect(&hit.topics, topics);
    ck_assert_uint_eq(why.len, 0);
    route_hit_reset(&hit);
}

static void expect_invalid(const char *path)
{
    ck_assert_msg(find(path) == ROUTE_INVALID, "%s", path);
    ck_assert_uint_eq(hit.topics.count + hit.captures.count, 0);
    ck_assert_uint_gt(why.len, 0);
}

static void expect_none(const char *path)
{
    ck_assert_msg(find(path) == ROUTE_NONE, "%s", path);
    ck_assert_uint_eq(hit.topics.count + hit.captures.count + why.len, 0);
}

/* --- paths ------------------------------------------------------------------------------------ */

START_TEST(test_paths_become_topics)
{
    expect_found("/projects/7/events", "project.7 all");
    expect_found("/users/_events", "entity.users.*");
    expect_found("/a/1/2", "2.1");
    expect_found("/api/events", "item.* server.state");
    /* What is unreserved may be encoded. */
    expect_found("/%61pi/%65v%65nts", "item.* server.state");
    expect_found("/projects/%61b/events", "project.ab all");
    expect_found("/caf%c3%a9/%7Ea", "c");
    expect_found("/projects/caf%C3%A9/events", "project.caf\xC3\xA9 all");
}
END_TEST

START_TEST(test_other_paths_are_none)
{
    static const char *const others[] = {
        "",
        "/",
        "/projects",
        "/projects/7",
        "/projects/7/events/",
        "/Projects/7/events",
        "//projects/7/events",
        "/projects/7/8/events",
        "api/events",
        "/api/events;x",
        "/api/events%00",
        "/api%2Fevents",
        "/api/event",
        "/api/%65vents%zz",
        "/api/./events",
        "/api/events/..",
        "/a/1/2/3",
        "http://h/api/events",
        "*",
        "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18",
        "/caf\xC3\xA9",
        "/cafe/~a",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_none(others[i]);
}
END_TEST

/* Attack 20. */
START_TEST(test_captures_are_one_token)
{
    static const char *const smuggled[] = {
        "a%2Fb", "a%2fb",     "a%2e%2e", "..",  ".",   "%2A", "*",     "%3E", ">",
        "%00",   "a%00b",     "a.b",     "",    "%zz", "%",   "%2",    "a%",  "%C0%AE",
        "%FF",   "%ED%A0%80", "a%20b",   "a b", "%0A", "%7F", "a%2Eb",
    };
    for (size_t i = 0; i < sizeof smuggled / sizeof *smuggled; i++) {
        char path[64];
        snprintf(path, sizeof path, "/projects/%s/events", smuggled[i]);
        expect_invalid(path);
        rig_expect_parts(buf_slice(&why), "{id}|/projects/{id}/events");
    }
    expect_invalid("//_events");
    expect_invalid("/a/1/%2A");
    expect_invalid("/a/>/1");
    /* Decoded once: the token %2A, which is no wildcard. */
    expect_found("/projects/%252A/events", "project.%2A all");
    expect_found("/projects/%252e/events", "project.%2e all");
    expect_found("/projects/{id}/events", "project.{id} all");
}
END_TEST

START_TEST(test_captures_have_the_length_of_topics)
{
    struct buf path = {0};
    buf_puts(&path, "/projects/");
    for (size_t i = 0; i < NAME_TOPIC_MAX - 8; i++)
        buf_putc(&path, 'x');
    buf_puts(&path, "/events");
    ck_assert_int_eq(route_map_find(map, buf_slice(&path), &hit, &why), ROUTE_FOUND);
    ck_assert_uint_eq(strlen(hit.topics.items[0]), NAME_TOPIC_MAX);
    route_hit_reset(&hit);
    path.len -= strlen("/events");
    buf_puts(&path, "x/events");
    ck_assert_int_eq(route_map_find(map, buf_slice(&path), &hit, &why), ROUTE_INVALID);
    rig_expect_parts(buf_slice(&why), "longer than 512 bytes");
    buf_reset(&path);
}
END_TEST

/* --- who may ---------------------------------------------------------------------------------- */

static struct grant *grant_with(const char *pointer, const char *values, const char *pointer2,
                                const char *value2)
{
    struct grant_fields fields = {0};
    struct slice rest = slice_of(values);
    while (rest.len)
        grant_claims_add(&fields.roles, &fields.role_count, slice_of(pointer),
                         slice_cut(&rest, ' '));
    if (pointer2)
        grant_claims_add(&fields.roles, &fields.role_count, slice_of(pointer2), slice_of(value2));
    return grant_new(&fields);
}

static void expect_allowed(const char *path, struct grant *grant, bool allowed)
{
    ck_assert_int_eq(find(path), ROUTE_FOUND);
    ck_assert_msg(route_hit_allows(&hit, grant) == allowed, "%s", path);
    route_hit_reset(&hit);
    grant_unref(grant);
}

START_TEST(test_require)
{
    expect_allowed("/api/events", grant_with("/roles", "x viewer", NULL, NULL), true);
    expect_allowed("/api/events", grant_with("/roles", "admin", NULL, NULL), true);
    expect_allowed("/api/events", grant_with("/roles", "viewerX", NULL, NULL), false);
    expect_allowed("/api/events", grant_with("/role", "viewer", NULL, NULL), false);
    expect_allowed("/api/events", grant_with("/roles", "", NULL, NULL), false);
    expect_allowed("/api/events", NULL, false);
    expect_allowed("/projects/7/events", NULL, true);
    expect_allowed("/projects/7/events", grant_with("/roles", "", NULL, NULL), true);
}
END_TEST

START_TEST(test_require_what_was_captured)
{
    expect_allowed("/p/7/e", grant_with("/projects", "6 7", "/level", "3"), true);
    expect_allowed("/p/7/e", grant_with("/projects", "6 7", "/level", "true"), true);
    expect_allowed("/p/8/e", grant_with("/projects", "6 7", "/level", "3"), false);
    expect_allowed("/p/7/e", grant_with("/projects", "6 7", "/level", "4"), false);
    expect_allowed("/p/7/e", grant_with("/projects", "6 7", NULL, NULL), false);
    expect_allowed("/p/{id}/e", grant_with("/projects", "{id}", "/level", "3"), true);
    expect_allowed("/p/%252A/e", grant_with("/projects", "*", "/level", "3"), false);
    rig_expect(route_map_pointers(map), "/roles /projects /level");
}
END_TEST

START_TEST(test_what_a_hit_says)
{
    ck_assert_int_eq(find("/api/events"), ROUTE_FOUND);
    ck_assert(hit.grants && !hit.is_public);
    ck_assert_str_eq(hit.heartbeat_event, "heartbeat");
    ck_assert_int_eq(find("/open"), ROUTE_FOUND);
    ck_assert(hit.grants && hit.is_public);
    ck_assert_ptr_null(hit.heartbeat_event);
    ck_assert_int_eq(find("/a/1/2"), ROUTE_FOUND);
    ck_assert(!hit.grants && !hit.is_public);
    rig_expect(&hit.captures, "1 2");
    route_hit_reset(&hit);
    ck_assert(route_map_has_public(map));
}
END_TEST

START_TEST(test_explain)
{
    struct buf out = {0};
    struct grant_fields fields = {0};
    strings_add(&fields.subscribe, SLICE_LIT("project.*"));
    strings_add(&fields.subscribe, SLICE_LIT("all"));
    strings_add(&fields.subscribe, SLICE_LIT("entity.users.*"));
    grant_claims_add(&fields.roles, &fields.role_count, SLICE_LIT("/level"), SLICE_LIT("3"));
    struct grant *grant = grant_new(&fields);
    route_map_explain(map, grant, &out);
    rig_expect_parts(buf_slice(&out),
                     "/projects/{id}/events  (open)|/{table}/_events  (open where entity.{table}.* "
                     "is granted)|/api/events  (closed: /roles has none of what it requires)|"
                     "/p/{id}/e  (open, where /projects has {id})|/open  (open to everybody)|"
                     "/caf%C3%A9/~a  (closed: c is not granted)");
    grant_unref(grant);
    buf_reset(&out);
}
END_TEST

/* --- what is refused -------------------------------------------------------------------------- */

static void expect_refused(const char *routes, const char *parts)
{
    buf_clear(&why);
    struct route_map *made = make(routes, NULL);
    ck_assert_msg(made == NULL, "%s", routes);
    rig_expect_parts(buf_slice(&why), parts);
}

START_TEST(test_refuses)
{
    expect_refused("{}", "routes: expected a list");
    expect_refused("[5]", "routes[0]: expected an object");
    expect_refused("[{'topics': ['a']}]", "routes[0].path: expected a path");
    expect_refused("[{'path': '/x'}]", "routes[0]: expected topics");
    expect_refused("[{'path': '/x', 'topics': []}]", "routes[0]: expected topics");
    expect_refused("[{'path': '/x', 'topic': ['a']}]", "routes[0].topic: unknown|\"topics\"?");
    expect_refused("[{'path': '/x', 'topics': ['a..b']}]", "routes[0].topics[0]: expected a topic");
    expect_refused("[{'path': '/x', 'topics': [5]}]", "routes[0].topics[0]: expected a topic");
    expect_refused("[{'path': '/x/{i}', 'topics': ['a.{id}']}]",
                   "routes[0].topics[0]: there is no such {…} in the path");
    expect_refused("[{'path': '/x', 'topics': ['user.{sub}']}]", "no such {…} in the path");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'require': {'/r': '{id}'}}]",
                   "routes[0].require./r: there is no such");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'require': {'r': 'x'}}]",
                   "routes[0].require.r: expected a JSON Pointer");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'require': {'/r': []}}]",
                   "one value at least");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'require': {'/r': [{}]}}]",
                   "routes[0].require./r[0]: expected a text");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'require': {}}]", "one claim at least");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'grants': true}]",
                   "routes[0]: grants needs require");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'public': true}]", "public needs");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'public': true, 'grants': true, 'require': "
                   "{'/r': 1}}]",
                   "public and require contradict each other");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'grants': 'yes'}]",
                   "routes[0].grants: expected true or false");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'heartbeat_event': 'a\\nb'}]",
                   "routes[0].heartbeat_event: expected a text");
}
END_TEST

START_TEST(test_refuses_what_is_no_flow_control)
{
    static const char *const wrong[][2] = {
        {"'slow': 'drop'", "routes[0].slow: expected block or drop-oldest or drop-newest or disco"},
        {"'slow': 1", "routes[0].slow: expected block"},
        {"'slow': ['block']", "routes[0].slow: expected block"},
        {"'buffer': 0", "routes[0].buffer: expected a number of events from 1 to 65536"},
        {"'buffer': 65537", "routes[0].buffer: expected a number"},
        {"'buffer': 1.5", "routes[0].buffer: expected a number"},
        {"'buffer': -1", "routes[0].buffer: expected a number"},
        {"'buffer': 1e300", "routes[0].buffer: expected a number"},
        {"'buffer': null", "routes[0].buffer: expected a number"},
        {"'flush': '19ms'", "routes[0].flush: expected a duration|20ms to 60000ms"},
        {"'flush': '61s'", "routes[0].flush: expected a duration"},
        {"'flush': 100", "routes[0].flush: expected a duration"},
        {"'control': 'id'", "routes[0].control: expected on or off"},
        {"'control': false", "routes[0].control: expected on or off"},
        {"'control': null", "routes[0].control: expected on or off"},
        {"'control': {}", "routes[0].control: expected on or off"},
        {"'flush': '1s', 'flush': '2s'", "routes[0].flush: stands twice"},
        {"'buffers': 5", "routes[0].buffers: unknown|\"buffer\"?"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char routes[128];
        snprintf(routes, sizeof routes, "[{'path': '/x', 'topics': ['a'], %s}]", wrong[i][0]);
        expect_refused(routes, wrong[i][1]);
    }
}
END_TEST

START_TEST(test_what_a_route_says_of_formats)
{
    static const struct {
        const char *member, *said;
    } good[] = {{"'format': 'json'", "; format json"},
                {"'format': 'plain'", "; format plain"},
                {"'type_from_topic': true", "; type_from_topic on"},
                {"'type_from_topic': 1", "; type_from_topic on"},
                {"'type_from_topic': '0'", "; type_from_topic off"},
                {"'type_from_topic': false", "; type_from_topic off"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char routes[128];
        struct buf said = {0};
        struct route_hit at = {0};
        snprintf(routes, sizeof routes, "[{'path': '/x', 'topics': ['a'], %s}]", good[i].member);
        struct route_map *own = make(routes, NULL);
        ck_assert_ptr_nonnull(own);
        ck_assert_int_eq(route_map_find(own, SLICE_LIT("/x"), &at, &why), ROUTE_FOUND);
        format_request_put(&at.format, &said);
        ck_assert(slice_is(buf_slice(&said), good[i].said));
        route_hit_reset(&at);
        route_map_free(own);
        buf_reset(&said);
    }
    expect_refused("[{'path': '/x', 'topics': ['a'], 'format': 'xml'}]",
                   "routes[0].format: expected json or plain");
    expect_refused("[{'path': '/x', 'topics': ['a'], 'type_from_topic': 2}]",
                   "routes[0].type_from_topic: expected 1 or true, 0 or false");
}
END_TEST

static struct flow_request flow_at(const struct route_map *own, const char *path)
{
    struct route_hit at = {0};
    ck_assert_int_eq(route_map_find(own, slice_of(path), &at, &why), ROUTE_FOUND);
    struct flow_request flow = at.flow;
    route_hit_reset(&at);
    return flow;
}

START_TEST(test_what_a_route_says_of_flow_control)
{
    struct buf out = {0};
    struct route_map *own = make(
        "[{'path': '/x', 'topics': ['a'], 'slow': 'drop-newest', 'buffer': 16, 'flush': '1s', "
        "'control': 'off', 'grants': true, 'public': true},"
        " {'path': '/y', 'topics': ['a'], 'control': 'on', 'slow': 'block', 'buffer': '65536'},"
        " {'path': '/z', 'topics': ['a']}]",
        NULL);
    ck_assert_ptr_nonnull(own);
    struct flow_request flow = flow_at(own, "/x");
    ck_assert(flow.has_slow && flow.slow == SLOW_DROP_NEWEST && flow.no_controls);
    ck_assert_uint_eq(flow.buffer, 16);
    ck_assert_uint_eq(flow.flush_ms, 1000);
    flow = flow_at(own, "/y");
    ck_assert(flow.has_slow && flow.slow == SLOW_BLOCK && flow.has_control && !flow.no_controls);
    ck_assert_uint_eq(flow.buffer, 65536);
    ck_assert_uint_eq(flow.flush_ms, 0);
    flow = flow_at(own, "/z");
    ck_assert(!flow.has_slow && !flow.has_control && flow.buffer + flow.flush_ms == 0);
    struct grant *grant = grant_new(&(struct grant_fields){0});
    route_map_explain(own, grant, &out);
    rig_expect_parts(buf_slice(&out), "/x  (open to everybody; slow drop-newest; buffer 16; flush "
                                      "1000ms; control off)\n|"
                                      "/y  (closed: a is not granted; slow block; buffer 65536; "
                                      "control on)\n|/z  (closed: a is not granted)\n");
    grant_unref(grant);
    route_map_free(own);
    buf_reset(&out);
}
END_TEST

START_TEST(test_refuses_paths)
{
    static const char *const wrong[] = {
        "",      "x",     "/",        "//",     "/x/", "/x//y",   "/x?y", "/x#y",
        "/x y",  "/./x",  "/x/..",    "/%zz",   "/%2", "/{",      "/{}",  "/{1}",
        "/{a}b", "/a{b}", "/{a}/{a}", "/{a-b}", "/}",  "/a\\\\b", "/<x>",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char routes[128];
        snprintf(routes, sizeof routes, "[{'path': '%s', 'topics': ['a']}]", wrong[i]);
        expect_refused(routes, "routes[0].path: expected");
    }
}
END_TEST

START_TEST(test_refuses_the_paths_of_the_relay)
{
    static const char *const fixed[] = {
        "/events",      "/publish",       "/health",
        "/ready",       "/metrics",       "/stats",
        "/tickets",     "/revoke",        "/connections/{id}/token",
        "/connections", "/connections/x", "/%65vents",
        "/%73tats",     "/topics/{x}",    "/topics/{x}/end",
        "/client.js",   "/client.d.ts",
    };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        char routes[128];
        snprintf(routes, sizeof routes, "[{'path': '%s', 'topics': ['a']}]", fixed[i]);
        expect_refused(routes, "routes[0].path: this path is one of the relay's own");
    }
    struct route_map *made = make("[{'path': '/{x}', 'topics': ['a']}, {'path': '/events/x', "
                                  "'topics': ['a']}]",
                                  NULL);
    ck_assert_ptr_nonnull(made);
    route_map_free(made);
}
END_TEST

START_TEST(test_refuses_two_routes_of_one_path)
{
    static const char *const pairs[][2] = {
        {"/a", "/a"},         {"/{x}", "/{y}"}, {"/a/{x}", "/a/b"},
        {"/{x}/b", "/a/{y}"}, {"/%61", "/a"},   {"/caf%c3%a9", "/caf\xC3\xA9"},
        {"/{x}/{y}", "/a/b"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char routes[256];
        snprintf(routes, sizeof routes,
                 "[{'path': '/q/q/q', 'topics': ['a']}, {'path': '%s', 'topics': ['a']}, {'path': "
                 "'/z/z/z', 'topics': ['a']}, {'path': '%s', 'topics': ['a']}]",
                 pairs[i][0], pairs[i][1]);
        expect_refused(routes, "routes[3]: a path could be of routes[1], too");
    }
}
END_TEST

START_TEST(test_warns_of_public_routes)
{
    struct buf warnings = {0};
    struct route_map *made = make(ROUTES, &warnings);
    rig_expect_parts(buf_slice(&warnings), "routes[5]: /open is public");
    ck_assert_ptr_eq(memchr(warnings.ptr, '\n', warnings.len), warnings.ptr + warnings.len - 1);
    buf_reset(&warnings);
    route_map_free(made);
}
END_TEST

START_TEST(test_none)
{
    struct route_map *none = NULL;
    ck_assert_int_eq(route_map_new(NULL, &none, &why, NULL), OK);
    ck_assert_int_eq(route_map_find(none, SLICE_LIT("/api/events"), &hit, &why), ROUTE_NONE);
    ck_assert_uint_eq(route_map_pointers(none)->count, 0);
    ck_assert(!route_map_has_public(none));
    route_map_free(none);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("route_map");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_paths_become_topics);
    tcase_add_test(tests, test_other_paths_are_none);
    tcase_add_test(tests, test_captures_are_one_token);
    tcase_add_test(tests, test_captures_have_the_length_of_topics);
    tcase_add_test(tests, test_require);
    tcase_add_test(tests, test_require_what_was_captured);
    tcase_add_test(tests, test_what_a_hit_says);
    tcase_add_test(tests, test_explain);
    tcase_add_test(tests, test_refuses);
    tcase_add_test(tests, test_refuses_what_is_no_flow_control);
    tcase_add_test(tests, test_what_a_route_says_of_formats);
    tcase_add_test(tests, test_what_a_route_says_of_flow_control);
    tcase_add_test(tests, test_refuses_paths);
    tcase_add_test(tests, test_refuses_the_paths_of_the_relay);
    tcase_add_test(tests, test_refuses_two_routes_of_one_path);
    tcase_add_test(tests, test_warns_of_public_routes);
    tcase_add_test(tests, test_none);
    return tests_run(tests);
}
