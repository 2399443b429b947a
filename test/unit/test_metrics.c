/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: sums over threads, and text that a Prometheus server accepts. */
#include <check.h>
#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "common/json.h"
#include "relay/kit/metrics.h"
#include "relay/kit/metrics_parts.h"
#include "test/unit/tests_run.h"

#define SETS 3

static struct metrics *sets[SETS];

static void setup(void)
{
    for (size_t i = 0; i < SETS; i++)
        sets[i] = metrics_new();
}

static void teardown(void)
{
    for (size_t i = 0; i < SETS; i++)
        metrics_free(sets[i]);
}

static char *prometheus(void)
{
    struct buf b = {0};
    metrics_put_prometheus(&b, sets, SETS, "1.2.3", "no\"de\\\n1", "memory");
    return buf_take(&b, NULL);
}

static void expect_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    ck_assert_msg(at && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n', "no line %s",
                  line);
}

START_TEST(test_totals_add_up_over_threads)
{
    metrics_add(sets[0], M_EVENTS_DELIVERED, 2);
    metrics_add(sets[1], M_EVENTS_DELIVERED, 3);
    metrics_add(sets[0], M_CLIENTS_LIVE, 5);
    metrics_sub(sets[0], M_CLIENTS_LIVE, 1);
    metrics_set(sets[2], M_CHANNELS, 7);
    metrics_set(sets[2], M_CHANNELS, 6);
    ck_assert_uint_eq(metrics_total(sets, SETS, M_EVENTS_DELIVERED), 5);
    ck_assert_uint_eq(metrics_total(sets, SETS, M_CLIENTS_LIVE), 4);
    ck_assert_uint_eq(metrics_total(sets, SETS, M_CHANNELS), 6);
    ck_assert_uint_eq(metrics_total(sets, 1, M_CHANNELS), 0);
}
END_TEST

START_TEST(test_lag_and_draining_are_the_largest)
{
    for (size_t i = 0; i < SETS; i++)
        metrics_set(sets[i], M_DRAINING, 1);
    metrics_set(sets[0], M_LOOP_LAG_US, 30);
    metrics_set(sets[1], M_LOOP_LAG_US, 20);
    ck_assert_uint_eq(metrics_total(sets, SETS, M_DRAINING), 1);
    ck_assert_uint_eq(metrics_total(sets, SETS, M_LOOP_LAG_US), 30);
}
END_TEST

START_TEST(test_families_stand_together_and_are_named_by_the_rules)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metrics_row *row = &metrics_rows[i];
        ck_assert_msg(row->name && row->help, "metric %zu has no row", i);
        size_t len = strlen(row->name);
        bool total = len > 6 && strcmp(row->name + len - 6, "_total") == 0;
        ck_assert_msg(total == (row->kind == METRIC_COUNTER), "%s", row->name);
        ck_assert((row->label == NULL) == (row->value == NULL));
        for (size_t j = 0; j + 1 < i; j++)
            ck_assert_msg(strcmp(row->name, metrics_rows[j].name) != 0 ||
                              strcmp(row->name, metrics_rows[i - 1].name) == 0,
                          "%s stands in two places", row->name);
        if (i > 0 && strcmp(row->name, metrics_rows[i - 1].name) == 0) {
            ck_assert_str_eq(row->help, metrics_rows[i - 1].help);
            ck_assert_str_ne(row->value, metrics_rows[i - 1].value);
        }
    }
}
END_TEST

/* --- a small checker of the text format --- */

static const char *skip_name(const char *p)
{
    ck_assert(isalpha((unsigned char)*p) || *p == '_');
    while (isalnum((unsigned char)*p) || *p == '_' || *p == ':')
        p++;
    return p;
}

static const char *skip_labels(const char *p)
{
    if (*p != '{')
        return p;
    do {
        p = skip_name(p + 1);
        ck_assert_int_eq(*p, '=');
        ck_assert_int_eq(p[1], '"');
        for (p += 2; *p != '"'; p++) {
            ck_assert(*p != '\n' && *p != '\0');
            if (*p == '\\')
                p++;
        }
        p++;
    } while (*p == ',');
    ck_assert_int_eq(*p, '}');
    return p + 1;
}

