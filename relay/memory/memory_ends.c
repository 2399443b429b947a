/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked about topics that end: docs/protocol.md, 8.4, as common/sse_relay.lua has it. */
#include "common/mem.h"
#include "relay/memory/memory_parts.h"

uint64_t memory_ended(struct memory *m, struct slice ns, struct slice topic, uint64_t now_us,
                      enum topic_end *end)
{
    struct memory_space *space = memory_space_find(m, ns);
    struct memory_topic *found = space ? memory_topic_live(m, space, topic, now_us) : NULL;
    *end = found ? found->end : END_NONE;
    return *end ? found->last : 0;
}

struct event *memory_end(struct memory *m, struct slice ns, struct slice topic, enum topic_end *end,
                         uint64_t now_us, uint64_t arrival_us, uint64_t *id)
{
    enum topic_end before;
    struct event *ev = NULL;
    *id = memory_ended(m, ns, topic, now_us, &before);
    if (before) {
        *end = before;
        return NULL;
    }
    struct publication p = {.data = SLICE_LIT(""), .ends = true};
    if (!event_type_is_reserved(SLICE_LIT("end"), m->config->control_prefix))
        p.event = SLICE_LIT("end");
    strings_add(&p.topics, topic);
    (void)memory_post(m, ns, &p, *end, now_us, arrival_us, &ev, id);
    strings_reset(&p.topics);
    return ev;
}

const char *memory_due(const struct memory *m, struct slice ns, uint64_t now_us, uint64_t *next_us)
{
    const struct memory_topic *topic, *first = NULL;
    TAILQ_FOREACH (topic, &m->due, in_due)
        if (slice_is(ns, topic->space->ns) && (!first || topic->due_us < first->due_us))
            first = topic;
    *next_us = first ? first->due_us : 0;
    return first && first->due_us <= now_us ? first->name : NULL;
}
