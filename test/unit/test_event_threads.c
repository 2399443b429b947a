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

static void *hold_and_pack(void *arg)
{
    struct event **events = arg;
    struct gzip *g = gzip_new();
    for (int i = 0; i < EVENTS; i++) {
        while (!event_block(events[i], g))
            ;
        event_unref(events[i]);
    }
    gzip_free(g);
    return NULL;
}

/* Whoever makes, packs and frees it. */
START_TEST(test_bytes_are_counted_once_and_given_back)
{
    struct event *events[EVENTS];
    pthread_t threads[THREADS];
    size_t before = event_live_bytes(), frames = 0;
    for (int i = 0; i < EVENTS; i++) {
        struct event_fields fields = {.id = 1 + (uint64_t)i,
                                      .retry_ms = -1,
                                      .topic = SLICE_LIT("t"),
                                      .data = SLICE_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")};
        events[i] = event_new(&fields, 0);
        frames += event_frame(events[i]).len;
        for (int t = 1; t < THREADS; t++)
            event_ref(events[i]);
    }
    size_t made = event_live_bytes() - before;
    ck_assert_uint_gt(made, frames);
    ck_assert_uint_lt(made, frames + EVENTS * 512);
    for (int i = 0; i < EVENTS; i++)
        event_ref(events[i]);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hold_and_pack, events), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    size_t packed = event_live_bytes() - before;
    ck_assert_uint_gt(packed, made);
    ck_assert_uint_lt(packed, 2 * made);
    for (int i = 0; i < EVENTS; i++)
        event_unref(events[i]);
    ck_assert_uint_eq(event_live_bytes(), before);
}
END_TEST

START_TEST(test_what_a_log_has_is_not_counted)
{
    size_t before = event_live_bytes();
    struct event_fields fields = {
        .id = 1, .retry_ms = -1, .topic = SLICE_LIT("t"), .data = SLICE_LIT("x")};
    struct event *ev = event_new(&fields, 0);
    struct gzip *g = gzip_new();
    size_t own = event_live_bytes() - before;
    event_set_stored(ev, true);
    event_set_stored(ev, true);
    ck_assert_uint_eq(event_live_bytes(), before);
    ck_assert_ptr_nonnull(event_block(ev, g));
    ck_assert_uint_eq(event_live_bytes(), before);
    event_set_stored(ev, false);
    ck_assert_uint_eq(event_live_bytes(), before + own);
    event_unref(ev);
    ck_assert_uint_eq(event_live_bytes(), before);
    gzip_free(g);
}
END_TEST

START_TEST(test_events_of_every_make_are_counted)
{
    size_t before = event_live_bytes();
    struct event_fields fields = {.id = 1,
                                  .retry_ms = -1,
                                  .lane = LANE_APPENDED,
                                  .has_match = true,
                                  .ns = SLICE_LIT("ns"),
                                  .topic = SLICE_LIT("t"),
                                  .type = SLICE_LIT("a\nb"),
                                  .key = SLICE_LIT("k"),
                                  .data = SLICE_LIT("x\r\ny")};
    struct event *one = event_new(&fields, 0), *frame = event_new_frame(0, SLICE_LIT("")),
                 *with_id = event_new_with_id(one, 7),
                 *joined = event_join((struct event *[]){one, one}, 2);
    struct event *all[] = {one, frame, with_id, joined};
    for (size_t i = 0; i < 4; i++) {
        size_t was = event_live_bytes(), len = event_frame(all[i]).len;
        event_unref(all[i]);
        ck_assert_uint_gt(was - event_live_bytes(), len);
    }
    ck_assert_uint_eq(event_live_bytes(), before);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("event threads");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_last_reference_frees_whoever_holds_it);
    tcase_add_test(tests, test_threads_that_ask_together_pack_once);
    tcase_add_test(tests, test_bytes_are_counted_once_and_given_back);
    tcase_add_test(tests, test_what_a_log_has_is_not_counted);
    tcase_add_test(tests, test_events_of_every_make_are_counted);
    return tests_run(tests);
}
