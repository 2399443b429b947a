/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_calls.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/names.h"

enum { ARGS_BEFORE = 4 };

struct redis_calls {
    struct redis_conn *conn;
    char *prefix;
    const struct redis_calls_handler *handler;
    void *arg;
};

/* What is on the way: the commands connection answers in order. */
struct pending_call {
    struct redis_calls *calls;
    struct store_call *call;
};

struct pending_telling {
    struct redis_calls *calls;
    struct store_telling *telling;
};

/* --- calls ------------------------------------------------------------------------------------ */

/* It says so itself, or a key of the namespace is of another type: it will say so again. */
static bool is_final(const struct redis_reply *reply)
{
    return redis_reply_is_error(reply, "ERR sse_") || redis_reply_is_error(reply, "WRONGTYPE ");
}

static void answer_add(struct store_call *call, const struct redis_reply *reply)
{
    int64_t number = redis_reply_number(reply);
    struct slice text = redis_reply_text(reply);
    struct buf digits = {0};
    if (redis_reply_type(reply) == REDIS_INTEGER) {
        buf_put_u64(&digits, number < 0 ? 0 : (uint64_t)number);
        text = buf_slice(&digits);
    }
    strings_add(&call->answer, text.ptr ? text : SLICE_LIT(""));
    buf_reset(&digits);
}

static enum err answer_fill(struct redis_calls *calls, struct store_call *call,
                            const struct redis_reply *reply)
{
    if (redis_reply_type(reply) == REDIS_ARRAY) {
        for (size_t i = 0; i < redis_reply_count(reply); i++)
            answer_add(call, redis_reply_at(reply, i));
        return OK;
    }
    if (redis_reply_type(reply) != REDIS_ERROR || is_final(reply)) {
        answer_add(call, reply);
        return redis_reply_type(reply) == REDIS_ERROR ? ERR_DENIED : OK;
    }
    calls->handler->refused(calls->arg, "cannot call a function", reply);
    return ERR_AGAIN;
}

static void on_called(void *arg, const struct redis_reply *reply)
{
    struct pending_call *pending = arg;
    struct redis_calls *calls = pending->calls;
    struct store_call *call = pending->call;
    free(pending);
    if (!reply) {
        call->done(call, ERR_CLOSED);
        return;
    }
    calls->handler->called(calls->arg, reply);
    call->done(call, answer_fill(calls, call, reply));
}

void redis_calls_call(struct redis_calls *calls, struct store_call *call)
{
    const struct strings *args = call->args;
    struct slice *argv = mem_alloc((ARGS_BEFORE + args->count) * sizeof(*argv));
    struct buf key = {0};
    size_t argc = ARGS_BEFORE;
    name_put_key(&key, calls->prefix, slice_of(call->ns));
    argv[0] = SLICE_LIT("FCALL");
    argv[1] = slice_of(call->function);
    argv[2] = SLICE_LIT("1");
    argv[3] = buf_slice(&key);
    for (size_t i = 0; i < args->count; i++)
        argv[argc++] = slice_of(args->items[i]);
    struct pending_call *pending = mem_alloc(sizeof(*pending));
    *pending = (struct pending_call){calls, call};
    bool sent = redis_conn_send(calls->conn, argv, argc, on_called, pending);
    free(argv);
    buf_reset(&key);
    if (!sent) {
        free(pending);
        call->done(call, ERR_AGAIN);
    }
}

/* --- messages for other relays ---------------------------------------------------------------- */

static void on_told(void *arg, const struct redis_reply *reply)
{
    struct pending_telling *pending = arg;
    struct redis_calls *calls = pending->calls;
    struct store_telling *telling = pending->telling;
    free(pending);
    int64_t heard = reply ? redis_reply_number(reply) : -1;
    if (reply && heard < 0)
        calls->handler->refused(calls->arg, "cannot tell another relay", reply);
    telling->heard = heard < 0 ? 0 : (uint64_t)heard;
    telling->done(telling, heard < 0 ? ERR_AGAIN : OK);
}

void redis_calls_tell(struct redis_calls *calls, struct store_telling *telling)
{
    struct buf channel = {0};
    name_put_node(&channel, calls->prefix, slice_of(telling->tag));
    struct slice argv[] = {SLICE_LIT("PUBLISH"), buf_slice(&channel), telling->text};
    struct pending_telling *pending = mem_alloc(sizeof(*pending));
    *pending = (struct pending_telling){calls, telling};
    bool sent = redis_conn_send(calls->conn, argv, 3, on_told, pending);
    buf_reset(&channel);
    if (!sent) {
        free(pending);
        telling->done(telling, ERR_AGAIN);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

struct redis_calls *redis_calls_new(struct redis_conn *conn, const char *prefix,
                                    const struct redis_calls_handler *handler, void *arg)
{
    struct redis_calls *calls = mem_zero(1, sizeof(*calls));
    calls->conn = conn;
    calls->prefix = mem_dup(prefix, strlen(prefix));
    calls->handler = handler;
    calls->arg = arg;
    return calls;
}

void redis_calls_free(struct redis_calls *calls)
{
    if (!calls)
        return;
    free(calls->prefix);
    free(calls);
}
