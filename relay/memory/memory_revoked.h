/* SPDX-License-Identifier: Apache-2.0 */
/* Revocations in memory, as sse_revoke keeps them in Redis; the bound of a kind is over all
 * namespaces. No I/O, no clock of its own: the caller passes the wall clock. One thread. */
#pragma once
#include <stddef.h>

#include "common/slice.h"
#include "relay/core/revoked.h"

struct memory_revoked;

struct memory_revoked *memory_revoked_new(size_t max); /* of a kind */
void memory_revoked_free(struct memory_revoked *revoked);

/* Notes @entry (borrowed), and brings its `before_s` and `expires_s` up to what holds now: both
 * only rise. ERR_FULL: nothing was changed. */
NODISCARD enum err memory_revoked_add(struct memory_revoked *revoked, struct slice ns,
                                      struct revoked_entry *entry, uint64_t now_s);
/* Calls @each for every one of the namespace that counts; it must not change them. */
void memory_revoked_list(const struct memory_revoked *revoked, struct slice ns, uint64_t now_s,
                         void (*each)(void *arg, const struct revoked_entry *entry), void *arg);
