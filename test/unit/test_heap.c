/* SPDX-License-Identifier: Apache-2.0 */
/* Memory is given back when much has become free: not more often, and not for comings and goings.
 */
#include <check.h>

#include "relay/kit/heap.h"
#include "test/unit/tests_run.h"

#define SECOND UINT64_C(1000000)

START_TEST(test_it_is_due_when_many_have_gone)
{
    struct heap heap = {0};
    ck_assert(!heap_is_due(&heap, 0, 1 * SECOND));
    ck_assert(!heap_is_due(&heap, 10000, 2 * SECOND));
    ck_assert(!heap_is_due(&heap, 8977, 3 * SECOND));
    ck_assert(!heap_is_due(&heap, 8977, 4 * SECOND));
    ck_assert(heap_is_due(&heap, 8976, 5 * SECOND));
    heap_done(&heap, 8976, 4 * SECOND, 100);
    ck_assert(!heap_is_due(&heap, 8976, 1000 * SECOND));
    (void)heap_is_due(&heap, 0, 1001 * SECOND);
    ck_assert(heap_is_due(&heap, 0, 1002 * SECOND));
}
END_TEST

START_TEST(test_it_waits_for_the_last_to_go)
{
    struct heap heap = {0};
    for (uint64_t held = 10000; held > 0; held -= 100)
        ck_assert(!heap_is_due(&heap, held, 60 * SECOND));
    ck_assert(heap_is_due(&heap, 50, 61 * SECOND));
}
END_TEST

START_TEST(test_it_is_not_due_while_as_many_come_as_go)
{
    struct heap heap = {0};
    for (uint64_t i = 0; i < 1000; i++)
        ck_assert(!heap_is_due(&heap, 9000 + i * 7 % 1000, i * SECOND));
}
END_TEST

START_TEST(test_it_takes_a_thousandth_of_the_time_at_most)
{
    struct heap heap = {0};
    (void)heap_is_due(&heap, 5000, 0);
    heap_done(&heap, 5000, 0, 1); /* quick: ten seconds all the same */
    (void)heap_is_due(&heap, 0, 0);
    ck_assert(!heap_is_due(&heap, 0, 10 * SECOND - 1));
    ck_assert(heap_is_due(&heap, 0, 10 * SECOND));
    (void)heap_is_due(&heap, 5000, 10 * SECOND);
    heap_done(&heap, 5000, 10 * SECOND, 50000);
    (void)heap_is_due(&heap, 0, 0);
    ck_assert(!heap_is_due(&heap, 0, 60 * SECOND - 1));
    ck_assert(heap_is_due(&heap, 0, 60 * SECOND));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("heap");
    tcase_add_test(cases, test_it_is_due_when_many_have_gone);
    tcase_add_test(cases, test_it_waits_for_the_last_to_go);
    tcase_add_test(cases, test_it_is_not_due_while_as_many_come_as_go);
    tcase_add_test(cases, test_it_takes_a_thousandth_of_the_time_at_most);
    return tests_run(cases);
}
