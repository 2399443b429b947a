/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger.h"
#include "common/mem.h"
#include <assert.h>
#include <stdlib.h>

void ledger_init(struct ledger *l, uint32_t run, uint32_t topics)
{
    *l = (struct ledger){.run = run};
    l->topic_events = mem_zero(topics, sizeof *l->topic_events);
}

void ledger_reset(struct ledger *l)
{
    free(l->events);
    free(l->topic_events);
    *l = (struct ledger){0};
}

static bool is_complete(const struct ledger_event *ev)
{
    return (ev->flags & LEDGER_ACKED) && (ev->missing == 0 || (ev->flags & LEDGER_PAST));
}

uint64_t ledger_add(struct ledger *l, uint32_t topic, uint32_t receivers, uint64_t at_ns,
                    uint32_t flags)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? l->capacity * 2 : 1024;
        l->events = mem_resize(l->events, l->capacity * sizeof *l->events);
    }
    l->events[l->count++] = (struct ledger_event){
        .at_ns = at_ns,
        .topic = topic,
        .missing = receivers,
        .s = ++l->topic_events[topic],
        .flags = flags,
    };
    l->open++;
    return l->count;
}

struct ledger_event *ledger_get(const struct ledger *l, uint64_t g)
{
    return g >= 1 && g <= l->count ? &l->events[g - 1] : NULL;
}

struct tag ledger_tag(const struct ledger *l, uint64_t g)
{
    const struct ledger_event *ev = &l->events[g - 1];
    return (struct tag){.run = l->run, .g = g, .topic = ev->topic, .s = ev->s, .at_ns = ev->at_ns};
}

static void close_event(struct ledger *l, const struct ledger_event *ev)
{
    assert(l->open > 0);
    l->open--;
    if ((ev->flags & LEDGER_MEASURED) && !(ev->flags & LEDGER_FAILED))
        l->complete_measured++;
}

void ledger_ack(struct ledger *l, uint64_t g, bool ok, uint64_t id)
{
    struct ledger_event *ev = &l->events[g - 1];
    ev->flags |= LEDGER_ACKED;
    ev->id = id;
    if (!ok) {
        ev->flags |= LEDGER_FAILED;
        ev->missing = 0;
        l->failed++;
    }
    if (is_complete(ev))
        close_event(l, ev);
}

void ledger_receive(struct ledger *l, uint64_t g)
{
    struct ledger_event *ev = &l->events[g - 1];
    if (ev->missing == 0 || (ev->flags & LEDGER_PAST))
        return; /* too many: the client's own account tells */
    ev->missing--;
    if (is_complete(ev))
        close_event(l, ev);
}

uint64_t ledger_first_open(struct ledger *l)
{
    while (l->first_open < l->count && is_complete(&l->events[l->first_open]))
        l->first_open++;
    return l->first_open + 1;
}

struct ledger_index {
    const struct ledger *ledger;
    size_t *start; /* [topic]: where its events begin; one more at the end */
    uint64_t *events;
};

struct ledger_index *ledger_index_new(const struct ledger *l, uint32_t topics)
{
    struct ledger_index *index = mem_zero(1, sizeof *index);
    index->ledger = l;
    index->start = mem_zero(topics + 2, sizeof *index->start);
    index->events = mem_zero(l->count + 1, sizeof *index->events);
    for (uint64_t i = 0; i < l->count; i++)
        index->start[l->events[i].topic + 2]++;
    for (uint32_t t = 2; t < topics + 2; t++)
        index->start[t] += index->start[t - 1];
    /* Filled through the neighbour's start, which ends up where this topic's begins. */
    for (uint64_t i = 0; i < l->count; i++)
        index->events[index->start[l->events[i].topic + 1]++] = i + 1;
    return index;
}

void ledger_index_free(struct ledger_index *index)
{
    if (!index)
        return;
    free(index->start);
    free(index->events);
    free(index);
}

struct ledger_sum ledger_index_sum(const struct ledger_index *index, const uint32_t *topics,
                                   size_t count, uint64_t after, uint64_t last)
{
    struct ledger_sum sum = {0};
    for (size_t i = 0; i < count; i++) {
        for (size_t k = index->start[topics[i] + 1]; k-- > index->start[topics[i]];) {
            uint64_t g = index->events[k];
            if (g <= after)
                break;
            if (g > last || (index->ledger->events[g - 1].flags & LEDGER_FAILED))
                continue;
            sum.count++;
            sum.hash += tag_hash(g);
        }
    }
    return sum;
}
