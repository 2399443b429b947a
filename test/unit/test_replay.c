/* Pages of the log after a cursor: merged by id, each once, and every loss told by a gap that is
 * exact. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/pattern.h"
#include "relay/replay.h"
#include "rng.h"

/* --- a store of scripted topics -------------------------------------------------------------- */

struct fake_entry {
    uint64_t id, prev;
    bool has_prev, expired;
    size_t bytes;
};

struct fake_topic {
    char name[16];
    uint64_t last;
    struct fake_entry entries[256];
    size_t count;
};

static struct fake {
    uint64_t position, horizon;
    bool pruned;
    struct fake_topic topics[8];
    size_t topic_count;
    bool away; /* answers ERR_AGAIN */
    bool slow; /* answers ranges only when told to */
    struct store_range *waiting[8];
    size_t waiting_count, ranges;
} fake;

static struct fake_topic *topic_get(const char *name)
{
    for (size_t i = 0; i < fake.topic_count; i++)
        if (strcmp(fake.topics[i].name, name) == 0)
            return &fake.topics[i];
    struct fake_topic *topic = &fake.topics[fake.topic_count++];
    *topic = (struct fake_topic){0};
    snprintf(topic->name, sizeof(topic->name), "%s", name);
    return topic;
}

/* An event as it was published: the chain goes on, the index and the position move. */
static struct fake_entry *publish(const char *name, uint64_t id)
{
    struct fake_topic *topic = topic_get(name);
    struct fake_entry *entry = &topic->entries[topic->count++];
    ck_assert_uint_le(topic->count, 256);
    *entry = (struct fake_entry){.id = id, .prev = topic->last, .has_prev = true, .bytes = 1};
    topic->last = id;
    if (fake.position < id)
        fake.position = id;
    return entry;
}

/* The oldest @count entries are gone. */
static void trim(const char *name, size_t count)
{
    struct fake_topic *topic = topic_get(name);
    memmove(topic->entries, topic->entries + count,
            (topic->count - count) * sizeof(topic->entries[0]));
    topic->count -= count;
}

/* The topic is gone from the index, and says so in the horizon. */
static void prune(const char *name)
{
    struct fake_topic *topic = topic_get(name);
    if (topic->last > fake.horizon) {
        fake.horizon = topic->last;
        fake.pruned = true;
    }
    topic->last = 0;
    topic->count = 0;
}

static void fake_look(void *impl, struct store_look *look)
{
    (void)impl;
    if (fake.away) {
        look->done(look, ERR_AGAIN);
        return;
    }
    look->position = fake.position;
    look->horizon = fake.horizon;
    look->pruned = fake.pruned;
    for (size_t i = 0; i < fake.topic_count; i++) {
        struct fake_topic *topic = &fake.topics[i];
        bool exact = false;
        for (size_t j = 0; j < look->names->count; j++)
            exact |= strcmp(look->names->items[j], topic->name) == 0;
        if (topic->last && (topic->last > look->cursor || (exact && !look->moved_only)))
            store_look_add(look, slice_of(topic->name), topic->last);
    }
    store_look_settle(look);
    look->done(look, OK);
}

static void range_entry(struct store_range *range, const struct fake_entry *entry)
{
    static char text[1024];
    memset(text, 'x', sizeof(text));
    struct event_fields fields = {.id = entry->id,
                                  .retry_ms = -1,
                                  .ns = slice_of(range->ns),
                                  .topic = slice_of(range->topic),
                                  .data = {text, entry->bytes}};
    range->entries[range->count++] =
        (struct store_entry){.event = entry->expired ? NULL : event_new(&fields, 0),
                             .id = entry->id,
                             .prev = entry->prev,
                             .has_prev = entry->has_prev};
}

static void range_answer(struct store_range *range)
{
    struct fake_topic *topic = topic_get(range->topic);
    size_t first = 0, end = topic->count;
    while (first < end && topic->entries[first].id <= range->after)
        first++;
    while (end > first && topic->entries[end - 1].id > range->upto)
        end--;
    range->entries = mem_alloc((end - first + 1) * sizeof(*range->entries));
    range->more = end - first >= range->limit; /* as Redis can tell: perhaps there is no more */
    if (range->more && range->reverse)
        first = end - range->limit;
    if (range->more)
        end = first + range->limit;
    for (size_t i = first; i < end; i++)
        range_entry(range, &topic->entries[i]);
    range->done(range, OK);
}

