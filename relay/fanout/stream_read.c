/* SPDX-License-Identifier: Apache-2.0 */
/* A stream asks the bus for a page of the log. */
#include "common/mem.h"
#include "relay/fanout/stream_parts.h"

/* A page of the log is for one client, or few. While events take half of the memory that they may,
 * pages are small, or those who read slowly would fill it again as soon as they had let go. */
enum { SCARCE_PAGE_BYTES = 64 << 10 };

static bool is_scarce(const struct stream_shared *shared)
{
    uint64_t limit = shared->config->memory_events;
    return limit && event_live_bytes() > limit / 2;
}

bool stream_read_has_room(const struct stream *s)
{
    if (is_scarce(s->shared) && s->client.out.bytes > SCARCE_PAGE_BYTES / 2)
        return false;
    return client_has_room(&s->client, &s->shared->limits);
}

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
    note->horizon = kind == CURSOR_ID && cursor < s->horizon ? s->horizon : 0;
    client_room(&s->client, &shared->limits, &note->max_events, &note->max_bytes);
    if (note->max_bytes > SCARCE_PAGE_BYTES && is_scarce(shared))
        note->max_bytes = SCARCE_PAGE_BYTES;
    note->budget = s->client.replayed < shared->config->replay_max_events
                       ? shared->config->replay_max_events - s->client.replayed
                       : 0;
    s->read = note;
    if (!s->client.reading)
        client_read_begin(&s->client);
    inbox_push(bus_inbox(shared->node->bus), &note->note.item);
}

/* A snapshot goes on as one until the stream is live for the first time. */
static enum cursor_kind page_kind(const struct stream *s)
{
    bool snapshot = subscription_request(s->client.sub)->cursor == CURSOR_SNAPSHOT && !s->live_from;
    return snapshot ? CURSOR_SNAPSHOT : CURSOR_ID;
}

/* There is nothing to read for a stream without topics. */
static void catch_up(struct stream *s)
{
    client_read_begin(&s->client);
    if (client_page(&s->client, &s->shared->limits, NULL, 0, s->client.cursor, true))
        s->live_from = s->client.cursor;
}

void stream_read_page(struct stream *s)
{
    if (s->client.state != CLIENT_REPLAY || s->client.reading)
        return;
    if (!s->sub_count)
        catch_up(s);
    else
        stream_read(s, page_kind(s), s->client.cursor);
}

void stream_read_anew(struct stream *s)
{
    const struct subscription_request *request = subscription_request(s->client.sub);
    stream_read_cancel(s);
    if (s->client.state == CLIENT_OPENING)
        stream_read(s, request->cursor, request->cursor_value);
    else
        stream_read(s, page_kind(s), s->client.cursor);
}

void stream_read_cancel(struct stream *s)
{
    if (s->read) {
        s->read->owner = NULL;
        atomic_store_explicit(&s->read->cancelled, true, memory_order_relaxed);
    }
    s->read = NULL;
}
