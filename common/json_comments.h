/* SPDX-License-Identifier: Apache-2.0 */
/* JSON files that people write: comments, and lines by which an error can be found. No I/O. */
#pragma once
#include "common/buf.h"

/* Blanks comments, // and those between slashes and stars; positions and lines stay. Returns where
 * a comment begins that does not end, or text->len. */
size_t json_comments_blank(struct buf *text);
/* The line, from 1, of the byte at @at. */
unsigned json_comments_line(const struct buf *text, size_t at);