static void fake_range(void *impl, struct store_range *range)
{
    (void)impl;
    fake.ranges++;
    if (fake.slow)
        fake.waiting[fake.waiting_count++] = range;
    else
        range_answer(range);
}

static const struct store_ops ops = {.kind = "fake", .look = fake_look, .range = fake_range};
static struct store store = {.ops = &ops};

/* --- asking ---------------------------------------------------------------------------------- */

static struct replay replay;
static char *names[8];
static struct strings topics = {names, 0};
static enum err result;
static unsigned done;

static void on_done(struct replay *r, enum err e)
{
    (void)r;
    result = e;
    done++;
}

static void ask(enum cursor_kind kind, uint64_t cursor)
{
    replay_reset(&replay);
    replay = (struct replay){.store = &store,
                             .ns = "default",
                             .names = &topics,
                             .kind = kind,
                             .cursor = cursor,
                             .max_events = 100,
                             .max_bytes = 100000,
                             .budget = 10000,
                             .done = on_done};
    done = 0;
}

static void run(enum cursor_kind kind, uint64_t cursor)
{
    ask(kind, cursor);
    replay_start(&replay);
    ck_assert_uint_eq(done, 1);
    ck_assert_int_eq(result, OK);
}

static void want(const char *name)
{
    names[topics.count++] = mem_dup(name, strlen(name));
}

/* The page in short: an event is its id, a gap (from,to]reason with ! where it is tied. */
static const char *shown(void)
{
    static char text[4096];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < replay.count; i++) {
        const struct replay_item *item = &replay.items[i];
        len += (size_t)snprintf(text + len, sizeof(text) - len, i ? " " : "%s", "");
        if (item->event)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%llu",
                                    (unsigned long long)event_id(item->event));
        else
            len += (size_t)snprintf(text + len, sizeof(text) - len, "(%lld,%llu]%s%s",
                                    (long long)item->from, (unsigned long long)item->id,
                                    gap_reason_text(item->reason), item->tied ? "!" : "");
        ck_assert_uint_lt(len, sizeof(text));
    }
    return text;
}

static void setup(void)
{
    fake = (struct fake){.position = 100, .horizon = 100};
    replay = (struct replay){0};
    topics.count = 0;
}

static void teardown(void)
{
    replay_reset(&replay);
    for (size_t i = 0; i < topics.count; i++)
        free(names[i]);
}

#define ck_page(text, is_final, at)                                                                \
    do {                                                                                           \
        ck_assert_str_eq(shown(), text);                                                           \
        ck_assert_int_eq(replay.final, is_final);                                                  \
        ck_assert_uint_eq(replay.end, at);                                                         \
    } while (0)

/* --- one topic ------------------------------------------------------------------------------- */

START_TEST(test_live_only_starts_at_the_position)
{
    want("a");
    publish("a", 110);
    run(CURSOR_NONE, 0);
    ck_page("", true, 110);
    ck_assert_uint_eq(replay.start, 110);
    ck_assert_uint_eq(fake.ranges, 0);
}
END_TEST

START_TEST(test_what_came_after_the_cursor_is_read)
{
    want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        publish("a", id);
    publish("b", 160);
    run(CURSOR_ID, 120);
    ck_page("130 140 150", true, 160);
    ck_assert_uint_eq(replay.start, 120);
    run(CURSOR_ID, 150);
    ck_page("", true, 160);
    run(CURSOR_ID, 160);
    ck_page("", true, 160);
}
END_TEST

START_TEST(test_a_trimmed_log_is_told_exactly)
{
    want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        publish("a", id);
    trim("a", 3);
    run(CURSOR_ID, 115);
    ck_page("(115,130]trimmed 140 150", true, 150);
    run(CURSOR_ID, 130); /* had all that was trimmed */
    ck_page("140 150", true, 150);
    run(CURSOR_ID, 120);
    ck_page("(120,130]trimmed 140 150", true, 150);
}
END_TEST

