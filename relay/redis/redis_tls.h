/* SPDX-License-Identifier: Apache-2.0 */
/* TLS to Redis: OpenSSL under hiredis, where hiredis has that (1.0 on). Certificate and host name
 * are always verified; there is no way down to plain text. One thread for each object. */
#pragma once
#include "common/buf.h"

struct redis_tls;         /* what all connections share: trust, our certificate */
struct redis_tls_session; /* one connection's */

struct redis_tls_files {
    const char *ca;         /* PEM of who signs; "": the system's */
    const char *cert, *key; /* PEM of our own certificate; both or none ("") */
    const char *name;       /* that the certificate must carry; "": the host connected to */
};

bool redis_tls_is_built_in(void);
/* ERR_INVALID, with words in *why, when a file cannot be used. */
NODISCARD enum err redis_tls_new(const struct redis_tls_files *files, struct redis_tls **out,
                                 struct buf *why);
void redis_tls_free(struct redis_tls *tls);

/* @redis_context: a connected, non-blocking redisContext, which owns the session from here on.
 * NULL: it failed at once, the context's errstr says how. */
struct redis_tls_session *redis_tls_begin(struct redis_tls *tls, void *redis_context,
                                          const char *host);
enum redis_tls_progress { TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_DONE, TLS_FAILED };
enum redis_tls_progress redis_tls_handshake(struct redis_tls_session *session);
/* Bytes that OpenSSL holds decrypted: the socket does not tell of them. */
bool redis_tls_has_pending(const struct redis_tls_session *session);
/* To be called after any failure: what went wrong, in words; nothing where OpenSSL does not know.
 * @session may be NULL: redis_tls_begin() failed. */
void redis_tls_put_error(const struct redis_tls *tls, const struct redis_tls_session *session,
                         struct buf *out);
