/* SPDX-License-Identifier: Apache-2.0 */
/* Inflates one gzip stream, piece by piece. Costs 40 KB: 7 KB, and from the first byte on a window
 * of 32 KB, because any sender may refer back so far. No I/O. */
#pragma once
#include <stddef.h>

struct unzip;

struct unzip *unzip_new(void);
void unzip_free(struct unzip *z);
/* What unzip_take() reads. @bytes must live until that has returned less than it had room for. */
void unzip_feed(struct unzip *z, const char *bytes, size_t len);
/* Inflates to @out. Returns how many bytes; fewer than @room: all that was fed is used up, or there
 * is an error. */
size_t unzip_take(struct unzip *z, char *out, size_t room);
const char *unzip_error(const struct unzip *z); /* NULL: there is none so far */