START_TEST(test_a_hole_inside_the_log_is_told)
{
    want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        publish("a", id);
    memmove(&fake.topics[0].entries[2], &fake.topics[0].entries[3], 2 * sizeof(struct fake_entry));
    fake.topics[0].count--; /* 130 was deleted */
    run(CURSOR_ID, 105);
    ck_page("110 120 (120,130]trimmed 140 150", true, 150);
    run(CURSOR_ALL, 0);
    ck_page("110 120 (120,130]trimmed 140 150", true, 150);
}
END_TEST

START_TEST(test_an_expired_log_is_told_from_a_silent_topic)
{
    want("a");
    want("b");
    publish("a", 110);
    publish("b", 120);
    trim("a", 1);
    run(CURSOR_ID, 105);
    ck_page("(105,110]expired 120", true, 120);
    run(CURSOR_ID, 110);
    ck_page("120", true, 120);
    run(CURSOR_ID, 130 - 10);
    ck_page("", true, 120);
}
END_TEST

START_TEST(test_the_end_of_a_log_that_was_deleted_is_told)
{
    want("a");
    publish("a", 110);
    publish("a", 120);
    fake.topics[0].count = 1;
    run(CURSOR_ID, 105);
    ck_page("110 (110,120]expired", true, 120);
}
END_TEST

START_TEST(test_an_event_that_expired_by_itself_is_no_gap)
{
    want("a");
    publish("a", 110);
    publish("a", 120)->expired = true;
    publish("a", 130);
    publish("a", 140)->expired = true;
    run(CURSOR_ID, 105);
    ck_page("110 130", true, 140);
}
END_TEST

START_TEST(test_an_entry_without_prev_is_passed_on_without_a_verdict)
{
    want("a");
    publish("a", 110);
    publish("a", 120);
    publish("a", 130)->has_prev = false;
    trim("a", 2);
    run(CURSOR_ID, 105);
    ck_page("130", true, 130);
}
END_TEST

/* --- the horizon ----------------------------------------------------------------------------- */

START_TEST(test_a_store_that_lost_its_data_is_told_by_the_horizon)
{
    want("a");
    fake.position = fake.horizon = 500;
    run(CURSOR_ID, 110);
    ck_page("(110,500]redis-lost", true, 500);
    publish("a", 510);
    publish("a", 520);
    run(CURSOR_ID, 110);
    ck_page("(110,500]redis-lost 510 520", true, 520);
    run(CURSOR_ID, 500);
    ck_page("510 520", true, 520);
}
END_TEST

START_TEST(test_a_pruned_topic_is_told_as_expired)
{
    want("a");
    publish("a", 110);
    publish("b", 120);
    prune("a");
    run(CURSOR_ID, 105);
    ck_page("(105,110]expired", true, 120);
    run(CURSOR_ID, 110);
    ck_page("", true, 120);
    publish("a", 130);
    run(CURSOR_ID, 105);
    ck_page("(105,110]expired 130", true, 130);
}
END_TEST

START_TEST(test_a_chain_that_holds_needs_no_horizon)
{
    want("a");
    publish("a", 110);
    publish("a", 120);
    publish("b", 130);
    prune("b");
    run(CURSOR_ID, 110);
    ck_page("120", true, 130);
    run(CURSOR_ID, 120);
    ck_page("", true, 130);
}
END_TEST

START_TEST(test_a_pattern_cannot_know_what_was_pruned)
{
    want("*");
    publish("a", 110);
    publish("a", 120);
    publish("b", 130);
    publish("a", 140);
    prune("b");
    run(CURSOR_ID, 110);
    ck_page("120 (110,130]expired 140", true, 140);
    run(CURSOR_ID, 130);
    ck_page("140", true, 140);
}
END_TEST

/* The horizon may have risen above the first events of a topic that was itself pruned and came back
 * before that. */
START_TEST(test_a_chain_that_begins_below_the_horizon_is_told_before_its_first_event)
{
    want("a");
    publish("a", 110);
    publish("b", 150);
    prune("a");
    for (uint64_t id = 120; id <= 140; id += 10)
        publish("a", id);
    prune("b");
    ck_assert_uint_eq(fake.horizon, 150);
    ask(CURSOR_ID, 105);
    replay.max_events = 2; /* the page ends below the horizon */
    replay_start(&replay);
    ck_page("(105,119]expired 120 130", false, 130);
    run(CURSOR_ID, 130);
    ck_page("140", true, 150);
}
END_TEST

