/* SPDX-License-Identifier: Apache-2.0 */
/* Grants for tests. */
#pragma once
#include "relay/core/grant.h"

/* One that has what the texts say in turn: the name of a claim and a value of it, up to a NULL. */
struct grant *grant_of(const char *name, ...) __attribute__((sentinel));
