/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/lease.h"

#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"

enum { BUCKETS_START = 64, LEASES_PER_BUCKET = 4 };

LIST_HEAD(lease_list, lease);

/* Chained by hand: uthash would take 56 bytes more of each lease, and the table. */
struct leases {
    struct lease_list *by_subject;
    size_t buckets; /* a power of two */
    size_t count;
};

/* --- buckets ---------------------------------------------------------------------------------- */

static struct lease_list *subject_bucket(const struct leases *leases, uint32_t hash)
{
    return &leases->by_subject[hash & (leases->buckets - 1)];
}

static void link_lease(struct leases *leases, struct lease *lease)
{
    LIST_INSERT_HEAD(subject_bucket(leases, lease->subject_hash), lease, subject_link);
}

static void allot(struct leases *leases, size_t buckets)
{
    leases->buckets = buckets;
    leases->by_subject = mem_zero(buckets, sizeof(leases->by_subject[0]));
}

static void grow(struct leases *leases)
{
    struct leases old = *leases;
    allot(leases, old.buckets * 2);
    for (size_t i = 0; i < old.buckets; i++) {
        struct lease *lease;
        while ((lease = LIST_FIRST(&old.by_subject[i]))) {
            LIST_REMOVE(lease, subject_link);
            link_lease(leases, lease);
        }
    }
    free(old.by_subject);
}

static uint32_t hash_subject(struct slice ns, struct slice subject)
{
    uint64_t seed = XXH3_64bits_withSeed(ns.ptr, ns.len, hash_seed);
    return (uint32_t)XXH3_64bits_withSeed(subject.ptr, subject.len, seed);
}

/* --- the table -------------------------------------------------------------------------------- */

struct leases *leases_new(void)
{
    struct leases *leases = mem_zero(1, sizeof(*leases));
    allot(leases, BUCKETS_START);
    return leases;
}

void leases_free(struct leases *leases)
{
    if (!leases)
        return;
    free(leases->by_subject);
    free(leases);
}

void leases_add(struct leases *leases, struct lease *lease, const struct grant *grant)
{
    const struct grant_fields *fields = grant_fields(grant);
    if (leases->count >= leases->buckets * LEASES_PER_BUCKET)
        grow(leases);
    leases->count++;
    lease->subject_hash = hash_subject(slice_of(fields->ns), slice_of(fields->subject));
    link_lease(leases, lease);
}

void leases_remove(struct leases *leases, struct lease *lease)
{
    LIST_REMOVE(lease, subject_link);
    leases->count--;
}

void leases_visit_subject(const struct leases *leases, struct slice ns, struct slice subject,
                          void (*visit)(struct lease *lease, void *arg), void *arg)
{
    uint32_t hash = hash_subject(ns, subject);
    struct lease *lease;
    LIST_FOREACH (lease, subject_bucket(leases, hash), subject_link)
        if (lease->subject_hash == hash)
            visit(lease, arg);
}

void leases_visit(const struct leases *leases, void (*visit)(struct lease *lease, void *arg),
                  void *arg)
{
    struct lease *lease;
    for (size_t i = 0; i < leases->buckets; i++)
        LIST_FOREACH (lease, &leases->by_subject[i], subject_link)
            visit(lease, arg);
}

/* --- time ------------------------------------------------------------------------------------- */

static uint64_t exp_ms(const struct lease_terms *terms)
{
    return terms->exp_s > UINT64_MAX / 2000 ? UINT64_MAX / 2 : terms->exp_s * 1000;
}

/* Tokens that were issued together must not end all their streams at once. */
static uint64_t end_ms(const struct lease *lease, const struct lease_terms *terms)
{
    return exp_ms(terms) + terms->leeway_ms * lease->spread / UINT16_MAX;
}

/* When the client is to be told; UINT64_MAX: not any more. */
static uint64_t tell_ms(const struct lease *lease, const struct lease_terms *terms)
{
    if (!terms->notice_ms || lease->exp_told)
        return UINT64_MAX;
    uint64_t exp = exp_ms(terms);
    return exp > terms->notice_ms ? exp - terms->notice_ms : 0;
}

enum lease_due lease_due(const struct lease *lease, const struct lease_terms *terms,
                         uint64_t wall_ms)
{
    if (!terms->exp_s)
        return LEASE_HOLDS;
    if (wall_ms >= end_ms(lease, terms))
        return LEASE_EXPIRED;
    return wall_ms >= tell_ms(lease, terms) ? LEASE_EXPIRING : LEASE_HOLDS;
}

uint64_t lease_wait_ms(const struct lease *lease, const struct lease_terms *terms, uint64_t wall_ms)
{
    if (!terms->exp_s)
        return UINT64_MAX;
    uint64_t end = end_ms(lease, terms), tell = tell_ms(lease, terms);
    uint64_t next = tell < end ? tell : end;
    uint64_t wait = next > wall_ms ? next - wall_ms : 0;
    return wait < LEASE_LOOK_AGAIN_MS ? wait : LEASE_LOOK_AGAIN_MS;
}

uint64_t lease_left_ms(const struct lease_terms *terms, uint64_t wall_ms)
{
    uint64_t exp = exp_ms(terms);
    return exp > wall_ms ? exp - wall_ms : 0;
}
