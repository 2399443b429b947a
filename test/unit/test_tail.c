/* SPDX-License-Identifier: Apache-2.0 */
/* What tail.c promises: complete or not at all, bounded, and holes are seen. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "relay/core/tail.h"
#include "rng.h"
#include "test/unit/tests_run.h"

static const struct slice ns = SLICE_LIT("default"), a = SLICE_LIT("a"), b = SLICE_LIT("b");
static struct tails *tails;

static void setup(void)
{
    tails = tails_new();
    tails_limit(tails, 4, 1 << 20);
}

static void teardown(void)
{
    tails_free(tails);
}

static struct event *event_of(struct slice topic, uint64_t id, uint64_t prev, size_t bytes)
{
    static char data[100000];
    memset(data, 'x', sizeof(data));
    struct event_fields fields = {.id = id,
                                  .prev = prev,
                                  .has_prev = prev != EVENT_PREV_UNKNOWN,
                                  .retry_ms = -1,
                                  .ns = ns,
                                  .topic = topic,
                                  .data = {data, bytes}};
    return event_new(&fields, 0);
}

static enum tail_add add_sized(struct slice topic, uint64_t id, uint64_t prev, size_t bytes)
{
    struct event *ev = event_of(topic, id, prev, bytes);
    enum tail_add verdict = tails_add(tails, ev);
    event_unref(ev);
    return verdict;
}

static enum tail_add add(struct slice topic, uint64_t id, uint64_t prev)
{
    return add_sized(topic, id, prev, 1);
}

static void insert(struct slice topic, uint64_t id, uint64_t prev)
{
    struct event *ev = event_of(topic, id, prev, 1);
    tails_insert(tails, ev);
    event_unref(ev);
}

/* What is read after @cursor, as "10 20 "; "-" where the tail does not reach that far back. */
static const char *after(struct slice topic, uint64_t cursor)
{
    static char text[400];
    struct event *events[20] = {NULL};
    size_t len = 0;
    if (!tails_cover(tails, ns, topic, cursor))
        return "-";
    struct event_clock now = {0};
    size_t count = tails_read(tails, ns, topic, cursor, &now, events, 20);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%llu ",
                                (unsigned long long)event_id(events[i]));
    return text;
}

static void fill(struct slice topic, uint64_t from, uint64_t upto, uint64_t last, size_t count,
                 const uint64_t *ids)
{
    struct event *events[20] = {NULL};
    for (size_t i = 0; i < count; i++)
        events[i] = event_of(topic, ids[i], EVENT_PREV_UNKNOWN, 1);
    tails_fill(tails, ns, topic, from, upto, last, events, count);
    for (size_t i = 0; i < count; i++)
        event_unref(events[i]);
}

#define IDS(...)                                                                                   \
    sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (const uint64_t[])                       \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* --- the chain ------------------------------------------------------------------------------- */

START_TEST(test_a_chain_goes_on_and_a_hole_in_it_shows)
{
    ck_assert_int_eq(add(a, 20, 10), TAIL_NEXT);
    ck_assert_int_eq(add(a, 30, 20), TAIL_NEXT);
    ck_assert_int_eq(add(a, 50, 40), TAIL_HOLE);
    ck_assert_uint_eq(tails_last(tails, ns, a), 30);
    ck_assert_int_eq(add(a, 40, 30), TAIL_NEXT);
    ck_assert_int_eq(add(a, 50, 40), TAIL_NEXT);
    ck_assert_str_eq(after(a, 10), "20 30 40 50 ");
}
END_TEST

START_TEST(test_what_is_known_and_what_was_before_is_not_late)
{
    add(a, 20, 10);
    add(a, 30, 20);
    ck_assert_int_eq(add(a, 30, 20), TAIL_KNOWN);
    ck_assert_int_eq(add(a, 20, 10), TAIL_KNOWN);
    ck_assert_int_eq(add(a, 10, 0), TAIL_KNOWN); /* from before the tail */
    ck_assert_int_eq(add(a, 25, 20), TAIL_LATE);
    insert(a, 25, 20);
    ck_assert_int_eq(add(a, 25, 20), TAIL_KNOWN);
    ck_assert_str_eq(after(a, 10), "20 25 30 ");
    insert(a, 10, 0);
    ck_assert_str_eq(after(a, 10), "20 25 30 "); /* it does not make the tail longer */
    for (uint64_t id = 40; id <= 70; id += 10)
        add(a, id, id - 10);
    ck_assert_int_eq(add(a, 30, 20), TAIL_OLD); /* it was here, and had to go */
    ck_assert_int_eq(add(a, 10, 0), TAIL_KNOWN);
}
END_TEST

