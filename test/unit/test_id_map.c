/* SPDX-License-Identifier: Apache-2.0 */
/* Each id has exactly the things it was given, whatever else is there. */
#include <check.h>
#include <stdlib.h>

#include "relay/core/id_map.h"
#include "rng.h"
#include "test/unit/tests_run.h"

enum { PAIRS = 20000, IDS = 3000 };

static char things[PAIRS];

START_TEST(test_an_id_has_what_it_was_given)
{
    static uint64_t id_of[PAIRS];
    static unsigned times[IDS + 1];
    struct rng rng = rng_seeded("id_map");
    struct id_map *map = id_map_new(0);
    for (size_t i = 0; i < PAIRS; i++) {
        id_of[i] = 1 + rng_below(&rng, IDS);
        times[id_of[i]]++;
        id_map_add(map, id_of[i], &things[i]);
    }
    ck_assert_uint_eq(id_map_count(map), PAIRS);
    for (uint64_t id = 1; id <= IDS; id++) {
        size_t at = 0;
        const char *thing;
        unsigned found = 0;
        while ((thing = id_map_next(map, id, &at))) {
            ck_assert_uint_eq(id_of[thing - things], id);
            things[thing - things]++;
            found++;
        }
        ck_assert_uint_eq(found, times[id]);
        ck_assert_ptr_null(id_map_next(map, id, &at));
    }
    for (size_t i = 0; i < PAIRS; i++)
        ck_assert_int_eq(things[i], 1);
    id_map_free(map);
}
END_TEST

START_TEST(test_an_id_that_was_never_added_has_nothing)
{
    struct id_map *map = id_map_new(100);
    size_t at = 0;
    ck_assert_ptr_null(id_map_next(map, 7, &at));
    for (uint64_t id = 1; id <= 100; id++)
        id_map_add(map, id, things);
    at = 0;
    ck_assert_ptr_null(id_map_next(map, 101, &at));
    id_map_free(map);
    id_map_free(NULL);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("id_map");
    tcase_add_test(cases, test_an_id_has_what_it_was_given);
    tcase_add_test(cases, test_an_id_that_was_never_added_has_nothing);
    return tests_run(cases);
}