START_TEST(test_a_chain_that_begins_right_after_the_cursor_has_no_gap)
{
    want("a");
    fake.position = fake.horizon = 500;
    publish("a", 111);
    run(CURSOR_ID, 110);
    ck_page("111", true, 500);
}
END_TEST

START_TEST(test_a_repair_goes_by_the_horizon)
{
    want("a");
    publish("a", 110);
    ask(CURSOR_ID, 90);
    replay.repair = true;
    replay_start(&replay);
    ck_assert_int_eq(replay.items[0].event != NULL, false);
    ck_assert_uint_eq(replay.items[0].id, 100);
    ck_assert_ptr_null(replay.items[0].topic);
    ck_assert_uint_eq(event_id(replay.items[replay.count - 1].event), 110);
}
END_TEST

START_TEST(test_a_repair_leaves_alone_what_has_not_moved)
{
    want("a");
    want("never");
    publish("a", 110);
    ask(CURSOR_ID, 105);
    replay.repair = true;
    replay_start(&replay);
    ck_page("110", true, 110);
    ask(CURSOR_ID, 110);
    replay.repair = true;
    replay_start(&replay);
    ck_page("", true, 110);
}
END_TEST

START_TEST(test_a_gap_names_its_topic)
{
    want("a");
    want("b");
    publish("a", 110);
    publish("b", 120);
    publish("b", 130);
    trim("a", 1);
    trim("b", 1);
    run(CURSOR_ID, 105);
    ck_page("(105,110]expired (105,120]trimmed 130", true, 130);
    ck_assert_str_eq(replay.items[0].topic, "a");
    ck_assert_str_eq(replay.items[1].topic, "b");
}
END_TEST

/* --- cursors that are none ------------------------------------------------------------------- */

START_TEST(test_an_unknown_id_is_told_and_goes_on_live)
{
    want("a");
    publish("a", 110);
    run(CURSOR_UNKNOWN, 0);
    ck_page("(-1,110]unknown-id", true, 110);
    ck_assert_uint_eq(replay.items[0].from, UINT64_MAX);
    ck_assert_uint_eq(replay.start, 0);
    run(CURSOR_ID, 111); /* from a future that never was */
    ck_page("(111,110]unknown-id", true, 110);
    ck_assert_uint_eq(replay.start, 0);
}
END_TEST

START_TEST(test_since_reads_from_a_time_without_blame_for_what_was_before)
{
    want("a");
    for (uint64_t id = 110; id <= 130; id += 10)
        publish("a", id);
    run(CURSOR_SINCE, 120); /* that very microsecond counts */
    ck_page("120 130", true, 130);
    ck_assert_uint_eq(replay.start, 119);
    run(CURSOR_SINCE, 0);
    ck_page("110 120 130", true, 130);
    ck_assert_uint_eq(replay.start, 100);
    run(CURSOR_SINCE, 999);
    ck_page("", true, 130);
    ck_assert_uint_eq(replay.start, 130);
    trim("a", 1);
    run(CURSOR_SINCE, 105);
    ck_page("(104,110]trimmed 120 130", true, 130);
}
END_TEST

START_TEST(test_all_gives_history_as_it_is)
{
    want("a");
    want("b");
    run(CURSOR_ALL, 0);
    ck_page("", true, 100);
    ck_assert_uint_eq(replay.start, 100);
    for (uint64_t id = 110; id <= 150; id += 10)
        publish("a", id);
    publish("b", 160);
    trim("a", 2);
    trim("b", 1);
    run(CURSOR_ALL, 0);
    ck_page("130 140 150", true, 160);
    ck_assert_uint_eq(replay.start, 129);
}
END_TEST

START_TEST(test_last_gives_the_newest_over_all_topics)
{
    want("a");
    want("b");
    for (uint64_t id = 110; id <= 150; id += 10)
        publish("a", id);
    publish("b", 125);
    publish("b", 145);
    run(CURSOR_LAST, 3);
    ck_page("140 145 150", true, 150);
    ck_assert_uint_eq(replay.start, 139);
    run(CURSOR_LAST, 100);
    ck_page("110 120 125 130 140 145 150", true, 150);
    run(CURSOR_LAST, 1);
    ck_page("150", true, 150);
}
END_TEST

