/* SPDX-License-Identifier: Apache-2.0 */
/* What has been revoked in the namespaces of which it is known: token ids, subjects, key ids. Each
 * worker has one, which the bus keeps up to date with notes; so a look-up asks nobody. Entries are
 * kept as 128-bit hashes (a collision would refuse somebody, and let nobody in). No I/O; one
 * thread. docs/protocol.md, 14. */
#pragma once
#include "relay/core/grant.h"

enum { REVOKED_MAX = 100000 }; /* of each kind in a namespace */

enum revoked_kind { REVOKED_JTI, REVOKED_SUBJECT, REVOKED_KID, REVOKED_KINDS };

/* Owned by whoever holds it. */
struct revoked_entry {
    enum revoked_kind kind;
    char *value;
    uint64_t
        before_s; /* REVOKED_SUBJECT: tokens issued at this second or earlier, or without iat */
    uint64_t expires_s; /* Unix time: no token that it concerns is valid then; 0: never */
};

void revoked_entry_reset(struct revoked_entry *entry);
/* From texts, as Redis tells them: "jti", "sub" or "kid"; numbers. ERR_INVALID. */
NODISCARD enum err revoked_entry_make(struct slice kind, struct slice value, struct slice before,
                                      struct slice expires, struct revoked_entry *out);
/* Whether the entry is about @grant, whose namespace is the entry's. */
bool revoked_entry_concerns(const struct revoked_entry *entry, const struct grant *grant);

struct revoked;

struct revoked *revoked_new(void);
void revoked_free(struct revoked *r);
/* All of the namespace's entries have been added: it is known from now on; or it is no longer, and
 * they are forgotten. */
void revoked_set_known(struct revoked *r, struct slice ns, bool known);
bool revoked_is_known(const struct revoked *r, struct slice ns);
/* An entry twice is once; of two for one subject the later `before_s` counts. ERR_FULL: there are
 * more than twice REVOKED_MAX of its kind, which nobody but a stranger in Redis can bring about;
 * the namespace is known no longer, as nothing may be forgotten silently. */
NODISCARD enum err revoked_add(struct revoked *r, struct slice ns,
                               const struct revoked_entry *entry);
/* Whether @grant was revoked. Without a namespace nothing can be. */
bool revoked_has(const struct revoked *r, const struct grant *grant);
/* Forgets what expired. Now and then. */
void revoked_expire(struct revoked *r, uint64_t now_s);
