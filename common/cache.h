/* SPDX-License-Identifier: Apache-2.0 */
/* Hints for the processor's cache; they change nothing but the time it takes. */
#pragma once
#include <stdint.h>

/* What @p points to is used soon: its first 128 bytes. Any address, also NULL. */
static inline void cache_prefetch(const void *p)
{
    __builtin_prefetch(p, 1);
    __builtin_prefetch((const void *)((uintptr_t)p + 64), 1);
}