START_TEST(test_last_counts_an_event_of_two_topics_once)
{
    want("a");
    want("b");
    publish("a", 110);
    publish("a", 120);
    publish("b", 120);
    publish("a", 130);
    run(CURSOR_LAST, 2);
    ck_page("120 130", true, 130);
}
END_TEST

START_TEST(test_last_does_not_tell_of_a_hole_before_its_first_event)
{
    want("a");
    for (uint64_t id = 110; id <= 150; id += 10)
        publish("a", id);
    memmove(&fake.topics[0].entries[2], &fake.topics[0].entries[3], 2 * sizeof(struct fake_entry));
    fake.topics[0].count--;
    want("b");
    publish("b", 115);
    publish("b", 135);
    topic_get("b")->count = 1; /* 135 was deleted */
    run(CURSOR_LAST, 2);
    ck_page("140 150", true, 150);
    ck_assert_uint_eq(replay.start, 139);
    run(CURSOR_LAST, 3);
    ck_page("120 (120,130]trimmed (115,135]expired 140 150", true, 150);
}
END_TEST

/* --- several topics -------------------------------------------------------------------------- */

START_TEST(test_topics_are_merged_by_id)
{
    want("a");
    want("b");
    want("c");
    publish("a", 110);
    publish("c", 115);
    publish("b", 120);
    publish("a", 130);
    publish("b", 135);
    run(CURSOR_ID, 110);
    ck_page("115 120 130 135", true, 135);
}
END_TEST

START_TEST(test_an_event_on_two_topics_comes_once)
{
    want("a");
    want("b");
    want("*"); /* and by a pattern as well */
    publish("a", 110);
    publish("b", 110);
    publish("b", 120);
    run(CURSOR_ID, 100);
    ck_page("110 120", true, 120);
}
END_TEST

START_TEST(test_a_pattern_reads_what_matches)
{
    want("a.*");
    publish("a.x", 110);
    publish("b.x", 120);
    publish("a.y", 130);
    publish("a.y.z", 140);
    run(CURSOR_ID, 100);
    ck_page("110 130", true, 140);
}
END_TEST

START_TEST(test_a_gap_that_ends_with_an_event_does_not_move_the_cursor)
{
    want("a");
    want("b");
    publish("a", 110);
    publish("a", 120);
    publish("b", 120);
    publish("b", 130);
    trim("b", 1);
    run(CURSOR_ID, 105);
    ck_page("110 (105,120]trimmed! 120 130", true, 130);
}
END_TEST

START_TEST(test_two_gaps_of_one_end_are_told_as_the_wider)
{
    want("a");
    want("b");
    publish("a", 110);
    publish("a", 120);
    publish("b", 120);
    publish("a", 130);
    publish("b", 130);
    memmove(&fake.topics[0].entries[1], &fake.topics[0].entries[2], sizeof(struct fake_entry));
    fake.topics[0].count--;
    trim("b", 1);
    run(CURSOR_ID, 105);
    ck_page("110 (105,120]trimmed 130", true, 130);
    ck_assert_ptr_null(replay.items[1].topic);
}
END_TEST

/* --- pages ----------------------------------------------------------------------------------- */

START_TEST(test_a_page_ends_at_its_number_of_events)
{
    want("a");
    for (uint64_t id = 101; id <= 110; id++)
        publish("a", id);
    ask(CURSOR_ID, 100);
    replay.max_events = 4;
    replay_start(&replay);
    ck_page("101 102 103 104", false, 104);
    ask(CURSOR_ID, 104);
    replay.max_events = 6;
    replay_start(&replay);
    ck_assert_str_eq(shown(), "105 106 107 108 109 110");
    ck_assert_uint_eq(replay.end, 110);
}
END_TEST

START_TEST(test_a_page_ends_at_its_bytes_but_holds_at_least_one_event)
{
    want("a");
    for (uint64_t id = 101; id <= 104; id++)
        publish("a", id)->bytes = 500;
    ask(CURSOR_ID, 100);
    replay.max_bytes = 1200;
    replay_start(&replay);
    ck_page("101 102", false, 102);
    ask(CURSOR_ID, 102);
    replay.max_bytes = 1;
    replay_start(&replay);
    ck_page("103", false, 103);
}
END_TEST

