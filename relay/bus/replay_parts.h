/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of replay share: replay.c (what a page holds), replay_ranges.c (reading the logs
 * of many topics), replay_walk.c (the ids of the last N), replay_snapshot.c (the latest of each
 * topic), replay_survey.c (what a page leaves to the next). Bus thread. */
#pragma once
#include "relay/bus/replay.h"

/* replay_items.c */
struct replay_item *replay_item_add(struct replay *r);
void replay_item_release(struct replay_item *item);

/* replay_survey.c. Whether a page can go by what an earlier one has found out. */
bool replay_survey_serves(const struct replay *r);
/* A page is done: its look may serve the next. */
void replay_survey_renew(struct replay *r);

/* replay_snapshot.c. After the look. @done: r->error, or the page is there; perhaps before this
 * returns. */
void replay_snapshot_read(struct replay *r, void (*done)(struct replay *r));

/* replay_ranges.c */
/* A range for each topic that has moved past the cursor and may have one of the next @wanted
 * events, with about as many entries in all. */
void replay_ranges_make(struct replay *r, uint64_t wanted, bool reverse);
/* Reads those that have a limit. @done: r->error, or all of it is there; perhaps before this
 * returns. */
void replay_ranges_read(struct replay *r, void (*done)(struct replay *r));
/* Notes of each topic that was read where it goes on behind the page. */
void replay_ranges_note_next(struct replay *r);
void replay_ranges_free(struct replay *r);

/* Whether the event is for the subscription. */
bool replay_wants(const struct replay *r, const struct event *ev);
/* Whether it is read only because it has replaced others: event_is_spent(). */
bool replay_is_over(const struct replay *r, const struct event *ev);
/* Whether it counts as one of those that are replayed: it is for the subscription, and not over. */
bool replay_counts(const struct replay *r, const struct event *ev);

/* replay_walk.c */
/* Takes the ids of what the ranges brought so far, and lets that go; keeps the highest, each once.
 */
void replay_walk_collect(struct replay *r);
