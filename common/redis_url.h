/* SPDX-License-Identifier: Apache-2.0 */
/* Where Redis is. No I/O.
 *   redis://[user[:password]@]host[:port][/db]      rediss://… : the same through TLS
 *   unix:///path[?db=N]
 *   redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master-name[/db]
 *   rediss+sentinel://… : the same, Redis and Sentinels through TLS */
#pragma once
#include "common/slice.h"

enum { REDIS_SENTINELS_MAX = 32 };

struct redis_address {
    char *host;
    unsigned port;
};

struct redis_url {
    char *host;                      /* or NULL with… */
    char *path;                      /* …the path of a Unix socket, or with… */
    struct redis_address *sentinels; /* …who knows where the primary is */
    size_t sentinel_count;
    char *master; /* what the Sentinels call it */
    unsigned port;
    char *user, *password; /* NULL: none */
    unsigned db;
    bool tls;
};

/* ERR_INVALID: not of this form. The caller owns the contents of *out. */
NODISCARD enum err redis_url_parse(const char *text, struct redis_url *out);
void redis_url_reset(struct redis_url *url);