START_TEST(test_a_redis_that_forgot_is_no_hole)
{
    add(a, 20, 10);
    ck_assert_int_eq(add(a, 30, 0), TAIL_NEXT);
    ck_assert_int_eq(add(a, 40, EVENT_PREV_UNKNOWN), TAIL_NEXT);
    ck_assert_str_eq(after(a, 10), "20 30 40 ");
}
END_TEST

START_TEST(test_topics_do_not_mix)
{
    static const struct slice other =
        SLICE_LIT("defaulta"); /* ns and topic must not run together */
    add(a, 20, 10);
    ck_assert_uint_eq(tails_last(tails, ns, b), 0);
    ck_assert_uint_eq(tails_last(tails, other, SLICE_LIT("")), 0);
    add(b, 25, 24);
    ck_assert_str_eq(after(a, 10), "20 ");
    ck_assert_str_eq(after(b, 24), "25 ");
    ck_assert_str_eq(after(b, 10), "-");
}
END_TEST

/* --- how far back ---------------------------------------------------------------------------- */

START_TEST(test_a_tail_covers_from_its_first_predecessor_on)
{
    add(a, 20, 10);
    ck_assert_str_eq(after(a, 9), "-");
    ck_assert_str_eq(after(a, 10), "20 ");
    ck_assert_str_eq(after(a, 15), "20 ");
    ck_assert_str_eq(after(a, 20), "");
    ck_assert_str_eq(after(a, 25), "");
}
END_TEST

START_TEST(test_the_beginning_of_a_chain_says_nothing_of_what_was_before)
{
    add(a, 20, 0);
    ck_assert_str_eq(after(a, 18), "-");
    ck_assert_str_eq(after(a, 19), "20 ");
}
END_TEST

START_TEST(test_the_oldest_go_over_the_number_of_events)
{
    for (uint64_t id = 20; id <= 70; id += 10)
        add(a, id, id - 10);
    ck_assert_str_eq(after(a, 20), "-");
    ck_assert_str_eq(after(a, 30), "40 50 60 70 ");
    tails_limit(tails, 1, 1 << 20);
    ck_assert_str_eq(after(a, 50), "-");
    ck_assert_str_eq(after(a, 60), "70 ");
    tails_limit(tails, 0, 1 << 20);
    ck_assert_str_eq(after(a, 60), "-");
    ck_assert_str_eq(after(a, 70), "");
    ck_assert_int_eq(add(a, 90, 80), TAIL_HOLE); /* the chain is still watched */
}
END_TEST

START_TEST(test_bytes_are_bounded_and_the_silent_topic_goes_first)
{
    tails_limit(tails, 100, 100000);
    add_sized(b, 1000, 999, 20000);
    for (uint64_t id = 20; id <= 200; id++)
        add_sized(a, id, id - 1, 10000);
    ck_assert_str_eq(after(a, 198), "199 200 "); /* a quarter of all at most */
    ck_assert_str_eq(after(a, 197), "-");
    char name[8];
    for (uint64_t i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "t%llu", (unsigned long long)i);
        add_sized(slice_of(name), 2000 + i, 1999 + i, 20000);
    }
    ck_assert_str_eq(after(b, 999), "-"); /* its event has gone, its chain has not */
    ck_assert_str_eq(after(a, 198), "-");
    ck_assert_uint_eq(tails_last(tails, ns, b), 1000);
    ck_assert_str_eq(after(SLICE_LIT("t7"), 2006), "2007 ");
}
END_TEST

/* --- what the log said ----------------------------------------------------------------------- */

START_TEST(test_the_log_begins_a_tail)
{
    fill(a, 5, 100, 30, IDS(10, 20, 30));
    ck_assert_str_eq(after(a, 4), "-");
    ck_assert_str_eq(after(a, 5), "10 20 30 ");
    ck_assert_int_eq(add(a, 120, 110), TAIL_HOLE);
    ck_assert_int_eq(add(a, 110, 30), TAIL_NEXT);
    ck_assert_str_eq(after(a, 5), "10 20 30 110 ");
}
END_TEST

