/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration says of TLS to Redis is checked before anything is connected. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "relay/redis/redis_target.h"
#include "test/unit/tests_run.h"

/* Loads with up to three options, each "--key=value", and checks. The sentence, or NULL: all is
 * good. Release with free(). */
static char *check(const char *first, const char *second, const char *third)
{
    char *argv[] = {(char *)(uintptr_t)"sse-relay", (char *)(uintptr_t)first,
                    (char *)(uintptr_t)second, (char *)(uintptr_t)third};
    int argc = third ? 4 : second ? 3 : 2;
    struct config *config = NULL;
    enum config_action action;
    char *message = NULL;
    struct buf why = {0};
    enum err e = config_load(argc, argv, NULL, &config, &action, &message);
    ck_assert_msg(e == OK, "%s", message ? message : "");
    e = redis_target_check(config, &why);
    config_unref(config);
    ck_assert_int_eq(e == OK, why.len == 0);
    return e == OK ? NULL : buf_take(&why, NULL);
}

START_TEST(test_what_needs_no_tls_is_good)
{
    ck_assert_ptr_null(check("--redis=redis://h", NULL, NULL));
    ck_assert_ptr_null(check("--redis=memory:", NULL, NULL));
    ck_assert_ptr_null(check("--redis=unix:///run/redis.sock", NULL, NULL));
}
END_TEST

START_TEST(test_build_without_tls_says_so_and_what_to_do)
{
    static const char *const parts[] = {"redis=rediss://user:***@h (from --redis): ", "this build",
                                        "Debian 13", "stunnel"};
    if (redis_tls_is_built_in())
        return;
    char *why = check("--redis=rediss://user:s3cret@h", NULL, NULL);
    ck_assert_ptr_nonnull(why);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        ck_assert_msg(strstr(why, parts[i]) != NULL, "%s", why);
    ck_assert_ptr_null(strstr(why, "s3cret"));
    free(why);
}
END_TEST

START_TEST(test_files_of_no_use_are_refused)
{
    static const char *const bad[][3] = {
        {"--redis.ca=/nonexistent", NULL, "redis.ca: "},
        {"--redis.cert=/nonexistent", NULL, "redis.cert and redis.key: "},
        {"--redis.cert=/nonexistent", "--redis.key=/nonexistent", "redis.cert: "},
    };
    if (!redis_tls_is_built_in())
        return;
    ck_assert_ptr_null(check("--redis=rediss://h", "--redis.tls_name=redis.example", NULL));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *why = check("--redis=rediss://h", bad[i][0], bad[i][1]);
        ck_assert_ptr_nonnull(why);
        ck_assert_msg(strncmp(why, bad[i][2], strlen(bad[i][2])) == 0, "%s", why);
        free(why);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("redis_target");
    tcase_add_test(tests, test_what_needs_no_tls_is_good);
    tcase_add_test(tests, test_build_without_tls_says_so_and_what_to_do);
    tcase_add_test(tests, test_files_of_no_use_are_refused);
    return tests_run(tests);
}
