/* SPDX-License-Identifier: Apache-2.0 */
/* The memory store's namespaces: ids, chains, horizon and retention as in Redis, and a bound on
 * everything. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "relay/memory/memory.h"
#include "test/unit/tests_run.h"

static const uint64_t start_us = UINT64_C(1800000000000000), second = 1000000;
static const struct memory_limits roomy = {
    .topics = 1000, .spaces = 100, .bytes = 1 << 20, .once = 100};

static struct config *config;
static struct memory *memory;
static uint64_t now; /* the wall clock */

/* @words: options, separated by blanks. */
static struct config *config_of(const char *words)
{
    char text[200], *argv[20] = {text}, *none[] = {NULL}, *save = NULL, *message = NULL;
    int argc = 1;
    enum config_action action;
    struct config *c = NULL;
    snprintf(text, sizeof(text), "%s", words);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    enum err e = config_load(argc, argv, none, &c, &action, &message);
    ck_assert_msg(e == OK, "%s", message);
    return c;
}

static void restart(const struct memory_limits *limits, const char *words)
{
    memory_free(memory);
    config_unref(config);
    config = config_of(words);
    memory = memory_new(limits, config);
}

static void setup(void)
{
    now = start_us;
    memory = NULL;
    config = NULL;
    restart(&roomy, "");
}

static void teardown(void)
{
    memory_free(memory);
    config_unref(config);
}

/* Borrows all of it: not to be reset. The last few of them keep their topics. */
static struct publication post_of(const char *topic, const char *data)
{
    static char *items[4][PUBLICATION_TOPICS_MAX];
    static size_t last;
    char **topics = items[last++ % 4];
    topics[0] = (char *)(uintptr_t)topic;
    return (struct publication){.topics = {topics, 1}, .data = slice_of(data)};
}

static void add_topic(struct publication *post, const char *topic)
{
    post->topics.items[post->topics.count++] = (char *)(uintptr_t)topic;
}

/* The id; the number of live events in *count. */
static uint64_t send(const char *ns, const struct publication *post, size_t *count)
{
    struct event *events[PUBLICATION_TOPICS_MAX];
    uint64_t id = UINT64_MAX;
    *count = memory_publish(memory, slice_of(ns), post, now, 55, events, &id);
    for (size_t i = 0; i < *count; i++) {
        ck_assert_uint_eq(event_id(events[i]), id);
        ck_assert_uint_eq(event_arrival_us(events[i]), 55);
        ck_assert(slice_is(event_topic(events[i]), post->topics.items[i]));
        ck_assert(slice_is(event_ns(events[i]), ns));
        event_unref(events[i]);
    }
    return id;
}

static uint64_t publish(const char *topic)
{
    size_t count;
    struct publication post = post_of(topic, "x");
    uint64_t id = send("default", &post, &count);
    ck_assert_uint_eq(count, 1);
    return id;
}

static void on_look(struct store_look *look, enum err e)
{
    (void)look, (void)e;
    ck_abort_msg("the store calls this, not the memory");
}

static struct store_look look_at(const char *ns, const char *name, uint64_t cursor)
{
    static char text[64];
    static char *items[] = {text};
    static struct strings names = {items, 1};
    snprintf(text, sizeof(text), "%s", name);
    struct store_look look = {.ns = ns, .names = &names, .cursor = cursor, .done = on_look};
    memory_look(memory, &look, now);
    return look;
}

/* Of one topic: "1<0 5<1": offset of each id from @start_us, and of its prev; ~ where the event has
 * expired, + for more. */
static const char *range_of(const char *topic, uint64_t after, uint64_t upto, size_t limit,
                            bool reverse)
{
    static char text[1000];
    size_t len = 0;
    struct store_range range = {.ns = "default",
                                .topic = topic,
                                .after = after,
                                .upto = upto,
                                .limit = limit,
                                .reverse = reverse};
    memory_range(memory, &range, now);
    text[0] = '\0';
    for (size_t i = 0; i < range.count; i++) {
        const struct store_entry *entry = &range.entries[i];
        ck_assert(entry->has_prev);
        ck_assert(!entry->event || event_arrival_us(entry->event) == 0);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%llu<%llu", i ? " " : "",
                                entry->event ? "" : "~", (unsigned long long)(entry->id - start_us),
                                (unsigned long long)(entry->prev ? entry->prev - start_us : 0));
    }
    if (range.more)
        snprintf(text + len, sizeof(text) - len, "+");
    store_range_reset(&range);
    return text;
}

