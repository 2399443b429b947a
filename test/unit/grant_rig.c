/* SPDX-License-Identifier: Apache-2.0 */
#include "grant_rig.h"

#include <stdarg.h>

struct grant *grant_of(const char *name, ...)
{
    struct grant_fields fields = {0};
    va_list texts;
    va_start(texts, name);
    for (; name; name = va_arg(texts, const char *))
        grant_claims_add(&fields.match, &fields.match_count, slice_of(name),
                         slice_of(va_arg(texts, const char *)));
    va_end(texts);
    return grant_new(&fields);
}
