/* SPDX-License-Identifier: Apache-2.0 */
/* What event_set.c promises. */
#include <check.h>
#include <stdlib.h>
#include "relay/core/event_set.h"
#include "test/unit/tests_run.h"

static struct event *event_of(const char *topic, uint64_t id)
{
    struct event_fields fields = {
        .id = id, .retry_ms = -1, .ns = SLICE_LIT("ns"), .topic = slice_of(topic)};
    return event_new(&fields, 0);
}

static void add(struct event_set *set, const char *topic, uint64_t id, unsigned era)
{
    struct event *ev = event_of(topic, id);
    event_set_add(set, ev, era);
    event_unref(ev);
}

static bool has(const struct event_set *set, const char *topic, uint64_t id)
{
    struct event *ev = event_of(topic, id);
    bool answer = event_set_has(set, ev);
    event_unref(ev);
    return answer;
}

static bool has_before(const struct event_set *set, uint64_t id, unsigned era)
{
    struct event *ev = event_of("a", id);
    bool answer = event_set_has_before(set, ev, era);
    event_unref(ev);
    return answer;
}

START_TEST(test_has_what_was_added)
{
    struct event_set *set = event_set_new(8, true);
    ck_assert(!has(set, "a", 1));
    add(set, "a", 1, 0);
    add(set, "b", 2, 0);
    ck_assert(has(set, "a", 1) && has(set, "b", 2) && !has(set, "a", 3));
    ck_assert(!has(set, "b", 1)); /* the same event on another topic is another */
    event_set_free(set);
}
END_TEST

START_TEST(test_has_the_event_before_one)
{
    struct event_set *set = event_set_new(8, true);
    struct event_fields fields = {.id = 9,
                                  .prev = 7,
                                  .has_prev = true,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("ns"),
                                  .topic = SLICE_LIT("a")};
    struct event *ev = event_new(&fields, 0);
    add(set, "a", 9, 0);
    add(set, "b", 7, 0);
    ck_assert(!event_set_has_prev(set, ev));
    add(set, "a", 7, 0);
    ck_assert(event_set_has_prev(set, ev));
    event_unref(ev);
    event_set_free(set);
}
END_TEST

START_TEST(test_without_topics_it_is_the_same_on_another)
{
    struct event_set *set = event_set_new(8, false);
    add(set, "a", 1, 0);
    ck_assert(has(set, "b", 1) && !has(set, "b", 2));
    event_set_free(set);
}
END_TEST

START_TEST(test_the_first_era_counts)
{
    struct event_set *set = event_set_new(8, true);
    add(set, "a", 1, 5);
    add(set, "a", 1, 7);
    ck_assert(!has_before(set, 1, 5));
    ck_assert(has_before(set, 1, 6) && has_before(set, 1, 7));
    ck_assert(!has_before(set, 2, 7));
    event_set_free(set);
}
END_TEST

START_TEST(test_the_oldest_go_first_and_it_knows_from_where)
{
    enum { MAX = 1000 };
    struct event_set *set = event_set_new(MAX, true);
    ck_assert(event_set_reaches(set, 0));
    for (uint64_t id = 1; id <= MAX; id++)
        add(set, "a", id, 0);
    ck_assert(event_set_reaches(set, 0));
    for (uint64_t id = 1; id <= MAX; id++)
        ck_assert(has(set, "a", id));
    for (uint64_t id = MAX + 1; id <= 10 * MAX + 10; id++) {
        add(set, "a", id, 0);
        add(set, "a", id, 1); /* twice is once */
        for (uint64_t last = id; last > id - MAX / 2; last -= 99)
            ck_assert(has(set, "a", last));
    }
    uint64_t forgotten = 10 * MAX - MAX / 2; /* generations of 500 */
    ck_assert(!has(set, "a", forgotten) && has(set, "a", forgotten + 1));
    ck_assert(event_set_reaches(set, forgotten) && !event_set_reaches(set, forgotten - 1));
    event_set_free(set);
    event_set_free(NULL);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("event_set");
    tcase_add_test(cases, test_has_what_was_added);
    tcase_add_test(cases, test_has_the_event_before_one);
    tcase_add_test(cases, test_without_topics_it_is_the_same_on_another);
    tcase_add_test(cases, test_the_first_era_counts);
    tcase_add_test(cases, test_the_oldest_go_first_and_it_knows_from_where);
    return tests_run(cases);
}
