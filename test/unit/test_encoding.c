/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets a compressed stream: Accept-Encoding, and the patterns of `compress`. */
#include <check.h>
#include <stdlib.h>
#include "relay/http/request.h"
#include "test/unit/tests_run.h"

static const char *const accepted[] = {
    "gzip",
    "GZip",
    "x-gzip",
    "gzip, deflate, br, zstd",
    "deflate,gzip",
    "br;q=1.0, gzip;q=0.8, *;q=0.1",
    "gzip;q=0.001",
    "gzip;q=1.",
    "gzip;q=0.5, identity;q=0.5",
    "gzip;q=1.000",
    " gzip\t; \tQ=0.5 ",
    ",, gzip,,",
    "*",
    "*;q=0.5",
    "br, *",
    "gzip, *;q=0",
    "identity;q=0, gzip;q=0.1",
    "identity;q=0.5, gzip",
    "deflate;q=banana, gzip",
};
static const char *const refused[] = {
    "",
    " ",
    ",",
    "identity",
    "deflate, br",
    "gzipped",
    "gzi p",
    "gzip;q=0",
    "gzip;q=0.0",
    "gzip;q=0.000",
    "gzip; q=0, *",
    "*;q=0",
    "gzip, gzip;q=0",
    "identity, gzip;q=0.5", /* it may be sent, but is not what the client likes best */
    "gzip;q=0.5, *",        /* …nor here: no encoding is one of * */
    "gzip;q=",
    "gzip;q=.5",
    "gzip;q=2",
    "gzip;q=1.001",
    "gzip;q=0.1234",
    "gzip;q=-1",
    "gzip;q=0,5",
    "gzip;q = 1 2",
    "gzip;",
    "gzip;level=1",
};

START_TEST(test_gzip_is_accepted)
{
    ck_assert_msg(request_accepts_gzip(slice_of(accepted[_i])), "\"%s\"", accepted[_i]);
}
END_TEST

START_TEST(test_gzip_is_refused)
{
    ck_assert_msg(!request_accepts_gzip(slice_of(refused[_i])), "\"%s\"", refused[_i]);
}
END_TEST

START_TEST(test_who_says_nothing_gets_plain_streams)
{
    ck_assert(!request_accepts_gzip(SLICE_NONE));
}
END_TEST

/* Up to three topics against up to two patterns. */
static const struct {
    char *topics[3], *patterns[2];
    bool within;
} cases[] = {
    {{"a"}, {0}, false},
    {{"a"}, {"a"}, true},
    {{"a"}, {">"}, true},
    {{"a.b"}, {"a.*"}, true},
    {{"a.b.c"}, {"a.*"}, false},
    {{"a.*"}, {"a.b"}, false},
    {{"a.*"}, {"a.*"}, true},
    {{"a.*"}, {"a.>"}, true},
    {{"a.>"}, {"a.*"}, false},
    {{">"}, {"a.>", "b.>"}, false},
    {{"a", "b"}, {"a"}, false},
    {{"a", "b"}, {"b", "a"}, true},
    {{"a.x", "b.>", "a.*"}, {"a.>", "b.>"}, true},
    {{"a.x", "b.>", "c"}, {"a.>", "b.>"}, false},
};

START_TEST(test_all_topics_must_be_covered)
{
    struct subscription_request request = {.topics.items = (char **)(uintptr_t)cases[_i].topics};
    struct strings patterns = {.items = (char **)(uintptr_t)cases[_i].patterns};
    while (request.topics.count < 3 && cases[_i].topics[request.topics.count])
        request.topics.count++;
    while (patterns.count < 2 && cases[_i].patterns[patterns.count])
        patterns.count++;
    ck_assert_msg(subscription_request_is_within(&request, &patterns) == cases[_i].within,
                  "case %d", _i);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("encoding");
    tcase_add_loop_test(tests, test_gzip_is_accepted, 0, sizeof(accepted) / sizeof(accepted[0]));
    tcase_add_loop_test(tests, test_gzip_is_refused, 0, sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, test_who_says_nothing_gets_plain_streams);
    tcase_add_loop_test(tests, test_all_topics_must_be_covered, 0,
                        sizeof(cases) / sizeof(cases[0]));
    return tests_run(tests);
}
