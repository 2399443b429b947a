/* SPDX-License-Identifier: Apache-2.0 */
/* The id rule of the lanes, as docs/model/lanes.py has it, of the real thing and of its bytes:
 * lanes_rig.h. LANES_RUNS: how many random schedules; LANES_SCHEDULES: a file of them, one a line,
 * to run instead. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lanes_rig.h"
#include "test/unit/tests_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RUNS = 10000, CUT_SCHEDULES = 8 };
#else
enum { RUNS = 300000, CUT_SCHEDULES = 100 };
#endif

/* What runs now, for whoever is ended by an assertion in it. */
static struct {
    const struct lanes_schedule *schedule;
    size_t cut_at;
    uint64_t seed;
} under_way;

static void print_schedule(const struct lanes_schedule *s, size_t cut_at, uint64_t seed)
{
    struct buf text = {0};
    lanes_schedule_put(s, &text);
    printf("    %.*s\n", (int)text.len, text.ptr);
    printf("    TEST_SEED=%llu", (unsigned long long)seed);
    if (cut_at)
        printf(", cut when %zu bytes have arrived", cut_at);
    printf("\n");
    fflush(stdout);
    buf_reset(&text);
}

static void on_abort(int number)
{
    signal(number, SIG_DFL);
    if (under_way.schedule)
        print_schedule(under_way.schedule, under_way.cut_at, under_way.seed);
    raise(number);
}

static struct lanes_result run(const struct lanes_schedule *s, size_t cut_at, uint64_t seed)
{
    under_way.schedule = s;
    under_way.cut_at = cut_at;
    under_way.seed = seed;
    struct lanes_result result = lanes_run(s, cut_at);
    under_way.schedule = NULL;
    if (!result.violation[0])
        return result;
    struct lanes_schedule shortest = *s;
    lanes_shrink(&shortest, cut_at);
    printf("%s\n", result.violation);
    print_schedule(s, cut_at, seed);
    printf("  the shortest: %s\n", lanes_run(&shortest, cut_at).violation);
    print_schedule(&shortest, cut_at, seed);
    ck_abort_msg("%s", result.violation);
    return result;
}

static unsigned long count_of(const char *name, unsigned long otherwise)
{
    const char *given = getenv(name);
    return given ? strtoul(given, NULL, 10) : otherwise;
}

static void run_file(const char *path)
{
    char line[8192];
    struct lanes_schedule schedule;
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file)) {
        ck_assert_msg(lanes_schedule_read(&schedule, line), "no schedule: %s", line);
        run(&schedule, 0, 0);
    }
    fclose(file);
}

/* Each schedule has a seed of its own, with which it is the first. */
static struct rng next_schedule(struct rng *seeds, struct lanes_schedule *schedule)
{
    struct rng seed = *seeds, rng = *seeds;
    lanes_schedule_draw(schedule, &rng);
    rng_next(seeds);
    return seed;
}

/* That the schedules come to what they are about. */
struct seen {
    uint64_t blocks, told, merged, connections;
};

START_TEST(test_lanes_keep_what_is_promised_in_any_schedule)
{
    struct rng seeds = rng_seeded("client lanes");
    struct seen seen = {0};
    struct lanes_schedule schedule;
    unsigned long runs = count_of("LANES_RUNS", RUNS);
    if (getenv("LANES_SCHEDULES")) {
        run_file(getenv("LANES_SCHEDULES"));
        return;
    }
    for (unsigned long i = 0; i < runs; i++) {
        struct rng seed = next_schedule(&seeds, &schedule);
        struct lanes_result result = run(&schedule, 0, seed.state);
        seen.blocks += result.blocks;
        seen.told += result.told;
        seen.merged += result.merged;
        seen.connections += result.connections;
    }
    if (runs < RUNS)
        return;
    ck_assert_uint_gt(seen.blocks, 5 * runs);
    ck_assert_uint_gt(seen.told, runs / 20);
    ck_assert_uint_gt(seen.merged, runs / 20);
    ck_assert_uint_gt(seen.connections, runs + runs / 3);
}
END_TEST

/* The same schedule again and again, each time cut one byte later. */
START_TEST(test_lanes_may_be_cut_at_every_byte)
{
    struct rng seeds = rng_seeded("client lanes, cut");
    struct lanes_schedule schedule;
    unsigned long count = count_of("LANES_CUT_SCHEDULES", CUT_SCHEDULES);
    for (unsigned long i = 0; i < count; i++) {
        struct rng seed = next_schedule(&seeds, &schedule);
        for (int chunked = 0; chunked < 2; chunked++) {
            schedule.chunked = chunked;
            size_t bytes = run(&schedule, 0, seed.state).arrived;
            for (size_t cut_at = 1; cut_at <= bytes; cut_at++)
                run(&schedule, cut_at, seed.state);
        }
    }
}
END_TEST

/* Found once among some ten million. */
static const char *const FOUND[] = {
    /* A late value that is old news, where what is over has just made way for what waits. */
    "block,all-types,events=3 write:3;pub:i:B:y:w:-:n;pub:i:B:y:w:2:n;pub:b:A:y:w:1:e;take:39;"
    "pub:i:B:x:w:-:n;pub:c:A:y:w:-:n;late:c:A:y:w:1:n",
};

START_TEST(test_what_was_found_once_stays_mended)
{
    struct lanes_schedule schedule;
    ck_assert(lanes_schedule_read(&schedule, FOUND[_i]));
    run(&schedule, 0, 0);
}
END_TEST

START_TEST(test_schedules_read_as_they_are_written)
{
    struct rng seeds = rng_seeded("lanes schedules");
    struct lanes_schedule drawn, read;
    for (int i = 0; i < 1000; i++) {
        struct buf text = {0}, again = {0};
        next_schedule(&seeds, &drawn);
        lanes_schedule_put(&drawn, &text);
        buf_putc(&text, '\0');
        ck_assert(lanes_schedule_read(&read, text.ptr));
        lanes_schedule_put(&read, &again);
        buf_putc(&again, '\0');
        ck_assert_str_eq(text.ptr, again.ptr);
        buf_reset(&text);
        buf_reset(&again);
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("client_lanes");
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    tcase_set_timeout(cases, 280);
    tcase_add_test(cases, test_lanes_keep_what_is_promised_in_any_schedule);
    tcase_add_test(cases, test_lanes_may_be_cut_at_every_byte);
    tcase_add_loop_test(cases, test_what_was_found_once_stays_mended, 0,
                        sizeof(FOUND) / sizeof(*FOUND));
    tcase_add_test(cases, test_schedules_read_as_they_are_written);
    return tests_run(cases);
}
