/* SPDX-License-Identifier: Apache-2.0 */
/* Events are shared by all threads: meant for ThreadSanitizer. */
#include "common/event.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#define THREADS 4
#define ROUNDS 20000

static void *reader(void *arg)
{
    struct event *ev = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct event *mine = event_ref(ev);
        if (event_frame(mine).len == 0)
            return arg;
        event_unref(mine);
    }
    event_unref(ev);
    return NULL;
}

START_TEST(test_last_reference_frees_whoever_holds_it)
{
    struct event_fields fields = {.id = 1, .retry_ms = -1, .data = SLICE_LIT("x")};
    pthread_t threads[THREADS];
    struct event *ev = event_new(&fields, 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, event_ref(ev)), 0);
    event_unref(ev);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
}
END_TEST

#define EVENTS 200

/* Packs what each asks for first; all threads ask for all events in the same order, as workers do.
 */
static void *pack_all(void *arg)
{
    struct event **events = arg;
    struct gzip *g = gzip_new();
    for (int i = 0; i < EVENTS; i++) {
        const struct gzip_block *block;
        while (!(block = event_block(events[i], g)))
            ;
        if (block->len == 0 || block->plain_len != event_frame(events[i]).len)
            return NULL;
    }
    uint64_t *packed = malloc(sizeof(*packed));
    *packed = gzip_take_counts(g).frames;
    gzip_free(g);
    return packed;
}

START_TEST(test_threads_that_ask_together_pack_once)
{
    struct event *events[EVENTS];
    pthread_t threads[THREADS];
    uint64_t total = 0;
    for (int i = 0; i < EVENTS; i++) {
        struct event_fields fields = {.id = 1 + (uint64_t)i,
                                      .retry_ms = -1,
                                      .topic = SLICE_LIT("t"),
                                      .data = SLICE_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")};
        events[i] = event_new(&fields, 0);
    }
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, pack_all, events), 0);
    for (int i = 0; i < THREADS; i++) {
        void *packed;
        pthread_join(threads[i], &packed);
        ck_assert_ptr_nonnull(packed);
        total += *(uint64_t *)packed;
        free(packed);
    }
    ck_assert_uint_eq(total, EVENTS);
    for (int i = 0; i < EVENTS; i++)
        event_unref(events[i]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("event threads");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_last_reference_frees_whoever_holds_it);
    tcase_add_test(tests, test_threads_that_ask_together_pack_once);
    return tests_run(tests);
}