START_TEST(test_the_log_says_that_nothing_came)
{
    fill(a, 50, 100, 30, 0, NULL);
    ck_assert_str_eq(after(a, 29), "-");
    ck_assert_str_eq(after(a, 30), "");
    fill(b, 50, 100, 0, 0, NULL); /* never heard of */
    ck_assert_str_eq(after(b, 49), "-");
    ck_assert_str_eq(after(b, 50), "");
    ck_assert_int_eq(add(b, 110, 0), TAIL_NEXT);
    ck_assert_str_eq(after(b, 50), "110 ");
}
END_TEST

START_TEST(test_the_log_lengthens_a_tail_where_they_meet)
{
    add(a, 40, 30);
    fill(a, 5, 20, 20, IDS(10, 20)); /* 30 is in neither */
    ck_assert_str_eq(after(a, 5), "-");
    fill(a, 5, 45, 40, IDS(10, 20, 30, 40));
    ck_assert_str_eq(after(a, 5), "10 20 30 40 ");
    ck_assert_uint_eq(tails_last(tails, ns, a), 40);
}
END_TEST

START_TEST(test_what_does_not_fit_shortens_what_is_covered)
{
    add(a, 60, 50);
    fill(a, 5, 60, 60, IDS(10, 20, 30, 40, 50));
    ck_assert_str_eq(after(a, 19), "-");
    ck_assert_str_eq(after(a, 20), "30 40 50 60 ");
}
END_TEST

/* --- dropping -------------------------------------------------------------------------------- */

static bool keep_b(void *arg, struct slice key)
{
    (void)arg;
    return key.ptr[key.len - 1] == 'b';
}

START_TEST(test_dropped_topics_are_not_known)
{
    add(a, 20, 10);
    add(b, 20, 10);
    tails_drop_unless(tails, keep_b, NULL);
    ck_assert_uint_eq(tails_last(tails, ns, a), 0);
    ck_assert_uint_eq(tails_last(tails, ns, b), 20);
    tails_drop_all(tails, SLICE_LIT("defaul"));
    ck_assert_uint_eq(tails_last(tails, ns, b), 20);
    tails_drop_all(tails, ns);
    ck_assert_uint_eq(tails_last(tails, ns, b), 0);
    add(b, 40, 30);
    tails_drop(tails, ns, b);
    ck_assert_uint_eq(tails_last(tails, ns, b), 0);
}
END_TEST

/* Whatever comes in which order: what a tail covers, it has. */
START_TEST(test_model_of_what_is_covered)
{
    struct rng rng = {(uint64_t)_i};
    bool published[400] = {false};
    uint64_t last = 0;
    for (uint64_t id = 1; id < 400; id++) {
        if (rng_below(&rng, 3))
            continue;
        uint64_t prev = last;
        last = id;
        published[id] = true;
        if (rng_below(&rng, 10) == 0) /* the live path loses it */
            continue;
        if (add(a, id, prev) == TAIL_HOLE) {
            tails_drop(tails, ns, a);
            ck_assert_int_eq(add(a, id, prev), TAIL_NEXT);
        }
        for (uint64_t cursor = 0; cursor <= id; cursor++) {
            struct event *events[20] = {NULL};
            if (!tails_cover(tails, ns, a, cursor))
                continue;
            size_t count = tails_read(tails, ns, a, cursor, &(struct event_clock){0}, events, 20),
                   seen = 0;
            for (uint64_t i = cursor + 1; i <= id; i++)
                if (published[i])
                    ck_assert_uint_eq(event_id(events[seen++]), i);
            ck_assert_uint_eq(seen, count);
        }
    }
}
END_TEST

/* --- twins ----------------------------------------------------------------------------------- */

enum { TWIN_TOPICS = 400, TWIN_IDS = 3000 };

struct twin_world {
    bool has[TWIN_TOPICS][TWIN_IDS]; /* which event each topic's tail has */
    uint64_t last[TWIN_TOPICS];
};

static struct slice twin_topic(size_t n)
{
    static char names[TWIN_TOPICS][16];
    snprintf(names[n], sizeof(names[n]), "user.%zu", n);
    return slice_of(names[n]);
}

static void twin_add(struct twin_world *world, size_t n, uint64_t id)
{
    ck_assert_int_eq(add(twin_topic(n), id, world->last[n]), TAIL_NEXT);
    world->has[n][id] = true;
    world->last[n] = id;
}

