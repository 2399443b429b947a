/* SPDX-License-Identifier: Apache-2.0 */
/* What bus_reads.c (which reads fly together, and when), bus_reads_job.c (one client's read, and
 * what it is answered with) and bus_reads_lane.c (which reads are one) share. Bus thread. */
#pragma once
#include "relay/bus/bus_reads.h"
#include "relay/bus/replay.h"

/* What reads are answered from, and by. */
struct bus_sources {
    const struct bus_base *base;
    struct bus_outbox *outbox;
    struct bus_spaces *spaces;
    const struct bus_repairs *repairs;
};

/* One client's read. */
struct bus_job {
    const struct bus_sources *sources;
    struct note_read *note;
    struct bus_space *space;   /* NULL: of one who only looks, and watches nothing */
    bool passed_over;          /* a flight has ended below its cursor */
    TAILQ_ENTRY(bus_job) link; /* in reads->waiting, or in a lane or flight */
};

/* Topics, each once; zeros: none. */
struct bus_reads_names {
    struct strings list; /* its texts are borrowed */
    struct bus_reads_name *set;
};

/* bus_reads_lane.c. What two reads must have in common to be one. */
void bus_reads_put_key(struct buf *key, const struct note_read *note);
/* Adds those of @topics that are no patterns. */
void bus_reads_names_add(struct bus_reads_names *names, const struct strings *topics);
bool bus_reads_names_are_full(const struct bus_reads_names *names);
void bus_reads_names_reset(struct bus_reads_names *names);

/* bus_reads_job.c */
struct bus_job *bus_reads_job_new(const struct bus_sources *sources, struct note_read *note);
void bus_reads_job_end(struct bus_job *job);                /* its note goes back; frees it */
bool bus_reads_job_is_cancelled(const struct bus_job *job); /* its client is gone */
/* What a flight has read. Its page began at the lowest cursor of all it serves: a job has what is
 * above its own. */
void bus_reads_job_fill(struct bus_job *job, const struct replay *r);
/* A cursor that nobody here has given. */
void bus_reads_job_fill_unknown(struct bus_job *job, const struct replay *r);
/* Answers it from memory. True: it is done, and gone. */
bool bus_reads_job_from_tails(struct bus_job *job);
/* What a flight for one topic has read serves those who come after it. */
void bus_reads_learn(const struct bus_sources *sources, struct bus_space *space,
                     const struct replay *r);
