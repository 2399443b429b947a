/* SPDX-License-Identifier: Apache-2.0 */
/* What Redis answers, without hiredis's types. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"

/* A reply, valid during the callback that brings it. */
struct redis_reply;
enum redis_type { REDIS_NIL, REDIS_INTEGER, REDIS_STRING, REDIS_ERROR, REDIS_ARRAY };
enum redis_type redis_reply_type(const struct redis_reply *reply);
struct slice
redis_reply_text(const struct redis_reply *reply); /* string, status or error; else SLICE_NONE */
int64_t redis_reply_number(
    const struct redis_reply *reply); /* an integer, or a string of digits; else -1 */
size_t redis_reply_count(const struct redis_reply *reply); /* elements of an array, else 0 */
const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t i);
/* An error by which Redis says that it did nothing, and that it may do so in a moment: it is still
 * loading, has no primary or no replica, is a replica itself, is busy. */
bool redis_error_is_passing(struct slice error);
/* An error by which Redis says that it takes no writes for now, but answers whoever only reads: its
 * disk is full or it cannot save (MISCONF), its replicas are too few (NOREPLICAS). */
bool redis_error_refuses_writes(struct slice error);
/* The account may not do that; a function's caller is told so in other words. */
bool redis_error_is_denial(struct slice error);
/* Somebody flushed the functions, or this is a Redis that never had them. */
bool redis_error_is_missing_function(struct slice error);
bool redis_reply_is_error(const struct redis_reply *reply,
                          const char *prefix); /* an error that starts so */
/* An error, or EXEC's array with one, by which a Redis tells that it is no primary (any more), or
 * does not have its data yet: READONLY, MASTERDOWN, LOADING, UNBLOCKED. */
bool redis_reply_is_unusable(const struct redis_reply *reply);
/* That error's text; SLICE_NONE: there is none. */
struct slice redis_reply_unusable(const struct redis_reply *reply);
