/* SPDX-License-Identifier: Apache-2.0 */
#include "replay_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/match.h"
#include "common/mem.h"

struct fake fake;
struct rig rig;

/* --- the store --- */

struct fake_topic *fake_topic_get(const char *name)
{
    for (size_t i = 0; i < fake.topic_count; i++)
        if (strcmp(fake.topics[i].name, name) == 0)
            return &fake.topics[i];
    struct fake_topic *topic = &fake.topics[fake.topic_count++];
    *topic = (struct fake_topic){0};
    snprintf(topic->name, sizeof(topic->name), "%s", name);
    return topic;
}

struct fake_entry *fake_publish(const char *name, uint64_t id)
{
    struct fake_topic *topic = fake_topic_get(name);
    struct fake_entry *entry = &topic->entries[topic->count++];
    ck_assert_uint_le(topic->count, 256);
    *entry = (struct fake_entry){.id = id, .prev = topic->last, .has_prev = true, .bytes = 1};
    topic->last = id;
    if (fake.position < id)
        fake.position = id;
    return entry;
}

void fake_trim(const char *name, size_t count)
{
    struct fake_topic *topic = fake_topic_get(name);
    memmove(topic->entries, topic->entries + count,
            (topic->count - count) * sizeof(topic->entries[0]));
    topic->count -= count;
}

void fake_prune(const char *name)
{
    struct fake_topic *topic = fake_topic_get(name);
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
    look->position = look->upto = fake.position;
    look->horizon = fake.horizon;
    look->pruned = fake.pruned;
    for (size_t i = 0; i < fake.topic_count; i++) {
        struct fake_topic *topic = &fake.topics[i];
        bool exact = false;
        for (size_t j = 0; j < look->names->count; j++)
            exact |= strcmp(look->names->items[j], topic->name) == 0;
        if (topic->last && (topic->last > look->cursor || (exact && !look->moved_only)))
            store_look_add(look, slice_of(topic->name), topic->last, topic->end);
    }
    store_look_settle(look);
    look->done(look, OK);
}

static void range_entry(struct store_range *range, const struct fake_entry *entry)
{
    static char text[1024];
    memset(text, 'x', sizeof(text));
    struct buf match = {0};
    bool readable = entry->match && match_put(&match, slice_of(entry->match)) == OK;
    struct event_fields fields = {.id = entry->id,
                                  .retry_ms = -1,
                                  .has_match = entry->match != NULL,
                                  .match = readable ? buf_slice(&match) : SLICE_NONE,
                                  .ns = slice_of(range->ns),
                                  .topic = slice_of(range->topic),
                                  .type = slice_of(entry->type),
                                  .ttl_ms = entry->ttl_ms,
                                  .lane = entry->lane,
                                  .key = slice_of(entry->key),
                                  .data = {text, entry->bytes}};
    range->entries[range->count++] =
        (struct store_entry){.event = entry->expired ? NULL : event_new(&fields, 0),
                             .id = entry->id,
                             .prev = entry->prev,
                             .has_prev = entry->has_prev};
    buf_reset(&match);
}

void fake_answer(struct store_range *range)
{
    struct fake_topic *topic = fake_topic_get(range->topic);
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
        if (!topic->entries[i].foreign)
            range_entry(range, &topic->entries[i]);
    if (end > first)
        range->scanned = topic->entries[range->reverse ? first : end - 1].id;
    range->done(range, OK);
}

static void fake_range(void *impl, struct store_range *range)
{
    (void)impl;
    fake.ranges++;
    fake.asked += range->limit;
    if (fake.slow)
        fake.waiting[fake.waiting_count++] = range;
    else
        fake_answer(range);
}

static const struct store_ops ops = {.kind = "fake", .look = fake_look, .range = fake_range};
static struct store store = {.ops = &ops};

/* --- asking --- */

static void on_done(struct replay *r, enum err e)
{
    (void)r;
    rig.result = e;
    rig.done++;
}

void rig_ask(enum cursor_kind kind, uint64_t cursor)
{
    replay_reset(&rig.replay);
    rig.replay = (struct replay){.store = &store,
                                 .ns = "default",
                                 .names = &rig.topics,
                                 .sub = rig.sub,
                                 .kind = kind,
                                 .cursor = cursor,
                                 .max_events = 100,
                                 .max_bytes = 100000,
                                 .budget = 10000,
                                 .snapshot_max = 100,
                                 .done = on_done};
    rig.done = 0;
}

void rig_run(enum cursor_kind kind, uint64_t cursor)
{
    rig_ask(kind, cursor);
    replay_start(&rig.replay);
    ck_assert_uint_eq(rig.done, 1);
    ck_assert_int_eq(rig.result, OK);
}

void rig_want(const char *name)
{
    rig.names[rig.topics.count++] = mem_dup(name, strlen(name));
}

void rig_grant(struct grant *grant)
{
    struct subscription_request request = {.ns = mem_dup("default", 7), .grant = grant};
    strings_add(&request.topics, SLICE_LIT(">"));
    subscription_unref(rig.sub);
    rig.sub = subscription_new(&request);
}

void rig_want_type(const char *type)
{
    struct subscription_request request = {.ns = mem_dup("default", 7)};
    strings_add(&request.topics, SLICE_LIT(">"));
    strings_add(&request.types, slice_of(type));
    subscription_unref(rig.sub);
    rig.sub = subscription_new(&request);
}

const char *rig_ends(void)
{
    static char text[512];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < rig.replay.end_count; i++) {
        const struct note_end *end = &rig.replay.ends[i];
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%llu %s", i ? ", " : "",
                             end->topic, (unsigned long long)end->id, topic_end_name(end->reason));
    }
    return text;
}

const char *rig_shown(void)
{
    static char text[4096];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < rig.replay.count; i++) {
        const struct replay_item *item = &rig.replay.items[i];
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", i ? " " : "");
        if (item->event)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%llu",
                                    (unsigned long long)event_id(item->event));
        else
            len += (size_t)snprintf(text + len, sizeof(text) - len, "(%lld,%llu]%s%s",
                                    (long long)item->from, (unsigned long long)item->id,
                                    gap_reason_text(item->reason), !item->moves ? "!" : "");
        ck_assert_uint_lt(len, sizeof(text));
    }
    return text;
}

void rig_setup(void)
{
    fake = (struct fake){.position = 100, .horizon = 100};
    rig = (struct rig){.topics = {rig.names, 0}};
}

void rig_teardown(void)
{
    replay_reset(&rig.replay);
    subscription_unref(rig.sub);
    rig.sub = NULL;
    for (size_t i = 0; i < rig.topics.count; i++)
        free(rig.names[i]);
}
