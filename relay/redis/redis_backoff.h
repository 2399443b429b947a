/* SPDX-License-Identifier: Apache-2.0 */
/* How long Redis is left alone with a command that it refuses. */
#pragma once
#include <stddef.h>

/* In seconds, after a refusal that @failures others came before in a row. */
static inline unsigned redis_backoff_s(unsigned failures)
{
    static const unsigned seconds[] = {1, 2, 5, 10};
    size_t last = sizeof(seconds) / sizeof(seconds[0]) - 1;
    return seconds[failures < last ? failures : last];
}
