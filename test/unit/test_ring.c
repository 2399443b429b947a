/* SPDX-License-Identifier: Apache-2.0 */
/* The growing ring: first in, first out over every wrap and growth, whatever the size of a slot. */
#include <check.h>
#include <stdlib.h>

#include "common/ring.h"
#include "test/unit/tests_run.h"

struct item {
    uint64_t number;
    char rest[5];
};

START_TEST(test_is_a_queue_over_wraps_and_growth)
{
    struct ring ring = {0};
    struct item *items = NULL;
    uint64_t in = 0, out = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 1 + round % 23; i++) {
            if (ring.count == ring.cap)
                items = ring_grow(&ring, items, sizeof(*items), 4);
            items[ring_push(&ring)] = (struct item){.number = in++};
        }
        for (uint32_t i = 0; i < ring.count; i++)
            ck_assert_uint_eq(items[ring_at(&ring, i)].number, out + i);
        for (unsigned i = 0; i < 1 + round % 19 && ring.count; i++)
            ck_assert_uint_eq(items[ring_pop(&ring)].number, out++);
        ck_assert_uint_eq(ring.count, in - out);
        ck_assert_uint_eq(ring.cap & (ring.cap - 1), 0);
    }
    free(items);
}
END_TEST

START_TEST(test_grows_from_every_head_in_order)
{
    for (uint32_t head = 0; head < 8; head++) {
        struct ring ring = {0};
        uint32_t *items = ring_grow(&ring, NULL, sizeof(*items), 8);
        ck_assert_uint_eq(ring.cap, 8);
        for (uint32_t i = 0; i < head; i++) {
            ring_push(&ring);
            ring_pop(&ring);
        }
        ck_assert_uint_eq(ring.head, head);
        for (uint32_t i = 0; i < 8; i++)
            items[ring_push(&ring)] = i;
        items = ring_grow(&ring, items, sizeof(*items), 8);
        ck_assert_uint_eq(ring.cap, 16);
        ck_assert_uint_eq(ring.count, 8);
        for (uint32_t i = 0; i < 8; i++)
            ck_assert_uint_eq(items[ring_at(&ring, i)], i);
        free(items);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("ring");
    tcase_add_test(tests, test_is_a_queue_over_wraps_and_growth);
    tcase_add_test(tests, test_grows_from_every_head_in_order);
    return tests_run(tests);
}
