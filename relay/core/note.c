#include "relay/core/note.h"

#include <stdlib.h>

#include "common/sse.h"

void note_read_free(struct note_read *read)
{
    if (!read)
        return;
    for (size_t i = 0; i < read->count; i++)
        event_unref(read->events[i]);
    free(read->events);
    subscription_unref(read->sub);
    free(read);
}

void note_publish_free(struct note_publish *publish)
{
    if (!publish)
        return;
    publication_request_reset(&publish->request);
    buf_reset(&publish->detail);
    free(publish->ids);
    free(publish);
}

void note_name_free(struct note_name *name)
{
    if (!name)
        return;
    free(name->ns);
    free(name->name);
    free(name);
}

void note_events_free(struct note_events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < events->count; i++)
        event_unref(events->events[i]);
    free(events);
}

void note_gap_free(struct note_gap *gap)
{
    if (!gap)
        return;
    free(gap->ns);
    free(gap->topic);
    free(gap->unless);
    event_unref(gap->late);
    free(gap);
}

void note_free(struct note *note)
{
    switch (note->kind) {
    case NOTE_WATCH:
    case NOTE_UNWATCH:
        note_name_free((struct note_name *)note);
        return;
    case NOTE_READ:
        note_read_free((struct note_read *)note);
        return;
    case NOTE_PUBLISH:
        note_publish_free((struct note_publish *)note);
        return;
    case NOTE_EVENTS:
        note_events_free((struct note_events *)note);
        return;
    case NOTE_GAP:
        note_gap_free((struct note_gap *)note);
        return;
    case NOTE_CONFIG:
        config_unref(((struct note_config *)note)->config);
        free(note);
        return;
    case NOTE_CENSUS:
    case NOTE_DRAIN:
    case NOTE_STOP:
        free(note);
        return;
    }
}

const char *gap_reason_text(enum gap_reason reason)
{
    switch (reason) {
    case GAP_TRIMMED:
        return "trimmed";
    case GAP_EXPIRED:
        return "expired";
    case GAP_UNKNOWN_ID:
        return "unknown-id";
    case GAP_OVERFLOW:
        return "overflow";
    case GAP_REDIS_LOST:
        return "redis-lost";
    }
    return "";
}

enum metric gap_metric(enum gap_reason reason)
{
    static const enum metric metrics[] = {[GAP_TRIMMED] = M_GAP_TRIMMED,
                                          [GAP_EXPIRED] = M_GAP_EXPIRED,
                                          [GAP_UNKNOWN_ID] = M_GAP_UNKNOWN_ID,
                                          [GAP_OVERFLOW] = M_GAP_OVERFLOW,
                                          [GAP_REDIS_LOST] = M_GAP_REDIS_LOST};
    return metrics[reason];
}

struct event *gap_event(const struct config *config, uint64_t id, uint64_t from, uint64_t to,
                        enum gap_reason reason)
{
    struct buf frame = {0}, json = {0};
    if (config->control_events) {
        if (from == UINT64_MAX)
            buf_puts(&json, "{\"from\":null");
        else
            buf_printf(&json, "{\"from\":\"%llu\"", (unsigned long long)from);
        buf_printf(&json, ",\"to\":\"%llu\",\"reason\":\"%s\"}", (unsigned long long)to,
                   gap_reason_text(reason));
        sse_put_control(&frame, id, config->control_prefix, "gap", buf_slice(&json));
    } else if (id) {
        sse_put_position(&frame, id);
    }
    struct event *ev = event_new_frame(id, buf_slice(&frame));
    buf_reset(&frame);
    buf_reset(&json);
    return ev;
}
