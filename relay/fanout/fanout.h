/* SPDX-License-Identifier: Apache-2.0 */
/* The streams of one worker: opens them, hands each event to those that want it, and flushes each
 * stream that has something to send once per loop turn with one write. Worker thread. */
#pragma once
#include "relay/fanout/interest.h"
#include "relay/fanout/stream.h"
#include "relay/core/node.h"

struct fanout;

/* @end: gives the connection of a stream back to be closed, soon; fanout_over() follows. */
struct fanout *fanout_new(struct ev_loop *loop, unsigned worker, struct node *node,
                          struct config *config, void (*end)(void *connection));
void fanout_free(struct fanout *fanout); /* after all streams are over */
void fanout_configure(struct fanout *fanout, struct config *config);

/* A stream on @connection, whose preamble is still to be sent; takes over the request's contents.
 */
struct stream *fanout_open(struct fanout *fanout, void *connection,
                           struct subscription_request *request, const struct stream_form *form);
/* Its socket is ours now. */
void fanout_start(struct stream *stream, int fd);
/* Its connection is over: the stream is gone. */
void fanout_over(struct stream *stream);

/* From the bus; each takes the note over. */
void fanout_take_events(struct fanout *fanout, struct note_events *note);
void fanout_take_gap(struct fanout *fanout, struct note_gap *note);
void fanout_take_page(struct fanout *fanout, struct note_read *note);
/* Whether as many events as belong into one loop turn have been taken: the rest should wait for the
 * flush. */
bool fanout_is_turn_full(const struct fanout *fanout);

/* Ends the streams whose grants the entries concern; where it was forgotten, all of the namespace.
 * Borrowed. */
void fanout_revoke(struct fanout *fanout, const struct note_revoked *note);
/* Something for one of its streams ("renew", "end", "pause", "resume", "topics"); fills in the
 * answer. @revoked: what this worker knows: a renewal may have been on its way while its token was
 * revoked. False: @note is taken over, and goes back to the bus when there is an answer. */
bool fanout_control(struct fanout *fanout, struct note_control *note,
                    const struct revoked *revoked);
/* The id of a connection of this worker that is about to be opened: stream_form.id. Nothing is kept
 * of it, so it need not be opened. */
void fanout_make_id(struct fanout *fanout, struct connection_id *out);

/* Subscribers of one namespace; @ns: SLICE_NONE: of all. */
void fanout_count(struct fanout *fanout, struct census *census, struct slice ns);
/* Ends every stream: relay.shutdown, its queue, a clean end; spread over the configured time. */
void fanout_drain(struct fanout *fanout);
/* Ends every stream now. */
void fanout_end_all(struct fanout *fanout);
size_t fanout_streams(const struct fanout *fanout);
/* A retry hint in milliseconds, jittered by 20% either way. */
uint64_t fanout_retry_hint(const struct config *config);
