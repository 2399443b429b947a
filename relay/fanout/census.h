/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriber counts by namespace and topic, gathered from one worker after the other for /stats.
 * One owner at a time. */
#pragma once
#include "common/buf.h"

enum { CENSUS_NAMES_MAX = 10000 }; /* names told apart; further ones are only counted */

struct census;

struct census *census_new(void);
void census_free(struct census *census);
void census_add(struct census *census, struct slice ns, struct slice name, size_t subscribers);
/* Appends a JSON array of {"ns","topic","subscribers"}, most subscribers first. */
void census_put_json(struct census *census, struct buf *b);
size_t census_left_out(const struct census *census); /* names beyond the maximum */
