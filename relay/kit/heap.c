/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/heap.h"

#include <malloc.h>

#include "common/clock.h"

enum {
    GONE_LEAST = 1024, /* things: some megabytes */
    GOING = 64,        /* between two questions: some come and go all the time */
    PAUSE_LEAST_US = 10000000,
    PAUSE_TIMES = 1000, /* as long as it took: a thousandth of all time at most */
};

bool heap_is_due(struct heap *heap, size_t held, uint64_t now_us)
{
    if (held > heap->peak)
        heap->peak = held;
    bool falls = held + GOING < heap->last;
    heap->last = held;
    return !falls && heap->peak - held >= GONE_LEAST && now_us >= heap->not_before_us;
}

void heap_done(struct heap *heap, size_t held, uint64_t now_us, uint64_t took_us)
{
    uint64_t pause_us = took_us * PAUSE_TIMES;
    heap->peak = held;
    heap->not_before_us = now_us + (pause_us > PAUSE_LEAST_US ? pause_us : PAUSE_LEAST_US);
}

void heap_trim(struct heap *heap, size_t held)
{
    uint64_t begin_us = clock_mono_us();
    if (!heap_is_due(heap, held, begin_us))
        return;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    uint64_t end_us = clock_mono_us();
    heap_done(heap, held, end_us, end_us - begin_us);
}
