/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts as requests name them: what is one, who is the same, and which are ours. */
#include <check.h>

#include "common/origin.h"
#include "test/unit/tests_run.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* --- the form -------------------------------------------------------------------------------- */

static const char *const hosts_valid[] = {
    "a",
    "relay.example",
    "relay.example.",
    "RELAY.Example:8080",
    "a:",
    "a:0",
    "a:65535",
    "127.0.0.1",
    "127.0.0.1:80",
    "my_service:80",
    "xn--bcher",
    "[::1]",
    "[::1]:80",
    "[::1]:",
    "[2001:DB8::1]:443",
    "a-b~c.d_e",
    "[::ffff:1.2.3.4]",
    "AZaz09",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123456789.example"};
static const char *const hosts_invalid[] = {
    "",
    ":80",
    "a:b",
    "a:80:80",
    "a:65536",
    "a:-1",
    "a:+1",
    "a: 80",
    "a:080",
    " a",
    "a b",
    "a,b",
    "a/b",
    "a?b",
    "a#b",
    "user@a",
    "a\\b",
    "a%41",
    "b\xC3\xBC",
    "::1",
    "[::1",
    "[::1]80",
    "[::1]x:1",
    "[]",
    "[]:80",
    "[1.2.3.4]",
    "[fe80::1%25eth0]",
    "[::1]:x",
    "[::1]]",
    "[v1.x]",
    "http://a",
    "a\tb",
    "a;b",
    "*",
    "[000000000000000000000000000000000000000000000000000000000000000::]"};

START_TEST(test_host_is_valid)
{
    ck_assert_msg(origin_host_valid(slice_of(hosts_valid[_i])), "\"%s\"", hosts_valid[_i]);
}
END_TEST

START_TEST(test_host_is_invalid)
{
    ck_assert_msg(!origin_host_valid(slice_of(hosts_invalid[_i])), "\"%s\"", hosts_invalid[_i]);
}
END_TEST

START_TEST(test_host_with_a_nul_is_invalid)
{
    ck_assert(!origin_host_valid(SLICE_LIT("a\0b")));
    ck_assert(!origin_host_valid(SLICE_LIT("[::1\0]")));
    ck_assert(!origin_host_valid(SLICE_LIT("a:8\0")));
    ck_assert(!origin_host_valid(SLICE_NONE));
}
END_TEST

/* --- origins --------------------------------------------------------------------------------- */

static const struct {
    const char *origin, *host;
    bool same;
} pairs[] = {
    {"http://a", "a", true},
    {"https://a", "a", true}, /* TLS ends before us */
    {"http://a", "a:80", true},
    {"https://a", "a:443", true},
    {"http://a:80", "a", true},
    {"https://a:443", "a", true},
    {"http://a:80", "a:80", true},
    {"http://a:8080", "a:8080", true},
    {"http://a", "a:", true},
    {"HTTP://A.Example", "a.eXample:80", true},
    {"http://[::1]", "[::1]", true},
    {"http://[::1]", "[::1]:80", true},
    {"https://[::1]", "[0:0:0:0:0:0:0:1]:443", true},
    {"http://[2001:db8::A]:81", "[2001:DB8:0::a]:81", true},
    {"http://127.0.0.1:8080", "127.0.0.1:8080", true},
    {"app://a:7", "a:7", true},
    {"http://a", "b", false},
    {"http://a", "a.evil.example", false},
    {"http://a.evil.example", "a", false},
    {"http://evila", "a", false},
    {"http://a", "a:443", false},
    {"https://a", "a:80", false},
    {"http://a:8080", "a", false},
    {"http://a", "a:8080", false},
    {"http://a:443", "a", false},
    {"http://a:8080", "a:8081", false},
    {"http://[::1]", "[::2]", false},
    {"http://[::1]", "::1", false},
    {"http://[::127.0.0.1]", "127.0.0.1", false},
    {"app://a", "a", false},
    {"null", "null", false},
    {"", "", false},
    {"a", "a", false},
    {"://a", "a", false},
    {"http://", "", false},
    {"http://a/", "a", false},
    {"http://a http://b", "a", false},
    {"http://b,http://a", "a", false},
    {"http://user@a", "a", false},
    {"http://a", "", false},
    {"http://a", NULL, false},
    {NULL, "a", false},
    {NULL, NULL, false},
};

START_TEST(test_origin_is_the_host_asked_or_not)
{
    bool same = origin_is_same(slice_of(pairs[_i].origin), slice_of(pairs[_i].host));
    ck_assert_msg(same == pairs[_i].same, "\"%s\" and \"%s\"", pairs[_i].origin, pairs[_i].host);
}
END_TEST

/* --- which hosts are ours -------------------------------------------------------------------- */

static const char *const patterns_valid[] = {"*", "a", "relay.example", "*.example", "127.0.0.1"};
static const char *const patterns_invalid[] = {"",   "*.",   "*a",  "a*",      "a.*.b",
                                               "**", "a:80", "a/b", "*.*.a",   "[::1]",
                                               ".a", "*..a", "a b", "http://a"};

START_TEST(test_pattern_is_valid)
{
    ck_assert_msg(origin_pattern_valid(slice_of(patterns_valid[_i])), "%s", patterns_valid[_i]);
}
END_TEST

START_TEST(test_pattern_is_invalid)
{
    ck_assert_msg(!origin_pattern_valid(slice_of(patterns_invalid[_i])), "%s",
                  patterns_invalid[_i]);
}
END_TEST

#define NAMES(...)                                                                                 \
    {.items = (char *[]){__VA_ARGS__, NULL},                                                       \
     .count = sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)}

