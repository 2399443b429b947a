/* SPDX-License-Identifier: Apache-2.0 */
/* The libmicrohttpd that is there passes; layouts that are not as expected do not. */
#include <check.h>
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "relay/http/front_pool.h"
#include "test/unit/tests_run.h"

enum { POOL = 25600, HEADER = 43 };

/* A pool as it is expected to be. */
static struct {
    char *memory;
    size_t size;
    struct front_pool_view view;
} world;

static void note_name(size_t at)
{
    uintptr_t name = (uintptr_t)world.view.name;
    memcpy(world.memory + at, &name, sizeof(name));
}

static void setup(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    world.size = (POOL + page - 1) / page * page;
    /* With a page behind it that nobody may read. */
    world.memory =
        mmap(NULL, world.size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(world.memory, MAP_FAILED);
    ck_assert_int_eq(mprotect(world.memory + world.size, page, PROT_NONE), 0);
    memcpy(world.memory,
           "GET\0/pool\0known\0"
           "1\0HTTP/1.1",
           27);
    world.view =
        (struct front_pool_view){world.memory, world.memory + 4, world.memory + 10, HEADER};
}

static void teardown(void)
{
    munmap(world.memory, world.size + (size_t)sysconf(_SC_PAGESIZE));
}

static bool fits(void)
{
    return front_pool_fits(&world.view, HEADER, POOL);
}

static size_t open_files(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

START_TEST(test_the_libmicrohttpd_that_is_there_is_known)
{
    static const size_t sizes[] = {2048, 8192, 25601, 27648, 32768, 32769, 140000};
    size_t files = open_files();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        ck_assert_msg(front_pool_is_known(sizes[i]), "with %zu bytes", sizes[i]);
    ck_assert_uint_eq(open_files(), files);
}
END_TEST

START_TEST(test_the_layout_that_is_expected_fits)
{
    note_name(POOL - 48);
    ck_assert(fits());
}
END_TEST

START_TEST(test_a_pool_of_whole_pages_fits)
{
    note_name(world.size - 48);
    ck_assert(fits());
}
END_TEST

START_TEST(test_a_smaller_pool_does_not)
{
    note_name(POOL - 48 - 64);
    ck_assert(!fits());
}
END_TEST

START_TEST(test_a_pool_that_ends_with_the_memory_does_no_harm)
{
    ck_assert(!front_pool_fits(&world.view, HEADER, world.size));
    ck_assert(!front_pool_fits(&world.view, HEADER, 2 * world.size));
}
END_TEST

START_TEST(test_another_beginning_does_not)
{
    note_name(POOL - 48);
    world.view.header_size++;
    ck_assert(!fits());
    world.view.header_size--;
    world.view.path++;
    ck_assert(!fits());
    world.view.path--;
    world.view.method = "GET";
    ck_assert(!fits());
    world.view.method = NULL;
    ck_assert(!fits());
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("front_pool");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_the_libmicrohttpd_that_is_there_is_known);
    tcase_add_test(cases, test_the_layout_that_is_expected_fits);
    tcase_add_test(cases, test_a_pool_of_whole_pages_fits);
    tcase_add_test(cases, test_a_smaller_pool_does_not);
    tcase_add_test(cases, test_a_pool_that_ends_with_the_memory_does_no_harm);
    tcase_add_test(cases, test_another_beginning_does_not);
    return tests_run(cases);
}
