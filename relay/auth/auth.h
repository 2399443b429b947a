/* SPDX-License-Identifier: Apache-2.0 */
/* Who may what, as the operator says it: issuers with their keys, rules, static keys, routes, from
 * auth.file or from auth.key_file. Immutable once loaded, shared by reference count; a reload makes
 * a new one. The only part of the room that reads files. Specification: docs/protocol.md, 14. */
#pragma once
#include "relay/auth/route_map.h"
#include "relay/config/config.h"
#include "relay/core/grant.h"

struct auth;

/* Reads the files that @config names. *out is NULL where nothing is configured: everybody may
 * everything. On an error *why (appended) is a sentence that names the file, the place in it, and
 * what is expected. @out: one reference. Warnings (grants without require…) go to @warnings, one
 * per line; may be NULL. Blocks on the disk: not on a worker's thread. */
NODISCARD enum err auth_load(const struct config *config, struct auth **out, struct buf *why,
                             struct buf *warnings);
struct auth *auth_ref(struct auth *a);
void auth_unref(struct auth *a); /* any thread; NULL is fine */
/* The files that it was made of: what to watch. Borrowed. */
const struct strings *auth_files(const struct auth *a);
const struct route_map *auth_routes(const struct auth *a);
/* Of requests without credentials; borrowed; NULL: they get 401. */
struct grant *auth_anonymous(const struct auth *a);
/* Whether GET /events is served (the auth file may switch it off). */
bool auth_serves_events(const struct auth *a);

/* Why a token or key is not accepted. */
struct auth_refusal {
    bool is_signed;     /* its signature was right: the reason may be told */
    const char *reason; /* static, in words: "expired", … */
    /* For the log; of the unverified token; cut, without control characters. */
    char issuer[128], kid[128], subject[128];
};

/* The grant of a static key, by the SHA-256 of its text (32 bytes); borrowed; NULL: there is no
 * such key. Any thread. */
struct grant *auth_find_key(const struct auth *a, const uint8_t *sha256);

/* A token. OK: *out is one reference, with ns NULL where the token names no namespace that its
 * issuer may speak for. ERR_DENIED: *refusal says why. Costs up to 700 µs; never blocks. Any
 * thread. */
NODISCARD enum err auth_verify(const struct auth *a, struct slice text, uint64_t now_s,
                               struct grant **out, struct auth_refusal *refusal);

/* What a token gets, and why: for --explain. Appends text for a terminal. True: it is accepted. */
bool auth_explain(const struct auth *a, struct slice text, uint64_t now_s, struct buf *out);
