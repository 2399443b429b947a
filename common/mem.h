/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is there or the process is not: all requests are bounded by configuration, so running
 * out means that the machine is misconfigured, and a clean abort beats a half-working relay. Any
 * thread. Release with free(). */
#pragma once
#include <stddef.h>

void *mem_alloc(size_t size);
void *mem_zero(size_t count, size_t size);
void *mem_resize(void *ptr, size_t size);
/* Room for one more in an array of @count items of @size bytes, which only this function grows: it
 * does at powers of two, so that nobody keeps a capacity. */
void *mem_grow(void *items, size_t count, size_t size);
/* Copies @len bytes and adds a NUL behind them. */
char *mem_dup(const void *bytes, size_t len);
