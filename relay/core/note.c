/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/note.h"

#include <stdlib.h>

void note_ends_free(struct note_end *ends, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(ends[i].topic);
    free(ends);
}

void note_read_free(struct note_read *read)
{
    if (!read)
        return;
    for (size_t i = 0; i < read->count; i++)
        event_unref(read->events[i]);
    free(read->events);
    note_ends_free(read->ends, read->end_count);
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

void note_publish_settle(struct note_publish *publish)
{
    const struct publication_request *request = &publish->request;
    size_t refused = 0, first = 0;
    for (size_t i = request->count; i-- > 0;) {
        if (publish->ids[i] != NOTE_ID_ENDED)
            continue;
        refused++;
        first = i;
    }
    publish->status = refused ? 409 : 200;
    publish->outcome = refused == request->count ? PUBLISH_NOT : PUBLISH_DONE;
    if (!refused)
        return;
    const struct strings *topics = &request->items[first].topics;
    struct buf *why = &publish->detail;
    buf_clear(why);
    if (request->batch)
        buf_printf(why, "[%zu].", first);
    buf_printf(why,
               topics->count > 1 ? "topics: one of them (%s, …) has ended" : "topic: %s has ended",
               topics->items[0]);
    if (request->count > 1)
        buf_printf(why, "; %zu of %zu events were not published for such a reason", refused,
                   request->count);
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

void note_call_free(struct note_call *call)
{
    if (!call)
        return;
    free(call->ns);
    strings_reset(&call->args);
    strings_reset(&call->answer);
    free(call);
}

void note_remote_free(struct note_remote *remote)
{
    if (!remote)
        return;
    free(remote->connection);
    free(remote->body);
    free(remote->detail);
    free(remote);
}

void note_control_answer(struct note_control *control, unsigned status, const char *detail)
{
    control->status = status;
    control->detail = slice_dup(slice_of(detail));
}

void note_control_free(struct note_control *control)
{
    if (!control)
        return;
    free(control->from);
    free(control->connection);
    free(control->action);
    free(control->body);
    free(control->detail);
    free(control);
}

void note_trust_free(struct note_trust *trust)
{
    if (!trust)
        return;
    free(trust->ns);
    free(trust);
}

void note_revoked_free(struct note_revoked *revoked)
{
    if (!revoked)
        return;
    for (size_t i = 0; i < revoked->count; i++)
        revoked_entry_reset(&revoked->entries[i]);
    free(revoked->entries);
    free(revoked->ns);
    free(revoked);
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
    case NOTE_CALL:
        note_call_free((struct note_call *)note);
        return;
    case NOTE_REMOTE:
        note_remote_free((struct note_remote *)note);
        return;
    case NOTE_CONTROL:
        note_control_free((struct note_control *)note);
        return;
    case NOTE_TRUST:
        note_trust_free((struct note_trust *)note);
        return;
    case NOTE_REVOKED:
        note_revoked_free((struct note_revoked *)note);
        return;
    case NOTE_CONFIG:
        config_unref(((struct note_config *)note)->config);
        free(note);
        return;
    case NOTE_CENSUS:
        free(((struct note_census *)note)->ns);
        free(note);
        return;
    case NOTE_AUTH:
    case NOTE_DRAIN:
    case NOTE_STOP:
        free(note);
        return;
    }
}