/* The name of a sample's family: without the suffixes of histograms. */
static struct slice family_of(const char *line, const char *end, bool histogram)
{
    static const char *const suffixes[] = {"_bucket", "_sum", "_count"};
    struct slice name = {line, (size_t)(end - line)};
    for (size_t i = 0; histogram && i < 3; i++) {
        size_t n = strlen(suffixes[i]);
        if (name.len > n && memcmp(end - n, suffixes[i], n) == 0)
            name.len -= n;
    }
    return name;
}

START_TEST(test_text_is_valid_prometheus)
{
    char *text = prometheus(), *save = NULL;
    char seen[256][80], type[16] = "";
    size_t families = 0;
    struct slice current = SLICE_NONE;
    metrics_observe_us(sets[0], H_FANOUT, 10, 1);
    ck_assert_int_eq(text[strlen(text) - 1], '\n');
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            const char *end = skip_name(line + 7);
            ck_assert(*end == ' ' && end[1] != '\0');
            current = (struct slice){line + 7, (size_t)(end - line - 7)};
            for (size_t i = 0; i < families; i++)
                ck_assert_msg(!slice_is(current, seen[i]), "%s twice", seen[i]);
            ck_assert_uint_lt(families, 256);
            snprintf(seen[families++], sizeof(seen[0]), "%.*s", (int)current.len, current.ptr);
            type[0] = '\0';
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            const char *end = skip_name(line + 7);
            ck_assert(slice_eq(current, (struct slice){line + 7, (size_t)(end - line - 7)}));
            ck_assert_str_eq(type, "");
            snprintf(type, sizeof(type), "%s", end + 1);
            ck_assert(!strcmp(type, "gauge") || !strcmp(type, "counter") ||
                      !strcmp(type, "histogram"));
        } else {
            const char *end = skip_name(line);
            ck_assert_str_ne(type, "");
            ck_assert(slice_eq(family_of(line, end, !strcmp(type, "histogram")), current));
            end = skip_labels(end);
            ck_assert_int_eq(*end, ' ');
            char *rest;
            ck_assert(strtod(end + 1, &rest) >= 0);
            ck_assert_int_eq(*rest, '\0');
        }
    }
    ck_assert_uint_gt(families, 20);
    free(text);
}
END_TEST

START_TEST(test_text_shows_what_was_counted)
{
    metrics_add(sets[0], M_CLOSED_SLOW, 3);
    metrics_set(sets[0], M_LOOP_LAG_US, 1500);
    metrics_set(sets[2], M_LOOP_LAG_US, 2000001);
    metrics_add(sets[1], M_GAP_UNKNOWN_ID, 1);
    metrics_set(sets[2], M_REDIS_CLOCK_OFFSET_US, (uint64_t)-1500000);
    char *text = prometheus();
    expect_line(text, "sse_relay_redis_clock_offset_seconds -1.500000");
    expect_line(text, "sse_relay_streams_closed_total{reason=\"slow\"} 3");
    expect_line(text, "sse_relay_streams_closed_total{reason=\"client\"} 0");
    expect_line(text, "sse_relay_gaps_total{reason=\"unknown-id\"} 1");
    expect_line(text, "sse_relay_loop_lag_seconds{worker=\"0\"} 0.001500");
    expect_line(text, "sse_relay_loop_lag_seconds{worker=\"1\"} 0.000000");
    expect_line(text, "sse_relay_loop_lag_seconds{worker=\"bus\"} 2.000001");
    expect_line(text, "sse_relay_build_info{version=\"1.2.3\",node=\"no\\\"de\\\\\\n1\","
                      "redis=\"memory\"} 1");
    ck_assert_ptr_nonnull(strstr(text, "\nprocess_resident_memory_bytes "));
    ck_assert_ptr_nonnull(strstr(text, "\nprocess_open_fds "));
    const char *start = strstr(text, "\nprocess_start_time_seconds ");
    ck_assert_ptr_nonnull(start);
    ck_assert(atof(start + 28) > 1.6e9);
    free(text);
}
END_TEST

