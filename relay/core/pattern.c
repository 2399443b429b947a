/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/pattern.h"

/* Takes the first token off *rest; false when none is left. The last one leaves an absent rest. */
static bool token_next(struct slice *rest, struct slice *token)
{
    if (rest->ptr == NULL)
        return false;
    *token = slice_cut(rest, '.');
    return true;
}

bool pattern_includes(struct slice granted, struct slice requested)
{
    struct slice want, have;
    while (token_next(&granted, &want)) {
        if (!token_next(&requested, &have))
            return false;
        if (slice_is(want, ">"))
            return true;
        /* A `>` asks for topics of any length, and what is left of @granted has one length only, or
         * a longer minimum. */
        if (slice_is(have, ">"))
            return false;
        if (!slice_is(want, "*") && !slice_eq(want, have))
            return false;
    }
    return requested.ptr == NULL;
}

/* A topic is a pattern that matches itself. */
bool pattern_matches(struct slice pattern, struct slice topic)
{
    return pattern_includes(pattern, topic);
}
