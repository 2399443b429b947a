/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file that somebody configured. Blocks on the disk: at the start and on reloads only. */
#pragma once
#include "common/buf.h"

/* Appends all of it to @out. ERR_IO: errno says why. ERR_RANGE: it has more than @max bytes. */
NODISCARD enum err file_read(const char *path, size_t max, struct buf *out);