/* Asks for the event @id as one of topic @n: is what comes another that has it, where one has? */
static void twin_ask(const struct twin_world *world, size_t n, uint64_t id)
{
    struct event *ev = event_of(twin_topic(n), id, 0, 1);
    char *twin = tails_twin(tails, ev);
    bool due = false, right = !twin;
    for (size_t i = 0; i < TWIN_TOPICS; i++) {
        if (i == n || !world->has[i][id])
            continue;
        due = true;
        right |= twin && slice_is(twin_topic(i), twin);
    }
    ck_assert_msg((due && twin && right) || (!due && !twin), "%llu: %s", (unsigned long long)id,
                  twin ? twin : "none");
    free(twin);
    event_unref(ev);
}

/* Asked once in a while, and then again and again, while topics come and go. */
START_TEST(test_model_of_twins)
{
    static struct twin_world world;
    struct rng rng = rng_seeded("twins");
    memset(&world, 0, sizeof(world));
    tails_limit(tails, TWIN_IDS, 1 << 30);
    for (uint64_t id = 1; id < TWIN_IDS; id++) {
        size_t n = rng_below(&rng, TWIN_TOPICS), m = rng_below(&rng, TWIN_TOPICS);
        twin_add(&world, n, id);
        if (m != n && rng_below(&rng, 2))
            twin_add(&world, m, id);
        if (rng_below(&rng, 100) == 0) {
            tails_drop(tails, ns, twin_topic(m));
            memset(world.has[m], 0, sizeof(world.has[m]));
            world.last[m] = 0;
        }
        unsigned asks = id % 500 < 50 ? 5 : 0; /* in bursts */
        while (asks--)
            twin_ask(&world, n, 1 + rng_below(&rng, id));
        if (rng_below(&rng, 10) == 0)
            twin_ask(&world, n, id);
    }
}
END_TEST

/* A failover may bring thousands of late events: to look through all topics for each would hold the
 * bus for 3 ms each, so this for 15 s. */
START_TEST(test_twins_of_a_failover_are_found_in_no_time)
{
    enum { TOPICS = 65536, LATE = 5000 };
    char name[16];
    tails_limit(tails, 1, 1 << 30);
    for (uint64_t i = 1; i <= TOPICS; i++) {
        snprintf(name, sizeof(name), "user.%llu", (unsigned long long)i);
        add(slice_of(name), i, 0);
    }
    uint64_t begin_us = clock_mono_us();
    for (uint64_t i = TOPICS; i > TOPICS - LATE; i--) {
        struct event *ev = event_of(a, i, 0, 1);
        char *twin = tails_twin(tails, ev);
        snprintf(name, sizeof(name), "user.%llu", (unsigned long long)i);
        ck_assert_str_eq(twin, name);
        free(twin);
        event_unref(ev);
    }
    ck_assert_uint_lt(clock_mono_us() - begin_us, 3000000);
}
END_TEST

START_TEST(test_a_twin_is_of_the_same_namespace)
{
    struct event_fields fields = {.id = 20,
                                  .has_prev = true,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("other"),
                                  .topic = a,
                                  .data = SLICE_LIT("x")};
    struct event *other = event_new(&fields, 0), *ev = event_of(a, 20, 0, 1);
    ck_assert_int_eq(tails_add(tails, other), TAIL_NEXT);
    add(a, 20, 0);
    ck_assert_ptr_null(tails_twin(tails, ev));
    add(b, 20, 0);
    char *twin = tails_twin(tails, ev);
    ck_assert(slice_is(b, twin));
    free(twin);
    event_unref(other);
    event_unref(ev);
}
END_TEST

static enum tail_add add_end(struct slice topic, uint64_t id, uint64_t prev, enum topic_end end)
{
    struct event_fields fields = {.id = id,
                                  .prev = prev,
                                  .has_prev = true,
                                  .retry_ms = -1,
                                  .ns = ns,
                                  .topic = topic,
                                  .end = end,
                                  .data = SLICE_LIT("x")};
    struct event *ev = event_new(&fields, 0);
    enum tail_add added = tails_add(tails, ev);
    event_unref(ev);
    return added;
}

START_TEST(test_a_tail_knows_that_its_topic_has_ended)
{
    ck_assert_int_eq(tails_ended(tails, ns, a), END_NONE);
    add(a, 20, 10);
    ck_assert_int_eq(tails_ended(tails, ns, a), END_NONE);
    ck_assert_int_eq(add_end(a, 30, 20, END_TIMEOUT), TAIL_NEXT);
    ck_assert_int_eq(tails_ended(tails, ns, a), END_TIMEOUT);
    ck_assert_int_eq(add(a, 25, 20), TAIL_LATE);
    ck_assert_int_eq(tails_ended(tails, ns, a), END_TIMEOUT);
    ck_assert_int_eq(add(a, 40, 0), TAIL_NEXT); /* it was forgotten, and began anew */
    ck_assert_int_eq(tails_ended(tails, ns, a), END_NONE);
}
END_TEST

