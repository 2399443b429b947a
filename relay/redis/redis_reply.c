/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_reply.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <string.h>

static const redisReply *raw(const struct redis_reply *reply)
{
    return (const redisReply *)(const void *)reply;
}

enum redis_type redis_reply_type(const struct redis_reply *reply)
{
    switch (raw(reply)->type) {
    case REDIS_REPLY_INTEGER:
        return REDIS_INTEGER;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return REDIS_STRING;
    case REDIS_REPLY_ERROR:
        return REDIS_ERROR;
    case REDIS_REPLY_ARRAY:
        return REDIS_ARRAY;
    default: /* hiredis's own numbers: RESP3 adds some, which RESP2 never sends */
        return REDIS_NIL;
    }
}

struct slice redis_reply_text(const struct redis_reply *reply)
{
    enum redis_type type = redis_reply_type(reply);
    if (type != REDIS_STRING && type != REDIS_ERROR)
        return SLICE_NONE;
    return (struct slice){raw(reply)->str, (size_t)raw(reply)->len};
}

int64_t redis_reply_number(const struct redis_reply *reply)
{
    uint64_t n;
    if (redis_reply_type(reply) == REDIS_INTEGER)
        return raw(reply)->integer;
    if (redis_reply_type(reply) == REDIS_STRING &&
        slice_u64(redis_reply_text(reply), INT64_MAX, &n) == OK)
        return (int64_t)n;
    return -1;
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_ARRAY ? raw(reply)->elements : 0;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t i)
{
    assert(i < redis_reply_count(reply));
    return (const struct redis_reply *)(const void *)raw(reply)->element[i];
}

bool redis_reply_is_error(const struct redis_reply *reply, const char *prefix)
{
    return redis_reply_type(reply) == REDIS_ERROR &&
           slice_has_prefix(redis_reply_text(reply), slice_of(prefix));
}

static bool is_unusable(struct slice text)
{
    static const struct slice kinds[] = {{"READONLY ", 9},
                                         {"MASTERDOWN ", 11},
                                         {"LOADING ", 8},
                                         /* To a blocked XREAD, by a primary that is being demoted.
                                          * (Another says that the stream has gone.) */
                                         {"UNBLOCKED force", 15}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (slice_has_prefix(text, kinds[i]))
            return true;
    return false;
}

struct slice redis_reply_unusable(const struct redis_reply *reply)
{
    if (redis_reply_type(reply) == REDIS_ERROR && is_unusable(redis_reply_text(reply)))
        return redis_reply_text(reply);
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const struct redis_reply *item = redis_reply_at(reply, i);
        if (redis_reply_type(item) == REDIS_ERROR && is_unusable(redis_reply_text(item)))
            return redis_reply_text(item);
    }
    return SLICE_NONE;
}

bool redis_reply_is_unusable(const struct redis_reply *reply)
{
    return redis_reply_unusable(reply).ptr != NULL;
}

bool redis_error_is_missing_function(struct slice error)
{
    return slice_has_prefix(error, SLICE_LIT("ERR Function not found"));
}

bool redis_error_is_denial(struct slice error)
{
    static const char *const words[] = {"NOPERM", "ACL failure", "executing the script can't"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (error.len && memmem(error.ptr, error.len, words[i], strlen(words[i])))
            return true;
    return false;
}

bool redis_error_refuses_writes(struct slice error)
{
    return slice_has_prefix(error, SLICE_LIT("MISCONF ")) ||
           slice_has_prefix(error, SLICE_LIT("NOREPLICAS "));
}

bool redis_error_is_passing(struct slice error)
{
    static const char *const codes[] = {"LOADING ",    "BUSY ",     "MASTERDOWN ", "READONLY ",
                                        "NOREPLICAS ", "TRYAGAIN ", "CLUSTERDOWN "};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (slice_has_prefix(error, slice_of(codes[i])))
            return true;
    return false;
}