START_TEST(test_a_page_never_passes_what_a_topic_may_still_bring)
{
    want("a");
    want("b");
    for (uint64_t id = 101; id <= 180; id++)
        publish("a", id);
    publish("b", 181);
    run(CURSOR_ID, 100); /* reads 32 of `a` at most */
    ck_assert(!replay.final);
    ck_assert_uint_eq(replay.count, 32);
    ck_assert_uint_eq(replay.end, 132);
}
END_TEST

START_TEST(test_over_the_budget_the_rest_is_one_gap)
{
    want("a");
    for (uint64_t id = 101; id <= 110; id++)
        publish("a", id);
    ask(CURSOR_ID, 100);
    replay.budget = 3;
    replay_start(&replay);
    ck_page("101 102 103 (103,110]overflow", true, 110);
    ask(CURSOR_ID, 103);
    replay.budget = 0;
    replay_start(&replay);
    ck_page("(103,110]overflow", true, 110);
    ask(CURSOR_ID, 100);
    replay.budget = 10;
    replay_start(&replay);
    ck_page("101 102 103 104 105 106 107 108 109 110", true, 110);
    ask(CURSOR_ID, 110);
    replay.budget = 0;
    replay_start(&replay);
    ck_page("", true, 110);
}
END_TEST

START_TEST(test_all_is_paged_from_its_first_event)
{
    want("a");
    for (uint64_t id = 101; id <= 106; id++)
        publish("a", id);
    ask(CURSOR_ALL, 0);
    replay.max_events = 4;
    replay_start(&replay);
    ck_page("101 102 103 104", false, 104);
    ck_assert_uint_eq(replay.start, 100);
    ask(CURSOR_LAST, 5);
    replay.max_events = 2;
    replay_start(&replay);
    ck_page("102 103", false, 103);
    ck_assert_uint_eq(replay.start, 101);
}
END_TEST

/* --- the store's moods ----------------------------------------------------------------------- */

START_TEST(test_a_store_that_went_away_is_told)
{
    want("a");
    fake.away = true;
    ask(CURSOR_ID, 100);
    replay_start(&replay);
    ck_assert_uint_eq(done, 1);
    ck_assert_int_eq(result, ERR_AGAIN);
}
END_TEST

START_TEST(test_all_ranges_are_waited_for_and_one_failure_is_all)
{
    want("a");
    want("b");
    publish("a", 110);
    publish("b", 120);
    fake.slow = true;
    ask(CURSOR_ID, 100);
    replay_start(&replay);
    ck_assert_uint_eq(fake.waiting_count, 2);
    range_answer(fake.waiting[0]);
    ck_assert_uint_eq(done, 0);
    if (_i == 0) {
        range_answer(fake.waiting[1]);
        ck_assert_int_eq(result, OK);
        ck_page("110 120", true, 120);
    } else {
        fake.waiting[1]->done(fake.waiting[1], ERR_AGAIN);
        ck_assert_int_eq(result, ERR_AGAIN);
        ck_assert_uint_eq(replay.count, 0);
    }
    ck_assert_uint_eq(done, 1);
}
END_TEST

/* --- the model ------------------------------------------------------------------------------- */

enum { MODEL_IDS = 200, MODEL_TOPICS = 5 };

static const char *const model_names[MODEL_TOPICS] = {"a", "b", "x.1", "x.2", "x.y.z"};

/* What happened: for each id, who was told of it, and what is left. */
struct model {
    struct rng rng;
    bool published[MODEL_TOPICS][MODEL_IDS];
    bool expired[MODEL_IDS];
    bool delivered[MODEL_IDS], told[MODEL_IDS];
};

static void model_history(struct model *m)
{
    for (uint64_t id = 101; id < MODEL_IDS; id++) {
        if (rng_below(&m->rng, 3) == 0)
            continue;
        m->expired[id] = rng_below(&m->rng, 10) == 0;
        for (size_t on = 1 + rng_below(&m->rng, 2); on; on--) {
            size_t t = rng_below(&m->rng, MODEL_TOPICS);
            if (m->published[t][id])
                continue;
            m->published[t][id] = true;
            publish(model_names[t], id)->expired = m->expired[id];
        }
        size_t accident = rng_below(&m->rng, 40);
        const char *victim = model_names[rng_below(&m->rng, MODEL_TOPICS)];
        struct fake_topic *topic = topic_get(victim);
        if (accident < 3 && topic->count)
            trim(victim, 1 + rng_below(&m->rng, topic->count));
        else if (accident == 3)
            prune(victim);
    }
}

