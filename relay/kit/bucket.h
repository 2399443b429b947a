/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket: lets so many things through per second, and a burst after a pause. No clock of
 * its own. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct bucket {
    double rate, burst, tokens; /* tokens per second; rate 0: no limit */
    uint64_t at_us;             /* when `tokens` was right */
};

/* @rate: tokens per second. A tenth of a second's tokens, at least one, may be saved up. Starts
 * full; called again, it keeps what is there and changes the rate. */
void bucket_set(struct bucket *bucket, double rate, uint64_t now_us);
/* Takes a token; false when there is none. */
bool bucket_take(struct bucket *bucket, uint64_t now_us);
/* For a token that was not needed after all. */
void bucket_return(struct bucket *bucket);
/* Microseconds until there is a token; 0: now. */
uint64_t bucket_wait_us(struct bucket *bucket, uint64_t now_us);
