/* SPDX-License-Identifier: Apache-2.0 */
/* A publication as the library in Redis takes it. No I/O. */
#pragma once
#include "relay/core/publication.h"

/* The arguments of FCALL sse_publish behind the key: names and values in turn. They borrow from the
 * publication and from this itself, so it stays where it is. */
struct publication_arguments {
    struct slice items[2 * (PUBLICATION_TOPICS_MAX + FIELD_COUNT)];
    size_t count;
    char numbers[FIELD_COUNT][24];
};

void publication_put_arguments(const struct publication *p, struct publication_arguments *out);
/* What it takes as arguments, in bytes. */
size_t publication_bytes(const struct publication *p);
