/* Hints for the processor's cache; they change nothing but the time it takes. */
#pragma once

/* What @p points to is used soon: its first 128 bytes. Any address, also one that is not ours. */
static inline void cache_prefetch(const void *p)
{
    __builtin_prefetch(p, 1);
    __builtin_prefetch((const char *)p + 64, 1);
}