START_TEST(test_the_log_says_that_a_topic_has_ended)
{
    fill(a, 10, 50, 30, IDS(20, 30));
    tails_fill_end(tails, ns, a, 30, END_DONE);
    ck_assert_int_eq(tails_ended(tails, ns, a), END_DONE);
    ck_assert_str_eq(after(a, 30), "");
    add(b, 20, 10);
    tails_fill_end(tails, ns, b, 10, END_DONE); /* it has gone on since */
    ck_assert_int_eq(tails_ended(tails, ns, b), END_NONE);
    tails_fill_end(tails, ns, SLICE_LIT("c"), 10, END_DONE);
    ck_assert_int_eq(tails_ended(tails, ns, SLICE_LIT("c")), END_NONE);
}
END_TEST

static const struct event_clock *at(uint64_t wall_us)
{
    static struct event_clock now;
    now.wall_us = wall_us;
    return &now;
}

START_TEST(test_what_is_over_is_not_read_and_takes_no_room)
{
    struct event *events[2] = {NULL};
    static const uint64_t ttls_ms[] = {1, 0, 1, 3, 1, 1, 0};
    tails_limit(tails, 10, 1 << 20);
    for (uint64_t i = 0; i < 7; i++) {
        struct event_fields fields = {.id = i + 1,
                                      .prev = i,
                                      .has_prev = true,
                                      .retry_ms = -1,
                                      .ttl_ms = ttls_ms[i],
                                      .lane = i == 4 ? LANE_COALESCED : LANE_INSTANT,
                                      .ns = ns,
                                      .topic = a,
                                      .data = SLICE_LIT("x")};
        struct event *ev = event_new(&fields, 0);
        ck_assert_int_eq(tails_add(tails, ev), TAIL_NEXT);
        event_unref(ev);
    }
    ck_assert_uint_eq(tails_read(tails, ns, a, 0, at(2000), events, 2), 2);
    ck_assert_uint_eq(event_id(events[0]), 2);
    ck_assert_uint_eq(event_id(events[1]), 4);
    ck_assert_uint_eq(tails_read(tails, ns, a, 2, at(9000), events, 2), 2);
    ck_assert_uint_eq(event_id(events[0]), 5); /* which has replaced older ones */
    ck_assert_uint_eq(event_id(events[1]), 7);
    ck_assert_uint_eq(tails_read(tails, ns, a, 2, at(1001), events, 2),
                      2); /* not before its time */
    ck_assert_uint_eq(event_id(events[0]), 3);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("tail");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_a_chain_goes_on_and_a_hole_in_it_shows);
    tcase_add_test(cases, test_what_is_known_and_what_was_before_is_not_late);
    tcase_add_test(cases, test_a_redis_that_forgot_is_no_hole);
    tcase_add_test(cases, test_topics_do_not_mix);
    tcase_add_test(cases, test_a_tail_covers_from_its_first_predecessor_on);
    tcase_add_test(cases, test_the_beginning_of_a_chain_says_nothing_of_what_was_before);
    tcase_add_test(cases, test_the_oldest_go_over_the_number_of_events);
    tcase_add_test(cases, test_bytes_are_bounded_and_the_silent_topic_goes_first);
    tcase_add_test(cases, test_the_log_begins_a_tail);
    tcase_add_test(cases, test_the_log_says_that_nothing_came);
    tcase_add_test(cases, test_the_log_lengthens_a_tail_where_they_meet);
    tcase_add_test(cases, test_what_does_not_fit_shortens_what_is_covered);
    tcase_add_test(cases, test_dropped_topics_are_not_known);
    tcase_add_test(cases, test_model_of_twins);
    tcase_add_test(cases, test_twins_of_a_failover_are_found_in_no_time);
    tcase_add_test(cases, test_a_twin_is_of_the_same_namespace);
    tcase_add_test(cases, test_what_is_over_is_not_read_and_takes_no_room);
    tcase_add_loop_test(cases, test_model_of_what_is_covered, 0, 50);
    tcase_add_test(cases, test_a_tail_knows_that_its_topic_has_ended);
    tcase_add_test(cases, test_the_log_says_that_a_topic_has_ended);
    return tests_run(cases);
}
