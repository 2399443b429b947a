/* SPDX-License-Identifier: Apache-2.0 */
/* Connection ids: their text, their randomness, and how a worker finds a stream by one. */
#include <check.h>
#include <stdlib.h>

#include "common/mem.h"
#include "relay/fanout/id_pool.h"
#include "relay/fanout/id_table.h"
#include "test/unit/tests_run.h"

enum { MANY = 5000 };

START_TEST(test_each_is_found_as_the_table_grows_and_empties)
{
    struct id_pool pool = {0};
    struct id_table table;
    struct id_entry *all = mem_zero(MANY, sizeof(*all));
    struct connection_id *ids = mem_zero(MANY, sizeof(*ids));
    id_table_init(&table);
    for (size_t i = 0; i < MANY; i++) {
        id_pool_take(&pool, &ids[i]);
        id_table_add(&table, &all[i], ids[i].secret);
    }
    for (size_t i = 0; i < MANY; i++)
        ck_assert_ptr_eq(id_table_find(&table, &ids[i]), &all[i]);
    for (size_t i = 0; i < MANY; i += 2)
        id_table_remove(&table, &all[i]);
    for (size_t i = 0; i < MANY; i++)
        ck_assert_ptr_eq(id_table_find(&table, &ids[i]), i % 2 ? &all[i] : NULL);
    for (size_t i = 1; i < MANY; i += 2)
        id_table_remove(&table, &all[i]);
    id_table_reset(&table);
    free(ids);
    free(all);
}
END_TEST

START_TEST(test_all_of_an_id_must_be_right)
{
    struct id_table table;
    struct id_entry entry = {0}, same_bucket = {0};
    struct connection_id id = {.slot = connection_id_slot(0x1000), .secret = 0x1000};
    struct connection_id other = {.slot = connection_id_slot(0x3000), .secret = 0x3000};
    id_table_init(&table);
    id_table_add(&table, &entry, 0x1000);
    id_table_add(&table, &same_bucket, 0x2000);
    ck_assert_ptr_eq(id_table_find(&table, &id), &entry);
    ck_assert_ptr_null(id_table_find(&table, &other));
    id.slot++;
    ck_assert_ptr_null(id_table_find(&table, &id));
    id_table_remove(&table, &entry);
    id_table_remove(&table, &same_bucket);
    id_table_reset(&table);
}
END_TEST

/* --- ids -------------------------------------------------------------------------------------- */

static int compare_secrets(const void *a, const void *b)
{
    const struct connection_id *x = a, *y = b;
    return x->secret < y->secret ? -1 : x->secret > y->secret;
}

START_TEST(test_ids_are_distinct)
{
    struct id_pool pool = {0};
    struct connection_id *ids = mem_zero(MANY, sizeof(*ids));
    uint64_t any = 0, all = UINT64_MAX;
    for (size_t i = 0; i < MANY; i++) {
        id_pool_take(&pool, &ids[i]);
        ck_assert_uint_eq(ids[i].slot, connection_id_slot(ids[i].secret));
        any |= ids[i].secret;
        all &= ids[i].secret;
    }
    ck_assert_uint_eq(any, UINT64_MAX); /* each bit is 1 in some, and 0 in others */
    ck_assert_uint_eq(all, 0);
    qsort(ids, MANY, sizeof(*ids), compare_secrets);
    for (size_t i = 1; i < MANY; i++)
        ck_assert_uint_ne(ids[i - 1].secret, ids[i].secret);
    free(ids);
}
END_TEST

START_TEST(test_an_id_survives_its_text)
{
    struct connection_id id = {.tag = 0xfedcba98, .worker = 0xab, .slot = 0xfffffe, .secret = 1};
    struct connection_id back = {0};
    struct buf text = {0};
    connection_id_put(&text, &id);
    ck_assert(slice_is(buf_slice(&text), "fedcba98abfffffe0000000000000001"));
    ck_assert_int_eq(connection_id_parse(buf_slice(&text), &back), OK);
    ck_assert(back.tag == id.tag && back.worker == id.worker && back.slot == id.slot);
    ck_assert_uint_eq(back.secret, id.secret);
    text.ptr[31] = 'G';
    ck_assert_int_eq(connection_id_parse(buf_slice(&text), &back), ERR_INVALID);
    text.ptr[31] = 'A'; /* two texts of one id must not exist */
    ck_assert_int_eq(connection_id_parse(buf_slice(&text), &back), ERR_INVALID);
    text.len--;
    ck_assert_int_eq(connection_id_parse(buf_slice(&text), &back), ERR_INVALID);
    buf_reset(&text);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("id_table");
    tcase_add_test(cases, test_each_is_found_as_the_table_grows_and_empties);
    tcase_add_test(cases, test_all_of_an_id_must_be_right);
    tcase_add_test(cases, test_ids_are_distinct);
    tcase_add_test(cases, test_an_id_survives_its_text);
    return tests_run(cases);
}
