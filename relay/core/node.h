/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of one process share: set up by the hub before they start. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strings.h"

struct bus;
struct inbox;
struct metrics;
struct pressure;

struct node {
    const char *name; /* the configuration's `node` */
    const char *version;
    uint32_t tag;        /* at random: by it other nodes find this one, connection_id.h */
    uint64_t started_ms; /* monotonic clock */
    struct bus *bus;
    struct inbox **inboxes; /* the workers' */
    unsigned workers;
    struct metrics **metrics;  /* the workers', then the bus's */
    struct pressure *pressure; /* of events on memory */
    struct strings own_hosts;  /* that the node listens on by name, but for ports */
    bool beyond_loopback;      /* it listens for others than this machine */
    bool slim;                 /* front_limits.slim: worker 0 has tried it out */
    size_t files;              /* that this process may open; hub.c shares them out: */
    size_t max_clients;        /* streams */
    unsigned full_late;    /* per mille, at random: how much later it is full than another node */
    size_t max_others;     /* HTTP connections that are not streams */
    atomic_size_t clients; /* streams open, over all workers */
    atomic_size_t pipes;   /* requests that publish their body as it arrives, likewise */
    atomic_size_t body_bytes; /* of HTTP requests, over all workers */
    atomic_bool draining;     /* set once */
    atomic_bool full;         /* as /ready said last */
    atomic_uint drained;      /* workers that have ended all their streams */
};