static bool model_wants(size_t t)
{
    for (size_t i = 0; i < topics.count; i++)
        if (pattern_matches(slice_of(names[i]), slice_of(model_names[t])))
            return true;
    return false;
}

static bool model_exact(void)
{
    for (size_t i = 0; i < topics.count; i++)
        if (strchr(names[i], '*') || strchr(names[i], '>'))
            return false;
    return true;
}

/* Whether this wanted event is still in some wanted topic's log, which then must bring it. */
static bool model_is_left(size_t t, uint64_t id)
{
    const struct fake_topic *topic = topic_get(model_names[t]);
    for (size_t i = 0; i < topic->count; i++)
        if (topic->entries[i].id == id)
            return true;
    return false;
}

static void model_page(struct model *m, uint64_t *at)
{
    for (size_t i = 0; i < replay.count; i++) {
        const struct replay_item *item = &replay.items[i];
        uint64_t id = item->id;
        ck_assert_uint_le(id, replay.end);
        if (item->event) {
            ck_assert_uint_gt(id, *at);
            ck_assert(!m->delivered[id] && !m->expired[id]);
            m->delivered[id] = true;
            *at = id;
            continue;
        }
        ck_assert(item->tied ? id > *at : id > *at);
        ck_assert_uint_lt(item->from, id);
        for (uint64_t lost = 0; lost <= id; lost++)
            m->told[lost] = true;
        ck_assert(!item->tied || (i + 1 < replay.count && replay.items[i + 1].event &&
                                  replay.items[i + 1].id == id));
        if (!item->tied)
            *at = id;
    }
}

static void model_check(const struct model *m, uint64_t cursor)
{
    for (uint64_t id = 0; id < MODEL_IDS; id++) {
        bool wanted = false, left = false, gone = false;
        for (size_t t = 0; t < MODEL_TOPICS; t++) {
            if (!m->published[t][id] || !model_wants(t))
                continue;
            wanted = true;
            left |= model_is_left(t, id);
            gone |= !model_is_left(t, id);
        }
        bool due = wanted && id > cursor && !m->expired[id];
        ck_assert_msg(m->delivered[id] == (due && left), "id %llu: delivered %d, due %d, left %d",
                      (unsigned long long)id, m->delivered[id], due, left);
        if (due && gone && !left)
            ck_assert_msg(m->told[id], "id %llu is lost and nobody was told",
                          (unsigned long long)id);
    }
}

/* A stream for exact topics hears of a gap only where something of its topics is gone, and a stream
 * of one topic hears exactly what: (from, to] holds all that is lost and nothing that is not. */
static void model_check_gaps(const struct model *m, uint64_t cursor)
{
    static const struct replay_item none;
    const struct replay_item *item = replay.count ? &replay.items[0] : &none;
    size_t t = 0;
    while (t < MODEL_TOPICS && strcmp(model_names[t], names[0]) != 0)
        t++;
    if (topics.count != 1 || t == MODEL_TOPICS || replay.start != cursor || item->event ||
        !item->id)
        return;
    uint64_t last_lost = 0;
    for (uint64_t id = cursor + 1; id <= item->id; id++) {
        ck_assert(!model_is_left(t, id));
        if (m->published[t][id])
            last_lost = id;
    }
    ck_assert_uint_eq(item->from, cursor);
    /* Where the chain itself ended, the horizon is all that is known. */
    ck_assert(last_lost == item->id || fake.pruned);
}

