/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/note.h"

#include <stdlib.h>

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