static const char *log_of(const char *topic)
{
    return range_of(topic, 0, UINT64_MAX, 1000, false);
}

/* --- ids ------------------------------------------------------------------------------------- */

START_TEST(test_ids_rise_with_the_clock_and_without_it)
{
    uint64_t first = publish("a");
    ck_assert_uint_eq(first, now + 1); /* the namespace was created at `now` */
    ck_assert_uint_eq(publish("b"), first + 1);
    now += 10;
    ck_assert_uint_eq(publish("a"), now);
    now -= 5 * second;
    ck_assert_uint_eq(publish("a"), start_us + 11);
}
END_TEST

START_TEST(test_a_namespace_begins_at_its_horizon)
{
    struct store_look look = look_at("default", "a", 0);
    ck_assert_uint_eq(look.position, now);
    ck_assert_uint_eq(look.horizon, now);
    ck_assert(!look.pruned);
    store_look_reset(&look);
    ck_assert_uint_gt(publish("a"), now);
}
END_TEST

START_TEST(test_open_never_falls_below_what_was_seen)
{
    memory_open(memory, SLICE_LIT("default"), now + 500, now);
    ck_assert_uint_eq(publish("a"), now + 501);
    memory_open(memory, SLICE_LIT("default"), 1, now);
    ck_assert_uint_eq(publish("a"), now + 502);
}
END_TEST

START_TEST(test_ids_end_below_2_to_the_53)
{
    memory_open(memory, SLICE_LIT("default"), EVENT_ID_MAX - 2, now);
    ck_assert(memory_has_ids(memory, SLICE_LIT("default"), 2, now));
    ck_assert(!memory_has_ids(memory, SLICE_LIT("default"), 3, now));
    publish("a");
    ck_assert_uint_eq(publish("a"), EVENT_ID_MAX);
    ck_assert(!memory_has_ids(memory, SLICE_LIT("default"), 1, now));
    ck_assert(memory_has_ids(memory, SLICE_LIT("other"), 10000, now));
}
END_TEST

START_TEST(test_the_chain_of_prev_is_per_topic)
{
    publish("a");
    publish("b");
    publish("a");
    publish("a");
    ck_assert_str_eq(log_of("a"), "1<0 3<1 4<3");
    ck_assert_str_eq(log_of("b"), "2<0");
}
END_TEST

START_TEST(test_an_event_on_several_topics_has_one_id)
{
    size_t count;
    struct publication post = post_of("a", "x");
    add_topic(&post, "b");
    publish("b");
    ck_assert_uint_eq(send("default", &post, &count), start_us + 2);
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(log_of("a"), "2<0");
    ck_assert_str_eq(log_of("b"), "1<0 2<1");
    ck_assert_uint_eq(publish("a"), start_us + 3);
}
END_TEST

