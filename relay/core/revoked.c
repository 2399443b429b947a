/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/revoked.h"

#include <stdlib.h>

void revoked_entry_reset(struct revoked_entry *entry)
{
    free(entry->value);
}
