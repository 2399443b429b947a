#include "relay/store.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/pattern.h"

struct event *store_event(const struct config *config, const struct event_fields *fields,
                          uint64_t arrival_us)
{
    if (!config->events_type_from_topic || fields->type.len)
        return event_new(fields, arrival_us);
    struct event_fields named = *fields;
    named.type = fields->topic;
    return event_new(&named, arrival_us);
}

static struct store_topic *topic_add(struct store_look *look)
{
    if ((look->count & (look->count - 1)) == 0) /* grows at powers of two */
        look->topics =
            mem_resize(look->topics, (look->count ? look->count * 2 : 1) * sizeof(*look->topics));
    return &look->topics[look->count++];
}

void store_look_add(struct store_look *look, struct slice topic, uint64_t last)
{
    *topic_add(look) = (struct store_topic){slice_dup(topic), last, false};
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

static bool matches_some(struct slice topic, char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (pattern_matches(slice_of(patterns[i]), topic))
            return true;
    return false;
}

void store_look_settle(struct store_look *look)
{
    const struct strings *names = look->names;
    char **exact = mem_alloc((names->count + 1) * sizeof(*exact));
    char **patterns = mem_alloc((names->count + 1) * sizeof(*patterns));
    size_t exact_count = 0, pattern_count = 0;
    for (size_t i = 0; i < names->count; i++) {
        if (name_is_pattern(slice_of(names->items[i])))
            patterns[pattern_count++] = names->items[i];
        else
            exact[exact_count++] = names->items[i];
    }
    for (size_t i = 0; i < exact_count && !look->moved_only; i++)
        store_look_add(look, slice_of(exact[i]), 0);
    qsort(exact, exact_count, sizeof(*exact), compare_texts);
    if (look->count)
        qsort(look->topics, look->count, sizeof(*look->topics), compare_topics);

    size_t kept = 0;
    for (size_t i = 0; i < look->count; i++) {
        struct store_topic *topic = &look->topics[i];
        bool repeat = kept && strcmp(look->topics[kept - 1].name, topic->name) == 0;
        topic->exact =
            bsearch(&topic->name, exact, exact_count, sizeof(*exact), compare_texts) != NULL;
        if (repeat ||
            (!topic->exact && !matches_some(slice_of(topic->name), patterns, pattern_count)))
            free(topic->name);
        else
            look->topics[kept++] = *topic;
    }
    look->count = kept;
    free(exact);
    free(patterns);
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
