/* SPDX-License-Identifier: Apache-2.0 */
/* Variables in the environment that somebody else named: Kubernetes sets some in every pod for each
 * Service of its namespace, Docker sets the same and more for a linked container. Where the Service
 * is called sse-relay, or sse-relay-redis, they begin as our options do. */
#pragma once
#include <stdbool.h>

#include "common/slice.h"

/* Whether @name, of which @skip bytes are what our variables begin with, is one of those. Name and
 * value are looked at, so that a misspelt option is not taken for one. @list: all of the
 * environment. */
bool config_links_has(struct slice name, size_t skip, struct slice value, char *const *list);
