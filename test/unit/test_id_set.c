/* What id_set.c promises. */
#include <check.h>
#include <stdlib.h>
#include "relay/id_set.h"

static bool has(const struct id_set *set, uint64_t id)
{
    return id_set_has_before(set, id, 1);
}

START_TEST(test_the_first_era_counts)
{
    struct id_set *set = id_set_new(3);
    id_set_add(set, 1, 5);
    id_set_add(set, 1, 7);
    ck_assert(!id_set_has_before(set, 1, 5));
    ck_assert(id_set_has_before(set, 1, 6) && id_set_has_before(set, 1, 7));
    id_set_free(set);
}
END_TEST

START_TEST(test_has_what_was_added)
{
    struct id_set *set = id_set_new(3);
    ck_assert(!has(set, 1));
    id_set_add(set, 1, 0);
    id_set_add(set, 2, 0);
    ck_assert(has(set, 1) && has(set, 2) && !has(set, 3));
    id_set_free(set);
}
END_TEST

START_TEST(test_the_oldest_goes_first_and_twice_is_once)
{
    struct id_set *set = id_set_new(3);
    for (uint64_t id = 1; id <= 3; id++)
        id_set_add(set, id, 0);
    id_set_add(set, 1, 0);
    id_set_add(set, 4, 0);
    ck_assert(!has(set, 1));
    for (uint64_t id = 2; id <= 4; id++)
        ck_assert(has(set, id));
    for (uint64_t id = 100; id < 1100; id++)
        id_set_add(set, id, 0);
    ck_assert(!has(set, 1096) && has(set, 1097) && has(set, 1099));
    id_set_free(set);
    id_set_free(NULL);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("id_set");
    tcase_add_test(cases, test_has_what_was_added);
    tcase_add_test(cases, test_the_first_era_counts);
    tcase_add_test(cases, test_the_oldest_goes_first_and_twice_is_once);
    Suite *suite = suite_create("id_set");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