static double open_files(void)
{
    char *text = prometheus();
    const char *line = strstr(text, "\nprocess_open_fds ");
    ck_assert_ptr_nonnull(line);
    double n = atof(line + 18);
    free(text);
    return n;
}

START_TEST(test_open_files_are_counted_one_by_one)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t most = limit.rlim_cur < 4096 ? limit.rlim_cur : 4096; /* files of a test are below */
    double before = 0;
    for (int fd = 0; fd < (int)most; fd++)
        before += fcntl(fd, F_GETFD) >= 0;
    ck_assert(open_files() == before);
    int fd = dup(0);
    ck_assert_int_ge(fd, 0);
    ck_assert(open_files() == before + 1);
    close(fd);
}
END_TEST

START_TEST(test_histograms_are_cumulative)
{
    metrics_observe_us(sets[0], H_FANOUT, 0, 1);
    metrics_observe_us(sets[0], H_FANOUT, 50, 1);
    metrics_observe_us(sets[1], H_FANOUT, 51, 2);
    metrics_observe_us(sets[1], H_FANOUT, 10000000, 1);
    metrics_observe_us(sets[1], H_FANOUT, 99000000, 1);
    char *text = prometheus();
    expect_line(text, "sse_relay_fanout_seconds_bucket{le=\"0.00005\"} 2");
    expect_line(text, "sse_relay_fanout_seconds_bucket{le=\"0.0001\"} 4");
    expect_line(text, "sse_relay_fanout_seconds_bucket{le=\"5\"} 4");
    expect_line(text, "sse_relay_fanout_seconds_bucket{le=\"10\"} 5");
    expect_line(text, "sse_relay_fanout_seconds_bucket{le=\"+Inf\"} 6");
    expect_line(text, "sse_relay_fanout_seconds_count 6");
    expect_line(text, "sse_relay_fanout_seconds_sum 109.000152");
    free(text);
}
END_TEST

START_TEST(test_bounds_rise_and_say_what_they_are)
{
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        ck_assert(i == 0 || metrics_bounds[i].us > metrics_bounds[i - 1].us);
        ck_assert_uint_eq((uint64_t)(atof(metrics_bounds[i].seconds) * 1e6 + 0.5),
                          metrics_bounds[i].us);
    }
}
END_TEST

static const cJSON *member(const cJSON *tree, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, name);
    ck_assert_msg(item != NULL, "no %s", name);
    return item;
}

START_TEST(test_json_has_the_same_figures)
{
    struct buf b = {0};
    cJSON *tree = NULL;
    metrics_add(sets[0], M_CLIENTS_LIVE, 3);
    metrics_add(sets[0], M_STREAMS_OPENED, 5);
    metrics_set(sets[2], M_REDIS_CLOCK_OFFSET_US, (uint64_t)-250000);
    metrics_observe_us(sets[0], H_LATENCY, 75, 100);
    metrics_put_json(&b, sets, SETS);
    ck_assert_int_eq(json_parse(buf_slice(&b), &tree), OK);
    const cJSON *clients = member(tree, "sse_relay_clients");
    ck_assert_int_eq(member(clients, "live")->valueint, 3);
    ck_assert_int_eq(member(clients, "closing")->valueint, 0);
    ck_assert_int_eq(member(tree, "sse_relay_streams_opened_total")->valueint, 5);
    ck_assert(cJSON_IsNumber(member(member(tree, "sse_relay_loop_lag_seconds"), "bus")));
    ck_assert(member(tree, "sse_relay_redis_clock_offset_seconds")->valuedouble == -0.25);
    const cJSON *latency = member(tree, "sse_relay_latency_seconds");
    ck_assert_int_eq(member(latency, "count")->valueint, 100);
    double p50 = member(latency, "p50")->valuedouble, p99 = member(latency, "p99")->valuedouble;
    ck_assert(p50 > 0.00005 && p50 <= p99 && p99 <= 0.0001);
    ck_assert(cJSON_IsNull(member(member(tree, "sse_relay_fanout_seconds"), "p99")));
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        char name[80];
        snprintf(name, sizeof(name), "sse_relay_%s", metrics_rows[i].name);
        const cJSON *family = member(tree, name);
        if (metrics_rows[i].label)
            ck_assert(cJSON_IsNumber(member(family, metrics_rows[i].value)));
    }
    cJSON_Delete(tree);
    buf_reset(&b);
}
END_TEST

