/* SPDX-License-Identifier: Apache-2.0 */
/* Globs as Redis has them for channels (PSUBSCRIBE): * ? [a-z] [^a] and \ before any of them. No
 * I/O. */
#pragma once
#include "common/slice.h"

/* Whether Redis would take @text for more than one channel, or the backslash in it for an escape.
 */
bool glob_is_pattern(struct slice text);
/* How many * it has that stand for something. */
size_t glob_stars(struct slice glob);
/* Whether @text is one of those that @glob stands for, and what the first @max of its stars stand
 * for: of several ways the one in which each, from the left on, stands for as little as possible.
 * What they are borrows from @text. */
bool glob_match(struct slice glob, struct slice text, struct slice *stars, size_t max);
