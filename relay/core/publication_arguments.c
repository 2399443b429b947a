/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/publication_arguments.h"

#include <stdio.h>

#include "relay/core/publication_fields.h"

static struct slice number_text(struct publication_arguments *out, enum publication_field field,
                                uint64_t n)
{
    char *text = out->numbers[field];
    int len = snprintf(text, sizeof(out->numbers[field]), "%llu", (unsigned long long)n);
    return (struct slice){text, (size_t)len};
}

/* Of any field but the topics. */
static struct slice field_text(const struct publication *p, enum publication_field field,
                               struct publication_arguments *out)
{
    switch (field) {
    case FIELD_DATA:
        return p->data;
    case FIELD_EVENT:
        return p->event;
    case FIELD_RETRY:
        return number_text(out, field, p->retry_ms);
    case FIELD_EPHEMERAL:
    case FIELD_END:
        return SLICE_LIT("1");
    case FIELD_ONCE:
        return p->once;
    case FIELD_ONCE_TTL:
        return number_text(out, field, p->once_ttl_ms);
    case FIELD_PRIORITY:
        return slice_of(lane_name(p->lane));
    case FIELD_KEY:
        return p->key;
    case FIELD_TTL:
        return number_text(out, field, p->ttl_ms);
    case FIELD_MATCH:
        return p->match;
    case FIELD_END_AFTER:
        return number_text(out, field, p->end_after_ms);
    case FIELD_LOG_MAX:
        return number_text(out, field, p->log_max);
    case FIELD_LOG_TTL:
        return number_text(out, field, p->log_ttl_ms);
    case FIELD_TOPIC:
    case FIELD_TOPICS:
    case FIELD_COUNT:
        break;
    }
    return SLICE_NONE;
}

static void add_argument(struct publication_arguments *out, enum publication_field field,
                         struct slice text)
{
    out->items[out->count++] = slice_of(publication_field_name(field));
    out->items[out->count++] = text;
}

void publication_put_arguments(const struct publication *p, struct publication_arguments *out)
{
    out->count = 0;
    for (size_t i = 0; i < p->topics.count; i++)
        add_argument(out, FIELD_TOPIC, slice_of(p->topics.items[i]));
    for (enum publication_field field = FIELD_DATA; field < FIELD_COUNT; field++)
        if (publication_has(p, field))
            add_argument(out, field, field_text(p, field, out));
}

size_t publication_bytes(const struct publication *p)
{
    struct publication_arguments arguments;
    size_t bytes = 0;
    publication_put_arguments(p, &arguments);
    for (size_t i = 0; i < arguments.count; i++)
        bytes += arguments.items[i].len + 1;
    return bytes;
}
