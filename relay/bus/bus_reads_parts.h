/* What bus_reads.c (which reads fly together, and when) and bus_reads_job.c (one client's read, and
 * what it is answered with) share. Bus thread. */
#pragma once
#include "relay/bus/bus_parts.h"

/* One client's read. */
struct job {
    struct bus *bus;
    struct note_read *note;
    struct space *space;
    bool passed_over;      /* a flight has ended below its cursor */
    TAILQ_ENTRY(job) link; /* in bus->waiting, or in a lane or flight */
};

void bus_job_end(struct job *job);  /* its note goes back; frees it */
void bus_job_wait(struct job *job); /* until its names are heard again and the store is back */
bool bus_job_is_cancelled(const struct job *job); /* its client is gone */
/* What a flight has read. Its page began at the lowest cursor of all it serves: a job has what is
 * above its own. */
void bus_job_fill(struct job *job, const struct replay *r);
void bus_job_fill_unknown(struct job *job, const struct replay *r); /* a cursor of nobody here */
/* Answers it from memory. True: it is done, and gone. */
bool bus_job_from_tails(struct job *job);
/* What a flight for one topic has read serves those who come after it. */
void bus_tails_learn(struct bus *bus, const struct replay *r);
