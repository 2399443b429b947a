/* SPDX-License-Identifier: Apache-2.0 */
/* What a grant adds to a stream's life: an end, and perhaps a ticket that is given back. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/fanout/stream_parts.h"

/* Behind its topics. */
static char *ticket_of(struct stream *s)
{
    return (char *)&s->subs[stream_inline_subs(s)];
}

const char *stream_ticket(struct stream *s)
{
    return s->has_lease && stream_lease(s)->has_ticket ? ticket_of(s) : NULL;
}

struct stream *stream_lease_alloc(const struct subscription_request *request,
                                  const struct stream_form *form)
{
    size_t size = sizeof(struct stream) + request->topics.count * sizeof(struct topic_sub);
    size_t ticket = request->grant && form->ticket ? strlen(form->ticket) + 1 : 0;
    struct stream *s;
    if (request->grant)
        s = stream_of_lease(mem_zero(1, sizeof(struct lease) + size + ticket));
    else
        s = mem_zero(1, size);
    s->has_lease = request->grant;
    s->sub_count = (uint32_t)request->topics.count;
    return s;
}

void stream_lease_free(struct stream *s)
{
    free(s->has_lease ? (void *)stream_lease(s) : s);
}

/* --- open and over ---------------------------------------------------------------------------- */

void stream_lease_open(struct stream *s, const struct stream_form *form)
{
    struct lease *lease = stream_lease(s);
    if (form->ticket) {
        lease->has_ticket = true;
        strcpy(ticket_of(s), form->ticket);
    }
    leases_add(s->shared->leases, lease, subscription_request(s->client.sub)->grant);
    stream_lease_renew(s);
}

static void add_named(struct strings *args, const char *name, struct buf *value)
{
    strings_add(args, slice_of(name));
    strings_add(args, buf_slice(value));
    buf_clear(value);
}

/* Nobody waits for the answer: what the ticket's next use finds is what counts. A client that was
 * told no id has no cursor to come again with, so its ticket is as good as unused. */
static void give_ticket_back(struct stream *s)
{
    struct note_call *call = mem_zero(1, sizeof(*call));
    struct connection_id id;
    struct buf value = {0};
    call->note.kind = NOTE_CALL;
    call->worker = s->shared->worker;
    call->function = "sse_ticket_end";
    call->ns = slice_dup(subscription_ns(s->client.sub));
    strings_add(&call->args, slice_of(ticket_of(s)));
    stream_id(s, &id);
    connection_id_put(&value, &id);
    add_named(&call->args, "connection", &value);
    buf_put_u64(&value, s->shared->config->ticket_reconnect_grace_ms);
    add_named(&call->args, "grace", &value);
    buf_put_u64(&value, !stream_lease(s)->id_told);
    add_named(&call->args, "unused", &value);
    inbox_push(bus_inbox(s->shared->node->bus), &call->note.item);
    buf_reset(&value);
}

void stream_lease_over(struct stream *s)
{
    struct lease *lease = stream_lease(s);
    if (lease->has_ticket)
        give_ticket_back(s);
    leases_remove(s->shared->leases, lease);
}

/* --- whether the client knows an id ------------------------------------------------------------
 * Asked after each write until it does: from then on it may come again with a cursor. */

void stream_lease_tells_id(struct stream *s)
{
    stream_lease(s)->id_frame = (uint8_t)(s->client.out.queue.ring.count + 1);
}

void stream_lease_sent(struct stream *s, size_t frames, size_t events)
{
    struct lease *lease = stream_lease(s);
    const struct client *c = &s->client;
    /* Without control events the first block brings it, whatever it is; an event in any case. */
    bool is_caught_up = c->state == CLIENT_LIVE && !c->out.queue.ring.count && !c->out.owes_id;
    if (lease->id_told)
        return;
    if (events || is_caught_up || (lease->id_frame && frames >= lease->id_frame))
        lease->id_told = true;
    else if (lease->id_frame)
        lease->id_frame = (uint8_t)(lease->id_frame - frames);
}

void stream_lease_dropped(struct stream *s)
{
    struct lease *lease = stream_lease(s);
    bool has_begun = s->client.out.head_sent && lease->id_frame == 1;
    if (!has_begun)
        lease->id_frame = 0;
}

/* --- time ------------------------------------------------------------------------------------- */

static struct lease_terms terms_of(const struct stream *s)
{
    const struct config *config = s->shared->config;
    const struct grant *grant = subscription_request(s->client.sub)->grant;
    return (struct lease_terms){grant_fields(grant)->exp_s, config->auth_leeway_ms,
                                stream_control(s) == CONTROL_ON ? config->auth_notice_ms : 0};
}

void stream_lease_renew(struct stream *s)
{
    struct lease *lease = stream_lease(s);
    lease->spread = (uint16_t)random();
    lease->exp_told = false;
}

enum lease_due stream_lease_due(struct stream *s, uint64_t *left_ms)
{
    struct lease_terms terms = terms_of(s);
    uint64_t wall_ms = clock_wall_us() / 1000;
    *left_ms = lease_left_ms(&terms, wall_ms);
    return lease_due(stream_lease(s), &terms, wall_ms);
}

uint64_t stream_lease_due_ms(struct stream *s)
{
    struct lease_terms terms = terms_of(s);
    if (!terms.exp_s)
        return UINT64_MAX;
    return clock_mono_ms() + lease_wait_ms(stream_lease(s), &terms, clock_wall_us() / 1000);
}
