/* Events are shared by all threads: meant for ThreadSanitizer. */
#include "common/event.h"
#include <check.h>
#include <pthread.h>

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

int main(void)
{
    TCase *tests = tcase_create("event threads");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_last_reference_frees_whoever_holds_it);
    Suite *suite = suite_create("event threads");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
