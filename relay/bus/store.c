/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/store.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/core/lane_rules.h"
#include "relay/core/pattern.h"
#include "relay/core/topic_index.h"

enum { PATTERNS_FEW = 16 }; /* above, an index of them pays */

/* Of the metrics: metrics_set_types(). */
static uint8_t find_type_slot(const struct strings *types, struct slice type)
{
    for (size_t i = 0; i < types->count && type.len; i++)
        if (slice_is(type, types->items[i]))
            return (uint8_t)(i + 1);
    return 0;
}

struct event *store_event(const struct config *config, const struct event_fields *fields,
                          uint64_t arrival_us)
{
    struct event_fields named = *fields;
    named.is_untyped =
        !fields->type.len && !event_type_is_reserved(fields->topic, config->control_prefix);
    if (named.is_untyped && config->events_type_from_topic)
        named.type = fields->topic;
    named.type_slot = find_type_slot(&config->metrics_types, named.type);
    lane_rules_apply(config, &named);
    return event_new(&named, arrival_us);
}

static struct store_topic *topic_add(struct store_look *look)
{
    look->topics = mem_grow(look->topics, look->count, sizeof(*look->topics));
    return &look->topics[look->count++];
}

void store_look_add(struct store_look *look, struct slice topic, uint64_t last, enum topic_end end)
{
    *topic_add(look) = (struct store_topic){.name = slice_dup(topic), .last = last, .end = end};
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* By name, the entry that was found before the one that was only asked for. */
static int compare_topics(const void *a, const void *b)
{
    const struct store_topic *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->last < y->last) - (x->last > y->last);
}

/* The patterns of a look. A whole namespace's may be as many as its topics. */
struct wanted {
    char **patterns;
    size_t count;
    struct topic_index *index; /* NULL: they are few */
    struct topic_sub *subs;
};

static void wanted_index(struct wanted *wanted)
{
    if (wanted->count <= PATTERNS_FEW)
        return;
    wanted->index = topic_index_new();
    wanted->subs = mem_zero(wanted->count, sizeof(*wanted->subs));
    for (size_t i = 0; i < wanted->count; i++)
        topic_index_add(wanted->index, slice_of(wanted->patterns[i]), &wanted->subs[i], NULL);
}

static void wanted_reset(struct wanted *wanted)
{
    for (size_t i = 0; i < wanted->count && wanted->index; i++)
        topic_index_remove(wanted->index, &wanted->subs[i]);
    if (wanted->index)
        topic_index_free(wanted->index);
    free(wanted->subs);
    free(wanted->patterns);
}

static void on_match(void *owner, void *arg)
{
    (void)owner;
    *(bool *)arg = true;
}

static bool wanted_matches(const struct wanted *wanted, struct slice topic)
{
    bool found = false;
    if (wanted->index)
        topic_index_match(wanted->index, topic, on_match, &found);
    else
        for (size_t i = 0; i < wanted->count && !found; i++)
            found = pattern_matches(slice_of(wanted->patterns[i]), topic);
    return found;
}

void store_look_settle(struct store_look *look)
{
    const struct strings *names = look->names;
    char **exact = mem_alloc((names->count + 1) * sizeof(*exact));
    struct wanted wanted = {.patterns = mem_alloc((names->count + 1) * sizeof(char *))};
    size_t exact_count = 0;
    for (size_t i = 0; i < names->count; i++) {
        if (name_is_pattern(slice_of(names->items[i])))
            wanted.patterns[wanted.count++] = names->items[i];
        else
            exact[exact_count++] = names->items[i];
    }
    for (size_t i = 0; i < exact_count && !look->moved_only; i++)
        store_look_add(look, slice_of(exact[i]), 0, END_NONE);
    qsort(exact, exact_count, sizeof(*exact), compare_texts);
    if (look->count)
        qsort(look->topics, look->count, sizeof(*look->topics), compare_topics);

    wanted_index(&wanted);
    size_t kept = 0;
    for (size_t i = 0; i < look->count; i++) {
        struct store_topic *topic = &look->topics[i];
        bool repeat = kept && strcmp(look->topics[kept - 1].name, topic->name) == 0;
        topic->exact =
            bsearch(&topic->name, exact, exact_count, sizeof(*exact), compare_texts) != NULL;
        if (repeat || (!topic->exact && !wanted_matches(&wanted, slice_of(topic->name))))
            free(topic->name);
        else
            look->topics[kept++] = *topic;
    }
    look->count = kept;
    free(exact);
    wanted_reset(&wanted);
}

void store_look_reset(struct store_look *look)
{
    for (size_t i = 0; i < look->count; i++)
        free(look->topics[i].name);
    free(look->topics);
    look->topics = NULL;
    look->count = 0;
}

void store_range_reset(struct store_range *range)
{
    for (size_t i = 0; i < range->count; i++)
        event_unref(range->entries[i].event);
    free(range->entries);
    range->entries = NULL;
    range->count = 0;
}

enum store_condition store_condition(const struct store *store)
{
    return store->ops->condition ? store->ops->condition(store->impl) : STORE_GOOD;
}

int64_t store_clock_offset_us(const struct store *store)
{
    return store->ops->clock_offset_us ? store->ops->clock_offset_us(store->impl) : 0;
}
