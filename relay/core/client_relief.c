/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/client_parts.h"

/* What waits for it on its way through the log comes from there again, whatever its policy. */
static enum client_push retreat(struct client *c, const struct outbox_teller *teller,
                                uint32_t *gone)
{
    bool waits_only = !c->out.queue.ring.count;
    *gone = outbox_retreat(&c->out, &c->cursor, teller);
    if (!*gone)
        return CLIENT_SKIPPED;
    c->rests = c->is_paused && waits_only;
    /* replay.max_events bounds one catching-up, and does not count twice what is read twice. */
    if (c->state == CLIENT_LIVE || c->replayed < *gone)
        c->replayed = 0;
    else
        c->replayed -= *gone;
    c->state = CLIENT_REPLAY;
    c->is_behind = true;
    return CLIENT_BEHIND;
}

uint64_t client_oldest_us(const struct client *c, uint64_t unknown_us)
{
    /* A page that is under way begins where its queue ends. */
    if (c->state == CLIENT_CLOSING || c->reading)
        return UINT64_MAX;
    return outbox_oldest_us(&c->out, unknown_us);
}

enum client_push client_relieve(struct client *c, const struct client_limits *limits,
                                uint64_t before_us, uint32_t *gone)
{
    struct outbox_teller teller = client_teller(c, limits);
    *gone = 0;
    if (c->state == CLIENT_CLOSING || c->reading)
        return CLIENT_SKIPPED;
    /* Policies are for live events; what the log has brought it brings again. */
    if (c->state != CLIENT_LIVE || c->is_paused || !outbox_oldest_us(&c->out, 0))
        return retreat(c, &teller, gone);
    switch (client_policy(c, limits)) {
    case SLOW_BLOCK:
        return retreat(c, &teller, gone);
    case SLOW_DROP_OLDEST:
        client_commit(c);
        *gone = outbox_drop_before(&c->out, before_us, &teller);
        break;
    case SLOW_DROP_NEWEST:
        client_commit(c);
        *gone = outbox_drop_tail(&c->out, &teller);
        break;
    case SLOW_DISCONNECT:
    case SLOW_COUNT:
        return CLIENT_FULL;
    }
    return *gone ? CLIENT_DROPPED : CLIENT_SKIPPED;
}
