/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the known name that an unknown word resembles most. No I/O. */
#pragma once
#include "common/slice.h"

enum { NEAREST_WORD_MAX = 64 }; /* a longer word resembles none */

struct nearest {
    struct slice word;
    const char *best; /* the answer; NULL: it resembles none */
    unsigned least;   /* distance that the next one must be below */
};

struct nearest nearest_to(struct slice word);               /* borrows it */
void nearest_consider(struct nearest *n, const char *name); /* static, or as long as @n */
