/* SPDX-License-Identifier: Apache-2.0 */
/* How the flush interval of one connection follows what its socket takes: docs/protocol.md, 4.7. */
#include "relay/fanout/flow_level.h"
#include "test/unit/tests_run.h"

/* A row: flushes that found the connection so full, and the interval after each. */
static const struct row {
    uint64_t flush_ms;
    struct {
        double saturation;
        uint64_t interval_ms;
    } steps[12];
} table[] = {
    /* up at once, to four times, and no further */
    {2000, {{0.6, 4000}, {1, 8000}, {1, 8000}, {7.5, 8000}}},
    /* half is not more than half; a tenth is not less than a tenth */
    {2000, {{0.5, 2000}, {0.5, 2000}, {0.1, 2000}, {0.1, 2000}, {0.1, 2000}, {0.1, 2000}}},
    /* down after four in a row, to a quarter */
    {2000,
     {{0, 2000},
      {0, 2000},
      {0, 2000},
      {0, 1000},
      {0, 1000},
      {0, 1000},
      {0, 1000},
      {0, 500},
      {0, 500},
      {0, 500},
      {0, 500},
      {0, 500}}},
    /* one in between begins the count anew, whether it is full or only not empty */
    {2000,
     {{0, 2000}, {0, 2000}, {0, 2000}, {0.3, 2000}, {0, 2000}, {0, 2000}, {0, 2000}, {0, 1000}}},
    {2000,
     {{0, 2000}, {0, 2000}, {0, 2000}, {0.9, 4000}, {0, 4000}, {0, 4000}, {0, 4000}, {0, 2000}}},
    /* recovery takes as many steps as the way up had */
    {1000,
     {{1, 2000},
      {1, 4000},
      {0, 4000},
      {0, 4000},
      {0, 4000},
      {0, 2000},
      {0, 2000},
      {0, 2000},
      {0, 2000},
      {0, 1000}}},
    /* never below 100 ms, but what is less to begin with; never above 10 s, but what is more */
    {200, {{0, 200}, {0, 200}, {0, 200}, {0, 100}, {0, 100}, {0, 100}, {0, 100}, {0, 100}}},
    {40, {{0, 40}, {0, 40}, {0, 40}, {0, 40}, {1, 40}, {1, 80}, {1, 160}}},
    {4000, {{1, 8000}, {1, 10000}, {1, 10000}}},
    {30000, {{1, 30000}, {1, 30000}, {0, 30000}, {0, 30000}, {0, 30000}, {0, 30000}}},
    {60000, {{0, 60000}, {0, 60000}, {0, 60000}, {0, 30000}}},
};

START_TEST(test_the_interval_follows_what_the_socket_takes)
{
    const struct row *row = &table[_i];
    struct flow_level level = flow_level_start();
    ck_assert_uint_eq(flow_level_interval_ms(&level, row->flush_ms), row->flush_ms);
    for (size_t i = 0; i < 12 && row->steps[i].interval_ms; i++) {
        flow_level_observe(&level, row->steps[i].saturation);
        ck_assert_msg(flow_level_interval_ms(&level, row->flush_ms) == row->steps[i].interval_ms,
                      "row %d, step %zu: %llu ms", _i, i,
                      (unsigned long long)flow_level_interval_ms(&level, row->flush_ms));
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("flow_level");
    tcase_add_loop_test(tcase, test_the_interval_follows_what_the_socket_takes, 0,
                        (int)(sizeof(table) / sizeof(table[0])));
    return tests_run(tcase);
}