START_TEST(test_an_ephemeral_event_leaves_no_trace)
{
    size_t count;
    struct publication post = post_of("a", "x");
    post.ephemeral = true;
    ck_assert_uint_eq(send("default", &post, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(log_of("a"), "");
    ck_assert_uint_eq(publish("a"), start_us + 1);
}
END_TEST

START_TEST(test_namespaces_do_not_mix)
{
    size_t count;
    struct publication post = post_of("a", "x");
    publish("a");
    now += 5;
    ck_assert_uint_eq(send("other", &post, &count), now + 1);
    ck_assert_str_eq(log_of("a"), "1<0");
    struct store_look look = look_at("other", "a", 0);
    ck_assert_uint_eq(look.horizon, now);
    ck_assert_uint_eq(look.topics[0].last, now + 1);
    store_look_reset(&look);
}
END_TEST

/* --- reading --------------------------------------------------------------------------------- */

START_TEST(test_a_range_is_cut_at_both_ends)
{
    for (int i = 0; i < 6; i++)
        publish("a");
    uint64_t after = start_us + 1, upto = start_us + 5;
    ck_assert_str_eq(range_of("a", after, upto, 10, false), "2<1 3<2 4<3 5<4");
    ck_assert_str_eq(range_of("a", after, upto, 4, false), "2<1 3<2 4<3 5<4");
    ck_assert_str_eq(range_of("a", after, upto, 2, false), "2<1 3<2+");
    ck_assert_str_eq(range_of("a", after, upto, 2, true), "4<3 5<4+");
    ck_assert_str_eq(range_of("a", after, upto, 10, true), "2<1 3<2 4<3 5<4");
    ck_assert_str_eq(range_of("a", upto, after, 10, false), "");
    ck_assert_str_eq(range_of("never", 0, upto, 10, false), "");
}
END_TEST

START_TEST(test_a_look_finds_what_moved_and_what_was_named)
{
    uint64_t first = publish("a.x");
    publish("b");
    publish("a.y");
    struct store_look look = look_at("default", "a.*", first);
    ck_assert_uint_eq(look.position, start_us + 3);
    ck_assert_uint_eq(look.count, 1);
    ck_assert_str_eq(look.topics[0].name, "a.y");
    ck_assert(!look.topics[0].exact);
    store_look_reset(&look);
    look = look_at("default", "a.x", first + 1);
    ck_assert_uint_eq(look.count, 1); /* by name, moved or not */
    ck_assert_uint_eq(look.topics[0].last, first);
    store_look_reset(&look);
    look = (struct store_look){
        .ns = "default", .names = look.names, .cursor = first + 1, .moved_only = true};
    memory_look(memory, &look, now);
    ck_assert_uint_eq(look.count, 0);
    store_look_reset(&look);
}
END_TEST

START_TEST(test_the_ttl_of_an_event_hides_it_in_the_log)
{
    size_t count;
    struct publication post = post_of("a", "x");
    publish("a");
    post.ttl_ms = 1000;
    send("default", &post, &count);
    publish("a");
    ck_assert_str_eq(log_of("a"), "1<0 2<1 3<2");
    now += second + 3;
    ck_assert_str_eq(log_of("a"), "1<0 ~2<1 3<2");
}
END_TEST

START_TEST(test_the_configuration_makes_the_type)
{
    struct event *events[PUBLICATION_TOPICS_MAX];
    struct publication post = post_of("a.b", "x");
    uint64_t id;
    struct config *named = config_of("--events.type_from_topic true");
    memory_configure(memory, named);
    config_unref(named);
    memory_publish(memory, SLICE_LIT("default"), &post, now, 0, events, &id);
    ck_assert(slice_is(event_type(events[0]), "a.b"));
    event_unref(events[0]);
}
END_TEST

static struct event *live_of(const struct publication *post, size_t which)
{
    struct event *events[PUBLICATION_TOPICS_MAX];
    uint64_t id;
    size_t count = memory_publish(memory, SLICE_LIT("default"), post, now, 0, events, &id);
    ck_assert_uint_lt(which, count);
    for (size_t i = 0; i < count; i++)
        if (i != which)
            event_unref(events[i]);
    return events[which];
}

static void ck_lane(const struct publication *post, size_t which, enum lane_kind lane)
{
    struct event *ev = live_of(post, which);
    ck_assert_int_eq(event_lane(ev), lane);
    event_unref(ev);
}

static void configure_lanes(void)
{
    struct config *lanes = config_of("--lanes a=coalesced --lanes b=batched");
    memory_configure(memory, lanes);
    config_unref(lanes);
}

START_TEST(test_rules_of_lanes_leave_alone_what_is_on_several_topics)
{
    struct publication post = post_of("a", "x");
    configure_lanes();
    ck_lane(&post, 0, LANE_COALESCED);
    add_topic(&post, "b");
    for (int ephemeral = 0; ephemeral < 2; ephemeral++) {
        post.ephemeral = ephemeral;
        ck_lane(&post, 0, LANE_INSTANT);
        ck_lane(&post, 1, LANE_INSTANT);
    }
    post.lane = LANE_BATCHED;
    post.given = 1U << FIELD_PRIORITY;
    ck_lane(&post, 0, LANE_BATCHED);
}
END_TEST

START_TEST(test_the_log_keeps_a_value_that_is_over_for_what_it_has_replaced)
{
    size_t count;
    struct publication post = post_of("a", "x");
    configure_lanes();
    post.ttl_ms = 1000;
    send("default", &post, &count);
    post = post_of("b", "x");
    post.ttl_ms = 1000;
    send("default", &post, &count);
    now += second + 3;
    ck_assert_str_eq(log_of("a"), "1<0");
    ck_assert_str_eq(log_of("b"), "~2<0");
}
END_TEST

/* --- retention ------------------------------------------------------------------------------- */

START_TEST(test_a_log_keeps_its_newest_events)
{
    restart(&roomy, "--log.max_events 3");
    for (int i = 0; i < 10; i++)
        publish("a");
    ck_assert_str_eq(log_of("a"), "8<7 9<8 10<9");
}
END_TEST

START_TEST(test_a_log_expires_but_the_index_remembers)
{
    restart(&roomy, "--log.ttl 10s");
    publish("a");
    now += 9 * second;
    publish("a"); /* each publish prolongs it */
    now += 9 * second;
    ck_assert_str_eq(log_of("a"), "1<0 9000000<1");
    now += 2 * second;
    ck_assert_str_eq(log_of("a"), "");
    struct store_look look = look_at("default", "a", 0);
    ck_assert_uint_eq(look.topics[0].last, start_us + 9 * second);
    ck_assert_uint_eq(look.horizon, start_us);
    store_look_reset(&look);
    publish("a");
    ck_assert_str_eq(log_of("a"), "20000000<9000000");
}
END_TEST

START_TEST(test_silent_topics_are_pruned_when_a_new_one_enters)
{
    char topic[16];
    restart(&roomy, "--log.ttl 10s --index.ttl 60s");
    for (int i = 0; i < 12; i++) {
        snprintf(topic, sizeof(topic), "t%d", i);
        publish(topic);
    }
    now += 61 * second;
    publish("t11"); /* not new */
    struct store_look look = look_at("default", ">", 0);
    ck_assert_uint_eq(look.count, 12);
    store_look_reset(&look);
    publish("new"); /* eight at a time */
    look = look_at("default", ">", 0);
    ck_assert_uint_eq(look.count, 5);
    ck_assert_uint_eq(look.horizon, start_us + 8);
    ck_assert(look.pruned);
    store_look_reset(&look);
    publish("newer");
    look = look_at("default", ">", 0);
    ck_assert_uint_eq(look.count, 3); /* t11, new, newer */
    ck_assert_uint_eq(look.horizon, start_us + 11);
    store_look_reset(&look);
    publish("t0");
    ck_assert_str_eq(log_of("t0"), "61000003<0");
}
END_TEST

/* --- bounds ---------------------------------------------------------------------------------- */

START_TEST(test_over_the_number_of_topics_the_oldest_is_forgotten)
{
    restart(&(struct memory_limits){.topics = 3, .spaces = 10, .bytes = 1 << 20, .once = 10}, "");
    publish("a");
    publish("b");
    publish("c");
    publish("a"); /* b is the oldest now */
    struct store_look look = look_at("default", ">", 0);
    ck_assert(!look.pruned);
    store_look_reset(&look);
    publish("d");
    look = look_at("default", ">", 0);
    ck_assert_uint_eq(look.count, 3);
    ck_assert_str_eq(look.topics[0].name, "a");
    ck_assert_str_eq(look.topics[1].name, "c");
    ck_assert_uint_eq(look.horizon, start_us + 2);
    ck_assert(look.pruned);
    store_look_reset(&look);
    ck_assert_str_eq(log_of("b"), "");
}
END_TEST

START_TEST(test_more_topics_in_one_event_than_fit_leave_the_last)
{
    size_t count;
    struct publication post = post_of("a", "x");
    add_topic(&post, "b");
    add_topic(&post, "c");
    restart(&(struct memory_limits){.topics = 1, .spaces = 1, .bytes = 1 << 20, .once = 1}, "");
    send("default", &post, &count);
    ck_assert_uint_eq(count, 3);
    ck_assert_str_eq(log_of("a"), "");
    ck_assert_str_eq(log_of("c"), "1<0");
}
END_TEST

START_TEST(test_over_the_bytes_the_log_published_to_longest_ago_shrinks)
{
    size_t count;
    char data[1001];
    memset(data, 'x', sizeof(data));
    data[1000] = '\0';
    struct publication a = post_of("a", data), b = post_of("b", data);
    restart(&(struct memory_limits){.topics = 10, .spaces = 1, .bytes = 4 * 1400, .once = 1}, "");
    send("default", &b, &count);
    send("default", &a, &count);
    send("default", &a, &count);
    send("default", &b, &count);
    ck_assert_str_eq(log_of("a"), "2<0 3<2");
    send("default", &b, &count);
    ck_assert_str_eq(log_of("a"), "3<2"); /* from the front: `prev` tells it */
    ck_assert_str_eq(log_of("b"), "1<0 4<1 5<4");
    for (int i = 0; i < 10; i++)
        send("default", &b, &count);
    ck_assert_str_eq(log_of("a"), "");
    ck_assert_str_eq(log_of("b"), "12<11 13<12 14<13 15<14");
    struct store_look look = look_at("default", "a", 0);
    ck_assert_uint_eq(look.topics[0].last, start_us + 3); /* the index stays: a gap "expired" */
    ck_assert_uint_eq(look.horizon, start_us);
    store_look_reset(&look);
}
END_TEST

START_TEST(test_an_event_larger_than_all_room_is_not_kept)
{
    size_t count;
    char data[1001];
    memset(data, 'x', sizeof(data));
    data[1000] = '\0';
    struct publication post = post_of("a", data);
    restart(&(struct memory_limits){.topics = 10, .spaces = 1, .bytes = 1000, .once = 1}, "");
    ck_assert_uint_eq(send("default", &post, &count), start_us + 1);
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(log_of("a"), "");
    struct store_look look = look_at("default", "a", 0);
    ck_assert_uint_eq(look.topics[0].last, start_us + 1);
    store_look_reset(&look);
}
END_TEST

START_TEST(test_namespaces_without_topics_or_watchers_are_bounded)
{
    restart(&(struct memory_limits){.topics = 10, .spaces = 2, .bytes = 1 << 20, .once = 1}, "");
    uint64_t published = publish("a");
    memory_open(memory, SLICE_LIT("watched"), 0, now);
    for (int i = 0; i < 10; i++) {
        char ns[16];
        now += 10;
        snprintf(ns, sizeof(ns), "ns%d", i);
        struct store_look look = look_at(ns, "a", 0);
        ck_assert_uint_eq(look.position, now);
        store_look_reset(&look);
    }
    struct store_look look = look_at("default", "a", 0);
    ck_assert_uint_eq(look.topics[0].last, published);
    store_look_reset(&look);
    look = look_at("watched", "a", 0);
    ck_assert_uint_eq(look.position, start_us);
    store_look_reset(&look);
    look = look_at("ns9", "a", 0);
    ck_assert_uint_eq(look.position, now);
    store_look_reset(&look);
    /* One that was forgotten gives no id twice, wherever the clock is. */
    now = start_us;
    look = look_at("ns0", "a", 0);
    ck_assert_uint_ge(look.position, start_us + 10);
    ck_assert_uint_eq(look.horizon, look.position);
    store_look_reset(&look);
    memory_close(memory, SLICE_LIT("watched"));
    memory_close(memory, SLICE_LIT("never opened"));
}
END_TEST

/* --- once ------------------------------------------------------------------------------------ */

START_TEST(test_once_gives_the_first_id_again)
{
    size_t count;
    struct publication post = post_of("a", "x");
    post.once = SLICE_LIT("order-1");
    ck_assert_uint_eq(send("default", &post, &count), start_us + 1);
    ck_assert_uint_eq(count, 1);
    now += 100;
    ck_assert_uint_eq(send("default", &post, &count), start_us + 1);
    ck_assert_uint_eq(count, 0);
    ck_assert_str_eq(log_of("a"), "1<0");
    ck_assert_uint_eq(send("other", &post, &count), now + 1);
    ck_assert_uint_eq(count, 1);
    post.once = SLICE_LIT("order-2");
    send("default", &post, &count);
    ck_assert_uint_eq(count, 1);
}
END_TEST

START_TEST(test_once_expires)
{
    size_t count;
    struct publication post = post_of("a", "x");
    post.once = SLICE_LIT("k");
    restart(&roomy, "--once.ttl 10s");
    send("default", &post, &count);
    now += 10 * second;
    send("default", &post, &count);
    ck_assert_uint_eq(count, 0); /* and a repeat does not prolong it */
    now += 1;
    send("default", &post, &count);
    ck_assert_uint_eq(count, 1);
}
END_TEST

START_TEST(test_once_of_an_ephemeral_event_is_remembered_too)
{
    size_t count;
    struct publication post = post_of("a", "x");
    post.once = SLICE_LIT("k");
    post.ephemeral = true;
    ck_assert_uint_eq(send("default", &post, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(send("default", &post, &count), 0);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(test_once_keys_are_bounded_the_oldest_goes)
{
    size_t count;
    char key[16];
    struct publication post = post_of("a", "x");
    for (int i = 0; i <= 100; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        post.once = slice_of(key);
        send("default", &post, &count);
        ck_assert_uint_eq(count, 1);
    }
    post.once = SLICE_LIT("k1");
    send("default", &post, &count);
    ck_assert_uint_eq(count, 0);
    post.once = SLICE_LIT("k0");
    send("default", &post, &count);
    ck_assert_uint_eq(count, 1);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("memory");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_ids_rise_with_the_clock_and_without_it);
    tcase_add_test(cases, test_a_namespace_begins_at_its_horizon);
    tcase_add_test(cases, test_open_never_falls_below_what_was_seen);
    tcase_add_test(cases, test_ids_end_below_2_to_the_53);
    tcase_add_test(cases, test_the_chain_of_prev_is_per_topic);
    tcase_add_test(cases, test_an_event_on_several_topics_has_one_id);
    tcase_add_test(cases, test_an_ephemeral_event_leaves_no_trace);
    tcase_add_test(cases, test_namespaces_do_not_mix);
    tcase_add_test(cases, test_a_range_is_cut_at_both_ends);
    tcase_add_test(cases, test_a_look_finds_what_moved_and_what_was_named);
    tcase_add_test(cases, test_the_ttl_of_an_event_hides_it_in_the_log);
    tcase_add_test(cases, test_the_configuration_makes_the_type);
    tcase_add_test(cases, test_rules_of_lanes_leave_alone_what_is_on_several_topics);
    tcase_add_test(cases, test_the_log_keeps_a_value_that_is_over_for_what_it_has_replaced);
    tcase_add_test(cases, test_a_log_keeps_its_newest_events);
    tcase_add_test(cases, test_a_log_expires_but_the_index_remembers);
    tcase_add_test(cases, test_silent_topics_are_pruned_when_a_new_one_enters);
    tcase_add_test(cases, test_over_the_number_of_topics_the_oldest_is_forgotten);
    tcase_add_test(cases, test_more_topics_in_one_event_than_fit_leave_the_last);
    tcase_add_test(cases, test_over_the_bytes_the_log_published_to_longest_ago_shrinks);
    tcase_add_test(cases, test_an_event_larger_than_all_room_is_not_kept);
    tcase_add_test(cases, test_namespaces_without_topics_or_watchers_are_bounded);
    tcase_add_test(cases, test_once_gives_the_first_id_again);
    tcase_add_test(cases, test_once_expires);
    tcase_add_test(cases, test_once_of_an_ephemeral_event_is_remembered_too);
    tcase_add_test(cases, test_once_keys_are_bounded_the_oldest_goes);
    return tests_run(cases);
}
