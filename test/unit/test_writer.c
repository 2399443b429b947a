/* SPDX-License-Identifier: Apache-2.0 */
/* What writer.c promises, by io_uring (where the kernel allows it) and without. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "relay/kit/writer.h"
#include "test/unit/tests_run.h"

static struct writer *writer;
static int near[WRITER_BATCH], far[WRITER_BATCH];

static void setup(void)
{
    for (int i = 0; i < WRITER_BATCH; i++) {
        int pair[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        near[i] = pair[0];
        far[i] = pair[1];
    }
}

static void teardown(void)
{
    writer_free(writer);
    for (int i = 0; i < WRITER_BATCH; i++) {
        close(near[i]);
        if (far[i] >= 0)
            close(far[i]);
    }
}

static struct iovec text(const char *s)
{
    return (struct iovec){(void *)(uintptr_t)s, strlen(s)};
}

static void expect(int i, const char *what)
{
    char got[64] = "";
    ck_assert_int_eq(recv(far[i], got, sizeof(got) - 1, 0), (ssize_t)strlen(what));
    ck_assert_str_eq(got, what);
}

/* _i: with io_uring. */
START_TEST(test_each_socket_gets_its_frames)
{
    writer = writer_new(_i);
    for (size_t count = 1; count <= WRITER_BATCH; count += 9) {
        struct iovec iov[WRITER_BATCH][2];
        struct writer_write writes[WRITER_BATCH];
        for (size_t i = 0; i < count; i++) {
            iov[i][0] = text(i % 3 ? "first " : "one");
            iov[i][1] = text("second");
            writes[i] = (struct writer_write){.fd = near[i], .iov = iov[i], .count = i % 3 ? 2 : 1};
        }
        writer_write(writer, writes, count);
        for (size_t i = 0; i < count; i++) {
            ck_assert_int_eq(writes[i].result, i % 3 ? 12 : 3);
            expect((int)i, i % 3 ? "first second" : "one");
        }
    }
}
END_TEST

START_TEST(test_one_socket_does_not_hold_up_the_others)
{
    enum { COUNT = 8, FULL = 2, GONE = 5, TIGHT = 6, LARGE = 1 << 20 };
    writer = writer_new(_i);
    char *large = calloc(1, LARGE);
    while (send(near[FULL], large, LARGE, MSG_DONTWAIT) > 0)
        ;
    close(far[GONE]);
    far[GONE] = -1;
    struct iovec iov[COUNT];
    struct writer_write writes[COUNT];
    for (int i = 0; i < COUNT; i++) {
        iov[i] = i == TIGHT ? (struct iovec){large, LARGE} : text("x");
        writes[i] = (struct writer_write){.fd = near[i], .iov = &iov[i], .count = 1};
    }
    writer_write(writer, writes, COUNT);
    for (int i = 0; i < COUNT; i++) {
        if (i == FULL)
            ck_assert_int_eq(writes[i].result, -EAGAIN);
        else if (i == GONE)
            ck_assert_int_eq(writes[i].result, -EPIPE); /* and no SIGPIPE */
        else if (i == TIGHT)
            ck_assert(writes[i].result > 0 && writes[i].result < LARGE);
        else
            ck_assert_int_eq(writes[i].result, 1);
    }
    free(large);
}
END_TEST

START_TEST(test_nothing_to_write_is_fine)
{
    writer = writer_new(_i);
    writer_write(writer, NULL, 0);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("writer");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, test_each_socket_gets_its_frames, 0, 2);
    tcase_add_loop_test(cases, test_one_socket_does_not_hold_up_the_others, 0, 2);
    tcase_add_loop_test(cases, test_nothing_to_write_is_fine, 0, 2);
    return tests_run(cases);
}
