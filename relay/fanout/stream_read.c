/* SPDX-License-Identifier: Apache-2.0 */
/* A stream asks the bus for a page of the log. */
#include "common/mem.h"
#include "relay/fanout/stream_parts.h"

void stream_read(struct stream *s, enum cursor_kind kind, uint64_t cursor)
{
    struct stream_shared *shared = s->shared;
    struct note_read *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_READ;
    note->worker = shared->worker;
    note->owner = s;
    note->sub = subscription_ref(s->client.sub);
    note->kind = kind;
    note->cursor = cursor;
    note->gap_told = s->gap_told;
    client_room(&s->client, &shared->limits, &note->max_events, &note->max_bytes);
    note->budget = s->client.replayed < shared->config->replay_max_events
                       ? shared->config->replay_max_events - s->client.replayed
                       : 0;
    s->read = note;
    client_read_begin(&s->client);
    inbox_push(bus_inbox(shared->node->bus), &note->note.item);
}

void stream_read_page(struct stream *s)
{
    if (s->client.state == CLIENT_REPLAY && !s->client.reading)
        stream_read(s, CURSOR_ID, s->client.cursor);
}
