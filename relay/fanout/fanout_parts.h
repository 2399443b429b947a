/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the fan-out share, for them only: fanout.c (events in, the turn's flush, life),
 * fanout_slow.c (who does not keep up), fanout_control.c (what others ask of one stream),
 * fanout_lease.c (what a grant is asked for), fanout_gap.c (what did not come), fanout_relief.c
 * (what has to go). Worker thread, all of it. */
#pragma once
#include "relay/fanout/fanout.h"
#include "relay/fanout/stream.h"
#include "relay/kit/log.h"

enum {
    FANOUT_EVENTS_PER_TURN = 64,
    FANOUT_FRAMES_PER_BATCH = 1024,
};

/* What was fanned out in this turn, for the histograms. */
struct fanout_mark {
    uint64_t arrival_us, id;
};

/* Streams whose writes are made together. */
struct fanout_batch {
    struct stream *streams[WRITER_BATCH];
    struct writer_write writes[WRITER_BATCH];
    size_t count, frames;
    struct iovec iov[FANOUT_FRAMES_PER_BATCH];
};

struct fanout {
    struct stream_shared shared;
    struct writer *writer;
    struct fanout_batch batch; /* empty, but while the flush runs */
    uint64_t stamp, twin;      /* of the event before */
    struct fanout_mark marks[FANOUT_EVENTS_PER_TURN + NOTE_EVENTS_MAX];
    size_t mark_count;
    struct log_limit slow_limit, behind_limit, relief_limit;
    size_t events_max; /* bytes on the node */
    bool relieves;     /* there are more, or were: fanout_relief.c */
    ev_timer relief;   /* its next round */
    ev_prepare flush;
    ev_idle busy; /* keeps the loop from sleeping while something is dirty */
    ev_timer tick;
};

/* Names that overlap offer an event, or a gap, to a stream once more. */
static inline bool fanout_is_first_offer(const struct fanout *f, struct stream *s)
{
    bool is_first = s->stamp != f->stamp;
    s->stamp = f->stamp;
    return is_first;
}

/* What became of an event that was offered, where it is more than to be queued, held or skipped. A
 * stream that is too slow ends after the matching that goes on, which must not lose streams under
 * way: fanout_close_doomed(). */
void fanout_pushed(struct fanout *f, struct stream *s, enum client_push pushed);
void fanout_close_doomed(struct fanout *f);
/* It ends at the next fanout_close_doomed(), as too slow. @drops: with an event that it is not
 * given.
 */
void fanout_doom(struct fanout *f, struct stream *s, bool drops);

/* fanout_control.c. Of what is on the topic of a connection: the stream gets that topic, if it has
 * it not yet. */
void fanout_address(struct fanout *f, struct slice ns, struct slice topic);
/* fanout_lease.c. The body is another grant. Fills in the answer. */
void fanout_take_renewal(struct stream *s, struct note_control *note,
                         const struct revoked *revoked);

/* fanout_relief.c. The events of the node take more memory than they may: lets those of slow
 * streams go, the oldest first, in rounds until there is room again. */
void fanout_relief_init(struct fanout *f);
void fanout_relief_begin(struct fanout *f);
void fanout_relief_end(struct fanout *f);

/* Once a turn. */
static inline void fanout_relief_look(struct fanout *f)
{
    if (!f->relieves && event_live_bytes() > f->events_max)
        fanout_relief_begin(f);
}