static void model_run(struct rng rng)
{
    static const char *const choices[] = {"a", "b", "x.1", "x.2", "x.y.z", "x.*", "x.>", "*", ">"};
    struct model m = {.rng = rng};
    setup();
    model_history(&m);
    for (size_t count = 1 + rng_below(&m.rng, 3); count; count--)
        want(choices[rng_below(&m.rng, sizeof(choices) / sizeof(choices[0]))]);
    uint64_t cursor = 100 + rng_below(&m.rng, fake.position - 99);
    uint64_t next = cursor, at = cursor;
    bool final = false;
    for (unsigned pages = 0; !final; pages++) {
        ck_assert_uint_lt(pages, 300);
        ask(CURSOR_ID, next);
        replay.max_events = (uint32_t)(1 + rng_below(&m.rng, 30));
        replay.max_bytes = 20 + rng_below(&m.rng, 400);
        replay_start(&replay);
        ck_assert_int_eq(result, OK);
        ck_assert(replay.final || replay.end > next);
        model_page(&m, &at);
        if (model_exact())
            model_check_gaps(&m, next);
        next = replay.end;
        final = replay.final;
    }
    ck_assert_uint_eq(next, fake.position);
    model_check(&m, cursor);
    teardown();
    topics.count = 0;
}

START_TEST(test_model_everything_is_delivered_once_or_told)
{
    struct rng rng = rng_seeded("replay model");
    teardown();
    for (int i = 0; i < 3000; i++) {
        model_run(rng);
        rng_next(&rng);
    }
    setup();
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("replay");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_live_only_starts_at_the_position);
    tcase_add_test(cases, test_what_came_after_the_cursor_is_read);
    tcase_add_test(cases, test_a_trimmed_log_is_told_exactly);
    tcase_add_test(cases, test_a_hole_inside_the_log_is_told);
    tcase_add_test(cases, test_an_expired_log_is_told_from_a_silent_topic);
    tcase_add_test(cases, test_the_end_of_a_log_that_was_deleted_is_told);
    tcase_add_test(cases, test_an_event_that_expired_by_itself_is_no_gap);
    tcase_add_test(cases, test_an_entry_without_prev_is_passed_on_without_a_verdict);
    tcase_add_test(cases, test_a_store_that_lost_its_data_is_told_by_the_horizon);
    tcase_add_test(cases, test_a_pruned_topic_is_told_as_expired);
    tcase_add_test(cases, test_a_chain_that_holds_needs_no_horizon);
    tcase_add_test(cases, test_a_pattern_cannot_know_what_was_pruned);
    tcase_add_test(cases,
                   test_a_chain_that_begins_below_the_horizon_is_told_before_its_first_event);
    tcase_add_test(cases, test_a_chain_that_begins_right_after_the_cursor_has_no_gap);
    tcase_add_test(cases, test_a_repair_goes_by_the_horizon);
    tcase_add_test(cases, test_a_repair_leaves_alone_what_has_not_moved);
    tcase_add_test(cases, test_a_gap_names_its_topic);
    tcase_add_test(cases, test_an_unknown_id_is_told_and_goes_on_live);
    tcase_add_test(cases, test_since_reads_from_a_time_without_blame_for_what_was_before);
    tcase_add_test(cases, test_all_gives_history_as_it_is);
    tcase_add_test(cases, test_last_gives_the_newest_over_all_topics);
    tcase_add_test(cases, test_last_counts_an_event_of_two_topics_once);
    tcase_add_test(cases, test_last_does_not_tell_of_a_hole_before_its_first_event);
    tcase_add_test(cases, test_topics_are_merged_by_id);
    tcase_add_test(cases, test_an_event_on_two_topics_comes_once);
    tcase_add_test(cases, test_a_pattern_reads_what_matches);
    tcase_add_test(cases, test_a_gap_that_ends_with_an_event_does_not_move_the_cursor);
    tcase_add_test(cases, test_two_gaps_of_one_end_are_told_as_the_wider);
    tcase_add_test(cases, test_a_page_ends_at_its_number_of_events);
    tcase_add_test(cases, test_a_page_ends_at_its_bytes_but_holds_at_least_one_event);
    tcase_add_test(cases, test_a_page_never_passes_what_a_topic_may_still_bring);
    tcase_add_test(cases, test_over_the_budget_the_rest_is_one_gap);
    tcase_add_test(cases, test_all_is_paged_from_its_first_event);
    tcase_add_test(cases, test_a_store_that_went_away_is_told);
    tcase_add_loop_test(cases, test_all_ranges_are_waited_for_and_one_failure_is_all, 0, 2);
    tcase_add_test(cases, test_model_everything_is_delivered_once_or_told);
    Suite *suite = suite_create("replay");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
