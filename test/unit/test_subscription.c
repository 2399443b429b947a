/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream asks for, shared by count. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/core/subscription.h"
#include "test/unit/tests_run.h"

static struct subscription *make(const char *first, const char *second)
{
    struct subscription_request request = {
        .ns = mem_dup("shop", 4), .cursor = CURSOR_ID, .cursor_value = 7};
    request.topics.items = mem_zero(1, sizeof(char *));
    request.topics.items[0] = mem_dup("a.*", 3);
    request.topics.count = 1;
    request.types.items = mem_zero(2, sizeof(char *));
    if (first)
        request.types.items[request.types.count++] = mem_dup(first, strlen(first));
    if (second)
        request.types.items[request.types.count++] = mem_dup(second, strlen(second));
    struct subscription *s = subscription_new(&request);
    ck_assert_ptr_null(request.ns); /* it is the subscription's now */
    ck_assert_uint_eq(request.topics.count, 0);
    return s;
}

START_TEST(test_it_holds_the_request)
{
    struct subscription *s = make(NULL, NULL);
    ck_assert(slice_is(subscription_ns(s), "shop"));
    ck_assert_str_eq(subscription_request(s)->topics.items[0], "a.*");
    ck_assert_uint_eq(subscription_request(s)->cursor_value, 7);
    subscription_unref(s);
    subscription_unref(NULL);
}
END_TEST

START_TEST(test_without_types_all_are_wanted)
{
    struct subscription *s = make(NULL, NULL);
    ck_assert(subscription_wants_type(s, SLICE_NONE));
    ck_assert(subscription_wants_type(s, SLICE_LIT("tick")));
    subscription_unref(s);
}
END_TEST

START_TEST(test_with_types_only_these_are_wanted)
{
    struct subscription *s = make("tick", "tock");
    ck_assert(subscription_wants_type(s, SLICE_LIT("tick")));
    ck_assert(subscription_wants_type(s, SLICE_LIT("tock")));
    ck_assert(!subscription_wants_type(s, SLICE_LIT("tic")));
    ck_assert(!subscription_wants_type(s, SLICE_LIT("Tick")));
    ck_assert(!subscription_wants_type(s, SLICE_NONE));
    subscription_unref(s);
}
END_TEST

static const struct {
    const char *type; /* that the node gives it */
    bool untyped;
    bool wants_plain, wants_swapped; /* who wants "tick" and "a.b" */
} shown[] = {
    {"tick", false, true, true}, {"tack", false, false, false},
    {NULL, true, false, true},   /* its topic stands for its type */
    {"a.b", true, true, false},  /* it does already, and is taken off */
    {NULL, false, false, false}, /* its topic may stand for none */
};

START_TEST(test_types_are_those_that_the_stream_is_shown)
{
    struct event_fields fields = {.id = 1,
                                  .retry_ms = -1,
                                  .topic = SLICE_LIT("a.b"),
                                  .type = slice_of(shown[_i].type),
                                  .data = SLICE_LIT("x"),
                                  .is_untyped = shown[_i].untyped};
    struct event *ev = event_new(&fields, 0);
    for (int swaps = 0; swaps < 2; swaps++) {
        struct subscription_request request = {.ns = mem_dup("shop", 4),
                                               .event_format = swaps ? EVENT_SWAPS_TYPE : 0};
        strings_add(&request.topics, SLICE_LIT("a.*"));
        strings_add(&request.types, SLICE_LIT("tick"));
        strings_add(&request.types, SLICE_LIT("a.b"));
        struct subscription *s = subscription_new(&request);
        ck_assert_int_eq(subscription_wants_event(s, ev),
                         swaps ? shown[_i].wants_swapped : shown[_i].wants_plain);
        subscription_unref(s);
    }
    event_unref(ev);
}
END_TEST

static void *share(void *arg)
{
    for (int i = 0; i < 10000; i++)
        subscription_unref(subscription_ref(arg));
    subscription_unref(arg);
    return NULL;
}

START_TEST(test_the_last_of_several_threads_frees)
{
    pthread_t threads[3];
    struct subscription *s = make("tick", NULL);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, share, subscription_ref(s)), 0);
    subscription_unref(s);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("subscription");
    tcase_add_test(cases, test_it_holds_the_request);
    tcase_add_test(cases, test_without_types_all_are_wanted);
    tcase_add_test(cases, test_with_types_only_these_are_wanted);
    tcase_add_loop_test(cases, test_types_are_those_that_the_stream_is_shown, 0,
                        sizeof(shown) / sizeof(shown[0]));
    tcase_add_test(cases, test_the_last_of_several_threads_frees);
    return tests_run(cases);
}
