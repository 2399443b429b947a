/* SPDX-License-Identifier: Apache-2.0 */
#include "common/topic_end.h"

static const char *const names[END_COUNT] = {"", "end", "cancelled", "timeout"};

enum err topic_end_parse(struct slice text, enum topic_end *out)
{
    for (size_t i = END_NONE + 1; i < END_COUNT; i++)
        if (slice_is(text, names[i])) {
            *out = (enum topic_end)i;
            return OK;
        }
    return ERR_INVALID;
}

const char *topic_end_name(enum topic_end end)
{
    return names[end];
}
