/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis function library (common/sse_relay.lua), embedded at build time. */
#pragma once
#include <stddef.h>

extern const char sse_relay_lua[]; /* NUL-terminated */
extern const size_t sse_relay_lua_len;