START_TEST(test_types_are_counted_one_by_one)
{
    static char *items[] = {(char *)(uintptr_t)"tick", (char *)(uintptr_t)"a\"b"};
    const struct strings types = {items, 2};
    struct buf b = {0};
    cJSON *tree = NULL;
    for (size_t i = 0; i < SETS; i++)
        metrics_set_types(sets[i], &types);
    metrics_add_type(sets[0], 1, 3);
    metrics_add_type(sets[1], 1, 4);
    metrics_add_type(sets[1], 0, 5);
    char *text = prometheus();
    expect_line(text, "# TYPE sse_relay_events_delivered_by_type_total counter");
    expect_line(text, "sse_relay_events_delivered_by_type_total{type=\"tick\"} 7");
    expect_line(text, "sse_relay_events_delivered_by_type_total{type=\"a\\\"b\"} 0");
    expect_line(text, "sse_relay_events_delivered_by_type_total{type=\"other\"} 5");
    free(text);
    metrics_put_json(&b, sets, SETS);
    ck_assert_int_eq(json_parse(buf_slice(&b), &tree), OK);
    const cJSON *family = member(tree, "sse_relay_events_delivered_by_type_total");
    ck_assert_int_eq(member(family, "tick")->valueint, 7);
    ck_assert_int_eq(member(family, "other")->valueint, 5);
    cJSON_Delete(tree);
    buf_reset(&b);
}
END_TEST

START_TEST(test_without_types_there_is_no_such_series)
{
    struct buf b = {0};
    const struct strings none = {0};
    for (size_t i = 0; i < SETS; i++)
        metrics_set_types(sets[i], &none);
    char *text = prometheus();
    ck_assert_ptr_null(strstr(text, "by_type"));
    free(text);
    metrics_put_json(&b, sets, SETS);
    ck_assert_ptr_null(memmem(b.ptr, b.len, "by_type", 7));
    buf_reset(&b);
}
END_TEST

static void *count_many(void *arg)
{
    for (int i = 0; i < 100000; i++) {
        metrics_add(arg, M_WRITES, 1);
        metrics_observe_us(arg, H_FANOUT, 1, 1);
    }
    return NULL;
}

START_TEST(test_reading_while_threads_count_never_goes_back)
{
    pthread_t threads[SETS];
    uint64_t last = 0;
    for (size_t i = 0; i < SETS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_many, sets[i]), 0);
    for (int i = 0; i < 50; i++) {
        uint64_t now = metrics_total(sets, SETS, M_WRITES);
        ck_assert_uint_ge(now, last);
        last = now;
        free(prometheus());
    }
    for (size_t i = 0; i < SETS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(metrics_total(sets, SETS, M_WRITES), 300000);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("metrics");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_totals_add_up_over_threads);
    tcase_add_test(cases, test_lag_and_draining_are_the_largest);
    tcase_add_test(cases, test_families_stand_together_and_are_named_by_the_rules);
    tcase_add_test(cases, test_text_is_valid_prometheus);
    tcase_add_test(cases, test_text_shows_what_was_counted);
    tcase_add_test(cases, test_open_files_are_counted_one_by_one);
    tcase_add_test(cases, test_histograms_are_cumulative);
    tcase_add_test(cases, test_bounds_rise_and_say_what_they_are);
    tcase_add_test(cases, test_json_has_the_same_figures);
    tcase_add_test(cases, test_types_are_counted_one_by_one);
    tcase_add_test(cases, test_without_types_there_is_no_such_series);
    tcase_add_test(cases, test_reading_while_threads_count_never_goes_back);
    return tests_run(cases);
}
