/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/random.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void random_token(char out[static RANDOM_TOKEN_LEN + 1])
{
    uint64_t random[2];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        abort(); /* Linux fills up to 256 bytes whole */
    snprintf(out, RANDOM_TOKEN_LEN + 1, "%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
}
