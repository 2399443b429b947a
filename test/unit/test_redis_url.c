/* SPDX-License-Identifier: Apache-2.0 */
/* Where Redis is: every accepted form, and nothing else. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "common/redis_url.h"
#include "test/unit/tests_run.h"

struct sample {
    const char *text;
    struct redis_url url; /* borrowed texts */
};

static const struct sample good[] = {
    {"redis://localhost", {.host = "localhost", .port = 6379}},
    {"redis://localhost/", {.host = "localhost", .port = 6379}},
    {"redis://127.0.0.1:6380", {.host = "127.0.0.1", .port = 6380}},
    {"redis://h/3", {.host = "h", .port = 6379, .db = 3}},
    {"redis://h:1/65535", {.host = "h", .port = 1, .db = 65535}},
    {"redis://[::1]", {.host = "::1", .port = 6379}},
    {"redis://[fe80::1%25eth0]:7000/1", {.host = "fe80::1%eth0", .port = 7000, .db = 1}},
    {"redis://:secret@h", {.host = "h", .port = 6379, .password = "secret"}},
    {"redis://:@h", {.host = "h", .port = 6379}},
    {"redis://:@h:1/2", {.host = "h", .port = 1, .db = 2}},
    {"rediss://:@h", {.host = "h", .port = 6379, .tls = true}},
    {"redis://u:p@h:2", {.host = "h", .port = 2, .user = "u", .password = "p"}},
    {"redis://u@h", {.host = "h", .port = 6379, .user = "u"}},
    {"redis://u:@h", {.host = "h", .port = 6379, .user = "u", .password = ""}},
    {"redis://u:a:b@h", {.host = "h", .port = 6379, .user = "u", .password = "a:b"}},
    {"redis://u:a@b@h", {.host = "h", .port = 6379, .user = "u", .password = "a@b"}},
    {"redis://u%3a:p%2F%40@h", {.host = "h", .port = 6379, .user = "u:", .password = "p/@"}},
    {"rediss://u:p@h:2/1",
     {.host = "h", .port = 2, .user = "u", .password = "p", .db = 1, .tls = true}},
    {"unix:///run/redis.sock", {.path = "/run/redis.sock"}},
    {"unix:///run/redis.sock?db=2", {.path = "/run/redis.sock", .db = 2}},
    {"unix:///run/a%20b%3F", {.path = "/run/a b?"}},
};

static const char *const bad[] = {
    "",
    "redis",
    "redis:",
    "redis:/h",
    "redis://",
    "redis:///0",
    "redis://:6379",
    "redis://u:p@",
    "http://h",
    "rediss:///h",
    "redis+sentinel://",
    "redis+sentinel://h",
    "redis+sentinel://h/",
    "redis+sentinel://h//1",
    "redis+sentinel:///m",
    "redis+sentinel://h,/m",
    "redis+sentinel://,h/m",
    "redis+sentinel://h,,i/m",
    "redis+sentinel://h:0/m",
    "redis+sentinel://h/m/x",
    "redis+sentinel://h/m/1/2",
    "redis+sentinel://h/m%00",
    "REDIS://h",
    "localhost:6379",
    "redis://h:",
    "redis://h:0",
    "redis://h:65536",
    "redis://h:-1",
    "redis://h:63 79",
    "redis://h:06379",
    "redis://::1",
    "redis://[::1",
    "redis://[::1]x",
    "redis://[::1]:",
    "redis://[]",
    "redis://h/x",
    "redis://h/-1",
    "redis://h/65536",
    "redis://h/1/2",
    "redis://h/1?x",
    "redis://u:%@h",
    "redis://u:%4@h",
    "redis://u:%zz@h",
    "redis://u:a%00b@h",
    "redis://%00",
    "unix://",
    "unix:///",
    "unix://run/redis.sock",
    "unix:///r?",
    "unix:///r?x=1",
    "unix:///r?db=x",
    "unix:///r%",
    "unix:///r%00",
};

static void ck_text(const char *have, const char *want)
{
    if (!want)
        ck_assert_ptr_null(have);
    else
        ck_assert_pstr_eq(have, want);
}

