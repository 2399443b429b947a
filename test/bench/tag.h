/* SPDX-License-Identifier: Apache-2.0 */
/* What sse-bench writes at the beginning of each event's data, and recognises in what it receives:
 * "sb1 RUN G T S NS ", then padding. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TAG_MAX = 96 }; /* bytes of the longest tag */

struct tag {
    uint32_t run;   /* tells this run's events from all others */
    uint64_t g;     /* number of the event within the run, from 1 */
    uint32_t topic; /* number of its topic */
    uint64_t s;     /* number of the event within its topic, from 1 */
    uint64_t at_ns; /* CLOCK_MONOTONIC at which it was, or should have been, published */
};

/* Writes the data of an event to @to: the tag, padded to @size bytes (a longer tag is not cut).
 * Returns its length. @to has room for @size + TAG_MAX bytes. */
size_t tag_write(const struct tag *tag, char *to, size_t size);
/* Finds the tag in one line of data, also where a server wrapped the data into something else. */
bool tag_read(const char *data, size_t len, struct tag *out);
/* Spreads @g over 64 bits: the sum of these over a set of events tells whether two sets are equal,
 * whatever their order. */
uint64_t tag_hash(uint64_t g);
