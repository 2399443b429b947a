/* SPDX-License-Identifier: Apache-2.0 */
/* A list of texts that owns them. Zero-initialise it. */
#pragma once
#include "common/slice.h"

struct strings {
    char **items; /* NUL-terminated */
    size_t count;
};

void strings_add(struct strings *list, struct slice item);          /* copies it */
void strings_add_new(struct strings *list, struct slice item);      /* unless it is there */
size_t strings_find(const struct strings *list, struct slice item); /* list->count: nowhere */
bool strings_have(const struct strings *list, struct slice item);
void strings_reset(struct strings *list); /* frees all, and leaves it empty */
