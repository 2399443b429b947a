/* SPDX-License-Identifier: Apache-2.0 */
/* A Redis for tests of the connections, on a Unix socket in the test's own loop: it knows SUBSCRIBE
 * and its kin, PUBLISH and ROLE, says +OK (or what it is told) to all else, and misbehaves as it is
 * told to. */
#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

enum { FAKE_CONNECTIONS = 8, FAKE_CHANNELS = 64 };

struct fake_conn {
    struct fake_redis *redis; /* NULL: not in use */
    int fd;
    ev_io read;
    char in[65536];
    size_t in_len;
    char name[32];                 /* CLIENT SETNAME */
    char *channels[FAKE_CHANNELS]; /* globs, too; NULL: free */
};

struct fake_redis {
    struct ev_loop *loop;
    char path[64];
    int fd;
    ev_io accept;
    struct fake_conn conns[FAKE_CONNECTIONS];
    const char *refused; /* SUBSCRIBEs with a channel that contains this are refused */
    const char *role;
    const char *called; /* the answer to an FCALL, as it stands in the protocol; NULL: +OK */
    char call[256];     /* the arguments of the last one */
    char published[64]; /* the channel of the last PUBLISH */
    bool mute;          /* messages get lost */
    bool silent;        /* answers to SUBSCRIBE and its kin, too */
    bool no_publish;
    unsigned subscribes, unsubscribes, publishes, logins; /* commands; subscriber connections */
};

void fake_redis_start(struct fake_redis *redis, struct ev_loop *loop);
void fake_redis_stop(struct fake_redis *redis);
/* Whether a subscriber connection has it. */
bool fake_redis_has(const struct fake_redis *redis, const char *channel);
size_t fake_redis_count(const struct fake_redis *redis); /* channels */
/* Closes the connections with that name. */
void fake_redis_cut(struct fake_redis *redis, const char *name);
/* To those who have the channel, and to those who have the glob *; it knows no others. */
void fake_redis_message(struct fake_redis *redis, const char *channel, const char *payload);
