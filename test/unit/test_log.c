/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines: one write each, always one line, always parseable, whatever is logged. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/json.h"
#include "relay/kit/log.h"
#include "test/unit/tests_run.h"

static int saved_stderr, pipe_read;

/* Packet mode: each read gives the bytes of one write. */
static void capture_start(void)
{
    int fds[2];
    ck_assert_int_eq(pipe2(fds, O_DIRECT | O_CLOEXEC | O_NONBLOCK), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    pipe_read = fds[0];
}

static void capture_end(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_read);
}

/* The next write, without its line end. */
static size_t next_line(char line[static 8192])
{
    ssize_t n = read(pipe_read, line, 8191);
    if (n <= 0)
        return 0;
    ck_assert_int_eq(line[n - 1], '\n');
    line[n - 1] = '\0';
    ck_assert_ptr_null(memchr(line, '\n', (size_t)n - 1));
    return (size_t)n - 1;
}

START_TEST(test_logfmt_quotes_what_needs_it)
{
    char line[8192];
    log_setup(LOG_DEBUG, LOG_LOGFMT);
    log_put(LOG_WARN, "two words", "plain", "a-b:1", "empty", "", "quote", "a\"b", "lines",
            "a\r\nb", "equals", "a=b", "null", NULL, "n", log_u64(42), NULL);
    ck_assert_uint_gt(next_line(line), 0);
    ck_assert_int_eq(strncmp(line, "ts=20", 5), 0);
    ck_assert_int_eq(line[3 + 23], 'Z'); /* 2026-01-02T03:04:05.678Z */
    ck_assert_str_eq(line + 3 + 24,
                     " level=warn msg=\"two words\" plain=a-b:1 empty=\"\" quote=\"a\\\"b\" "
                     "lines=\"a\\r\\nb\" equals=\"a=b\" null=\"\" n=42");
}
END_TEST

START_TEST(test_json_is_json_whatever_the_bytes)
{
    char line[8192];
    log_setup(LOG_INFO, LOG_JSON);
    log_put(LOG_ERROR, "broken", "bytes", "\xff\xfe\"\\\n\x01", "k\"ey", "ä", NULL);
    size_t len = next_line(line);
    cJSON *tree = NULL;
    ck_assert_int_eq(json_parse((struct slice){line, len}, &tree), OK);
    ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "level")->valuestring, "error");
    ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "msg")->valuestring, "broken");
    ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "bytes")->valuestring,
                     "\xEF\xBF\xBD\xEF\xBF\xBD\"\\\n\x01");
    ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "k\"ey")->valuestring, "ä");
    ck_assert_uint_eq(strlen(cJSON_GetObjectItemCaseSensitive(tree, "ts")->valuestring), 24);
    cJSON_Delete(tree);
}
END_TEST

START_TEST(test_level_silences_what_is_below)
{
    char line[8192];
    log_setup(LOG_WARN, LOG_LOGFMT);
    ck_assert(!log_on(LOG_INFO) && log_on(LOG_WARN) && log_on(LOG_ERROR));
    log_put(LOG_INFO, "hidden", NULL);
    ck_assert_uint_eq(next_line(line), 0);
    log_put(LOG_WARN, "shown", NULL);
    ck_assert_ptr_nonnull(strstr((next_line(line), line), "msg=shown"));
}
END_TEST

START_TEST(test_a_long_value_is_cut_between_characters)
{
    char line[8192], value[2002] = "";
    for (size_t i = 0; i + 2 < sizeof(value); i += 2)
        memcpy(value + 1 + i, "ä", 3);
    value[0] = 'x';
    log_setup(LOG_INFO, LOG_JSON);
    log_put(LOG_INFO, "long", "value", value, NULL);
    ck_assert_uint_le(next_line(line), 700);
    ck_assert_ptr_nonnull(strstr(line, "ä...\""));
    ck_assert_ptr_null(strstr(line, "\xEF\xBF\xBD"));
}
END_TEST

START_TEST(test_a_line_never_exceeds_what_a_pipe_takes_whole)
{
    static const enum log_format formats[] = {LOG_LOGFMT, LOG_JSON};
    char line[8192], value[1000];
    cJSON *tree = NULL;
    memset(value, '\x01', sizeof(value) - 1); /* six bytes each when escaped */
    value[sizeof(value) - 1] = '\0';
    log_setup(LOG_INFO, formats[_i]);
    log_put(LOG_INFO, "many", "a", value, "b", value, "c", value, NULL);
    size_t len = next_line(line);
    ck_assert_uint_le(len + 1, 4096);
    ck_assert_uint_gt(len, 3000);
    ck_assert_ptr_nonnull(strstr(line, "truncated"));
    if (formats[_i] == LOG_JSON) {
        ck_assert_int_eq(json_parse((struct slice){line, len}, &tree), OK);
        cJSON_Delete(tree);
    }
}
END_TEST

static void *log_many(void *arg)
{
    char value[300];
    memset(value, *(const char *)arg, sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (int i = 0; i < 5; i++) {
        log_setup(LOG_INFO, LOG_LOGFMT); /* any time, from any thread */
        log_put(LOG_INFO, "thread", "value", value, "n", log_u64((uint64_t)i), NULL);
    }
    return NULL;
}

START_TEST(test_threads_do_not_mix_their_lines)
{
    pthread_t threads[2];
    char names[2] = {'a', 'b'}, line[8192];
    log_setup(LOG_INFO, LOG_LOGFMT);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_many, &names[i]), 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_gt(next_line(line), 0);
        const char *value = strstr(line, " value=");
        ck_assert_ptr_nonnull(value);
        ck_assert_uint_eq(strspn(value + 7, (char[]){value[7], '\0'}), 299);
    }
    ck_assert_uint_eq(next_line(line), 0);
}
END_TEST

START_TEST(test_numbers_stay_for_sixteen_calls)
{
    const char *texts[16];
    for (uint64_t i = 0; i < 16; i++)
        texts[i] = log_u64(UINT64_MAX - i);
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(texts[i], texts[j]);
    ck_assert_str_eq(texts[0], "18446744073709551615");
}
END_TEST

START_TEST(test_limit_passes_once_per_period_and_counts)
{
    struct log_limit limit = {0};
    uint64_t skipped = 99;
    ck_assert(log_limit_pass(&limit, 0, &skipped));
    ck_assert_uint_eq(skipped, 0);
    for (uint64_t t = 1; t <= 5; t++)
        ck_assert(!log_limit_pass(&limit, t * 1000000, &skipped));
    ck_assert(log_limit_pass(&limit, 10000001, &skipped));
    ck_assert_uint_eq(skipped, 5);
    ck_assert(!log_limit_pass(&limit, 20000000, &skipped));
    ck_assert(log_limit_pass(&limit, 20000001, &skipped));
    ck_assert_uint_eq(skipped, 1);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("log");
    tcase_add_checked_fixture(cases, capture_start, capture_end);
    tcase_add_test(cases, test_logfmt_quotes_what_needs_it);
    tcase_add_test(cases, test_json_is_json_whatever_the_bytes);
    tcase_add_test(cases, test_level_silences_what_is_below);
    tcase_add_test(cases, test_a_long_value_is_cut_between_characters);
    tcase_add_loop_test(cases, test_a_line_never_exceeds_what_a_pipe_takes_whole, 0, 2);
    tcase_add_test(cases, test_threads_do_not_mix_their_lines);
    tcase_add_test(cases, test_numbers_stay_for_sixteen_calls);
    tcase_add_test(cases, test_limit_passes_once_per_period_and_counts);
    return tests_run(cases);
}
