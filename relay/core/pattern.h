/* SPDX-License-Identifier: Apache-2.0 */
/* Topic patterns: `*` is exactly one token, a final `>` is one or more. No I/O. */
#pragma once
#include "common/slice.h"

/* Both valid (names.h). */
bool pattern_matches(struct slice pattern, struct slice topic);
/* Whether every topic that @requested matches is matched by @granted, too. */
bool pattern_includes(struct slice granted, struct slice requested);
