/* SPDX-License-Identifier: Apache-2.0 */
/* The data of an event: its tag, and something to carry behind it. */
#pragma once
#include <stdint.h>
#include "common/buf.h"
#include "options.h"
#include "tag.h"

/* Appends the data of @tag's event, of @size bytes; longer where the tag and what must be around it
 * are. The same event number gives the same content in every run. */
void payload_write(struct buf *out, enum payload_kind kind, const struct tag *tag, size_t size);
