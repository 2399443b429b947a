/* The latest ids that were put in, each with the era in which that was done first: a bounded set,
 * the oldest goes first. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct id_set;

struct id_set *id_set_new(size_t max); /* @max: at least 1 */
void id_set_free(struct id_set *set);
void id_set_add(struct id_set *set, uint64_t id, unsigned era); /* twice is once */
/* Whether it was put in before @era. */
bool id_set_has_before(const struct id_set *set, uint64_t id, unsigned era);
