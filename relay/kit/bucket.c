/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/bucket.h"

static const double BURST_S = 0.1;

static void refill(struct bucket *bucket, uint64_t now_us)
{
    if (now_us > bucket->at_us) {
        bucket->tokens += bucket->rate * (double)(now_us - bucket->at_us) / 1e6;
        bucket->at_us = now_us;
    }
    if (bucket->tokens > bucket->burst)
        bucket->tokens = bucket->burst;
}

void bucket_set(struct bucket *bucket, double rate, uint64_t now_us)
{
    bool limited = bucket->rate > 0;
    refill(bucket, now_us);
    bucket->rate = rate;
    bucket->burst = rate * BURST_S > 1 ? rate * BURST_S : 1;
    bucket->at_us = now_us;
    if (!limited || bucket->tokens > bucket->burst)
        bucket->tokens = bucket->burst;
}

bool bucket_take(struct bucket *bucket, uint64_t now_us)
{
    if (bucket->rate <= 0)
        return true;
    refill(bucket, now_us);
    if (bucket->tokens < 1)
        return false;
    bucket->tokens -= 1;
    return true;
}

void bucket_return(struct bucket *bucket)
{
    bucket->tokens += 1; /* more than the burst is cut at the next look */
}

uint64_t bucket_wait_us(struct bucket *bucket, uint64_t now_us)
{
    if (bucket->rate <= 0)
        return 0;
    refill(bucket, now_us);
    if (bucket->tokens >= 1)
        return 0;
    return (uint64_t)((1 - bucket->tokens) / bucket->rate * 1e6) + 1; /* never a moment too early */
}