static const struct {
    const char *host;
    struct strings allowed, own;
    bool beyond, ok;
} asked[] = {
    /* By default: addresses, localhost, and names of the listen addresses. */
    {"127.0.0.1:8080", {0}, {0}, false, true},
    {"10.1.2.3", {0}, {0}, false, true},
    {"[::1]:8080", {0}, {0}, false, true},
    {"localhost:8080", {0}, {0}, false, true},
    {"LocalHost.", {0}, {0}, false, true},
    {"evil.example", {0}, {0}, false, false},
    {"localhost.evil.example", {0}, {0}, false, false},
    {"evillocalhost", {0}, {0}, false, false},
    {"127.0.0.1.evil.example", {0}, {0}, false, false},
    {"relay.local:80", {0}, NAMES("relay.local"), false, true},
    {"evil.example", {0}, NAMES("relay.local"), false, false},
    /* Without a host: no browser. */
    {NULL, {0}, {0}, false, true},
    {"", {0}, {0}, false, true},
    {NULL, NAMES("a"), {0}, false, true},
    /* Beyond this machine: all, unless there is a list. */
    {"evil.example", {0}, {0}, true, true},
    {"evil.example", NAMES("relay.example"), {0}, true, false},
    /* A list. */
    {"relay.example", NAMES("relay.example"), {0}, false, true},
    {"Relay.Example.:443", NAMES("relay.example"), {0}, false, true},
    {"relay.example", NAMES("Relay.EXAMPLE."), {0}, false, true},
    {"b", NAMES("a", "b"), {0}, false, true},
    {"c", NAMES("a", "b"), {0}, false, false},
    {"a.relay.example", NAMES("relay.example"), {0}, false, false},
    {"relay.example.evil", NAMES("relay.example"), {0}, false, false},
    {"relay.local", NAMES("a"), NAMES("relay.local"), false, false},
    {"10.1.2.3", NAMES("a"), {0}, true, true},
    {"localhost", NAMES("a"), {0}, true, true},
    /* All below a name. */
    {"a.example", NAMES("*.example"), {0}, false, true},
    {"b.a.example", NAMES("*.example"), {0}, false, true},
    {"A.EXAMPLE.", NAMES("*.example."), {0}, false, true},
    {"example", NAMES("*.example"), {0}, false, false},
    {".example", NAMES("*.example"), {0}, false, false},
    {"evilexample", NAMES("*.example"), {0}, false, false},
    {"a.example.evil", NAMES("*.example"), {0}, false, false},
    {"anything", NAMES("*"), {0}, false, true},
    /* What is no host is not ours. */
    {"a b", {0}, NAMES("a b"), false, false},
    {"a, localhost", NAMES("a"), {0}, false, false},
    {"localhost:x", {0}, {0}, false, false},
    {"[::1", {0}, {0}, false, false},
};

START_TEST(test_host_is_ours_or_not)
{
    struct origin_hosts hosts = {&asked[_i].allowed, &asked[_i].own, asked[_i].beyond};
    ck_assert_msg(origin_host_allowed(slice_of(asked[_i].host), &hosts) == asked[_i].ok,
                  "case %d: \"%s\"", _i, asked[_i].host);
}
END_TEST

START_TEST(test_no_lists_are_empty_lists)
{
    struct origin_hosts hosts = {NULL, NULL, false};
    ck_assert(origin_host_allowed(SLICE_LIT("localhost"), &hosts));
    ck_assert(!origin_host_allowed(SLICE_LIT("evil.example"), &hosts));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("origin");
    tcase_add_loop_test(tests, test_host_is_valid, 0, COUNT(hosts_valid));
    tcase_add_loop_test(tests, test_host_is_invalid, 0, COUNT(hosts_invalid));
    tcase_add_test(tests, test_host_with_a_nul_is_invalid);
    tcase_add_loop_test(tests, test_origin_is_the_host_asked_or_not, 0, COUNT(pairs));
    tcase_add_loop_test(tests, test_pattern_is_valid, 0, COUNT(patterns_valid));
    tcase_add_loop_test(tests, test_pattern_is_invalid, 0, COUNT(patterns_invalid));
    tcase_add_loop_test(tests, test_host_is_ours_or_not, 0, COUNT(asked));
    tcase_add_test(tests, test_no_lists_are_empty_lists);
    return tests_run(tests);
}
