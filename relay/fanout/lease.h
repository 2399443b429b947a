/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream with a grant has beside, and a worker's table of those by subject, for revocations.
 * Embedded in what is leased, as there may be one for each client: the table is chained through it.
 * No I/O, no clock. One thread. */
#pragma once
#include <sys/queue.h>

#include "relay/core/grant.h"

struct lease {
    LIST_ENTRY(lease) subject_link;
    uint32_t subject_hash;
    uint16_t spread;   /* where between `exp` and the end of the leeway it ends: at random */
    uint8_t id_frame;  /* its queue's frame that first tells the client an id, from 1; 0: none */
    bool id_told : 1;  /* … which the socket has, so that the client may come again with it */
    bool exp_told : 1; /* relay.expiring, of this `exp` */
    bool has_ticket : 1;
};

/* --- the table -------------------------------------------------------------------------------- */

struct leases;

struct leases *leases_new(void);
void leases_free(struct leases *leases); /* must be empty */
/* @lease: zeroed; it must not move until leases_remove(). */
void leases_add(struct leases *leases, struct lease *lease, const struct grant *grant);
void leases_remove(struct leases *leases, struct lease *lease);
/* Calls @visit, which must not add or remove any, for each lease of the subject in the namespace,
 * whoever issued it; perhaps for others, too. @subject: SLICE_NONE: those without. */
void leases_visit_subject(const struct leases *leases, struct slice ns, struct slice subject,
                          void (*visit)(struct lease *lease, void *arg), void *arg);
/* … for each. */
void leases_visit(const struct leases *leases, void (*visit)(struct lease *lease, void *arg),
                  void *arg);

/* --- time ------------------------------------------------------------------------------------- */

/* A clock that was set is noticed after so long at the latest. */
enum { LEASE_LOOK_AGAIN_MS = 60000 };

/* When a grant ends: by the wall clock, which may be set at any moment. So nothing is computed
 * ahead: what is due is asked whenever a timer fires. */
struct lease_terms {
    uint64_t exp_s;     /* Unix time; 0: never */
    uint64_t leeway_ms; /* after that, it counts still */
    uint64_t notice_ms; /* so long before `exp` the client is told; 0: never */
};

enum lease_due {
    LEASE_HOLDS,
    LEASE_EXPIRING, /* the client is to be told (then set exp_told) … */
    LEASE_EXPIRED,
};

enum lease_due lease_due(const struct lease *lease, const struct lease_terms *terms,
                         uint64_t wall_ms);
/* After how many milliseconds to ask again, at most LEASE_LOOK_AGAIN_MS; 0: something is due;
 * UINT64_MAX: it never ends. */
uint64_t lease_wait_ms(const struct lease *lease, const struct lease_terms *terms,
                       uint64_t wall_ms);
/* Until `exp`; 0: it is past. */
uint64_t lease_left_ms(const struct lease_terms *terms, uint64_t wall_ms);
