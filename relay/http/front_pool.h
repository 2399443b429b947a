/* SPDX-License-Identifier: Apache-2.0 */
/* Whether libmicrohttpd lays out a connection's memory pool as front_memory.c knows it, which no
 * documentation promises. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { FRONT_POOL_SPARE = 64 }; /* bytes at a pool's end that are left alone */

/* A request as libmicrohttpd shows it; its texts are in the pool. */
struct front_pool_view {
    const char *method, *path;
    const char *name;   /* of its first parameter */
    size_t header_size; /* as it tells */
};

/* Tries it out with one request to a daemon of its own, whose pools are of @pool_bytes. Takes a
 * millisecond, and nothing is left of it. Any thread, before the relay takes files up. */
bool front_pool_is_known(size_t pool_bytes);
/* Whether @view shows a request of which so many bytes were sent as expected. What may not be in a
 * pool is looked at all the same, and does no harm. */
bool front_pool_fits(const struct front_pool_view *view, size_t sent, size_t pool_bytes);
