/* SPDX-License-Identifier: Apache-2.0 */
/* Where Redis is, and how to be let in: one object for all connections that belong together, so
 * that they move together when the primary does. One thread. */
#pragma once
#include <sys/queue.h>

#include "relay/config/config.h"
#include "relay/redis/redis_tls.h"
#include "common/redis_url.h"

/* A connection's place in the list. */
struct redis_follower {
    /* Drop what stands, for the reason @why. @moved: and connect at once to the new address. */
    void (*drop)(void *arg, const char *why, bool moved);
    void *arg;
    TAILQ_ENTRY(redis_follower) link;
};

struct redis_target {
    char *host; /* NULL and no path: not known (yet) */
    unsigned port;
    char *path;
    char *user, *password; /* NULL: none */
    unsigned db;
    bool tls_only;         /* no connection without… */
    struct redis_tls *tls; /* …this; NULL: plain text is asked for, or the files went bad */
    bool primary_only;     /* what says that it is no primary is not used */
    bool quiet;            /* its owner tells what happens; connections log nothing */
    double connect_timeout_s, reply_timeout_s;
    TAILQ_HEAD(, redis_follower) followers;
    bool dropping;
    /* A connection was lost, could not be made, or found no primary. May be NULL. */
    void (*lost)(void *arg);
    void *arg;
};

/* Whether this build and the files can do what @config says of TLS to Redis; nothing is connected.
 * ERR_INVALID: the sentence in *why names the option. */
NODISCARD enum err redis_target_check(const struct config *config, struct buf *why);

/* For Redis as @url says. The configuration has been checked: its files could be read then. */
struct redis_target *redis_target_new(const struct redis_url *url, const struct config *config);
/* For one Sentinel after the other; without an address at first. */
struct redis_target *redis_target_new_sentinel(const struct redis_url *url,
                                               const struct config *config);
void redis_target_free(struct redis_target *target); /* after its connections */

/* SIGHUP: passwords and certificates may have been renewed. They count from the next connect on. */
void redis_target_configure(struct redis_target *target, const struct redis_url *url,
                            const struct config *config);
bool redis_target_is_known(const struct redis_target *target);
bool redis_target_is_at(const struct redis_target *target, const char *host, unsigned port);
/* All connections leave for the new address at once. */
void redis_target_move(struct redis_target *target, const char *host, unsigned port,
                       const char *why);
/* What is there is of no use (now): all connections are dropped, and tried again later. */
void redis_target_drop(struct redis_target *target, const char *why);