START_TEST(test_good_urls_are_taken_apart)
{
    struct redis_url url;
    ck_assert_msg(redis_url_parse(good[_i].text, &url) == OK, "%s", good[_i].text);
    ck_text(url.host, good[_i].url.host);
    ck_text(url.path, good[_i].url.path);
    ck_text(url.user, good[_i].url.user);
    ck_text(url.password, good[_i].url.password);
    ck_assert_uint_eq(url.port, good[_i].url.port);
    ck_assert_uint_eq(url.db, good[_i].url.db);
    ck_assert_int_eq(url.tls, good[_i].url.tls);
    ck_assert_ptr_null(url.master);
    redis_url_reset(&url);
    ck_assert_ptr_null(url.host);
    redis_url_reset(&url); /* twice is fine */
}
END_TEST

START_TEST(test_sentinel_urls_are_taken_apart)
{
    struct redis_url url;
    ck_assert(!redis_url_parse("redis+sentinel://u:a@b@h,[::1]:7,i:26380/my%2Fname/3", &url));
    ck_assert_pstr_eq(url.user, "u");
    ck_assert_pstr_eq(url.password, "a@b");
    ck_assert_uint_eq(url.sentinel_count, 3);
    ck_assert_pstr_eq(url.sentinels[0].host, "h");
    ck_assert_uint_eq(url.sentinels[0].port, 26379);
    ck_assert_pstr_eq(url.sentinels[1].host, "::1");
    ck_assert_uint_eq(url.sentinels[1].port, 7);
    ck_assert_uint_eq(url.sentinels[2].port, 26380);
    ck_assert_pstr_eq(url.master, "my/name");
    ck_assert_uint_eq(url.db, 3);
    ck_assert_ptr_null(url.host);
    ck_assert(!url.tls);
    redis_url_reset(&url);
    ck_assert(!redis_url_parse("rediss+sentinel://h/m", &url));
    ck_assert(url.tls && !url.user && !url.password && url.db == 0 && url.sentinel_count == 1);
    redis_url_reset(&url);
}
END_TEST

/* The list has a bound. */
START_TEST(test_too_many_sentinels_are_refused)
{
    for (int count = REDIS_SENTINELS_MAX; count <= REDIS_SENTINELS_MAX + 1; count++) {
        char text[256] = "redis+sentinel://h";
        struct redis_url url;
        for (int i = 1; i < count; i++)
            strcat(text, ",h");
        strcat(text, "/m");
        bool fits = count == REDIS_SENTINELS_MAX;
        ck_assert((redis_url_parse(text, &url) == OK) == fits);
        if (fits)
            redis_url_reset(&url);
    }
}
END_TEST

START_TEST(test_bad_urls_are_refused_and_leave_nothing_behind)
{
    struct redis_url url = {.port = 42};
    ck_assert_msg(redis_url_parse(bad[_i], &url) == ERR_INVALID, "%s", bad[_i]);
    ck_assert_uint_eq(url.port, 42);
}
END_TEST

START_TEST(test_any_mangled_url_is_refused_or_taken_whole)
{
    for (size_t g = 0; g < sizeof(good) / sizeof(good[0]); g++) {
        char text[80];
        size_t len = strlen(good[g].text);
        for (size_t i = 0; i < len; i++) {
            for (int c = 1; c < 256; c++) {
                struct redis_url url;
                memcpy(text, good[g].text, len + 1);
                text[i] = (char)c;
                if (redis_url_parse(text, &url) != OK)
                    continue;
                ck_assert_int_eq(!!url.host + !!url.path + !!url.master, 1);
                redis_url_reset(&url);
            }
        }
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("redis_url");
    tcase_add_loop_test(cases, test_good_urls_are_taken_apart, 0, sizeof(good) / sizeof(good[0]));
    tcase_add_test(cases, test_sentinel_urls_are_taken_apart);
    tcase_add_test(cases, test_too_many_sentinels_are_refused);
    tcase_add_loop_test(cases, test_bad_urls_are_refused_and_leave_nothing_behind, 0,
                        sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(cases, test_any_mangled_url_is_refused_or_taken_whole);
    return tests_run(cases);
}
