/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory_end_calls.h"

#include <string.h>

#include "common/buf.h"

enum { DUE_STEP = 16 };

static void say(struct store_call *call, const char *text)
{
    strings_add(&call->answer, slice_of(text));
}

static void say_u64(struct store_call *call, uint64_t n)
{
    struct buf digits = {0};
    buf_put_u64(&digits, n);
    strings_add(&call->answer, buf_slice(&digits));
    buf_reset(&digits);
}

static struct slice argument(const struct store_call *call, const char *name)
{
    const struct strings *args = call->args;
    for (size_t i = 0; i + 1 < args->count; i += 2)
        if (strcmp(args->items[i], name) == 0)
            return slice_of(args->items[i + 1]);
    return SLICE_NONE;
}

/* False: no id is left. */
static bool end(const struct memory_end_calls *on, struct slice ns, struct slice topic,
                enum topic_end *reason, uint64_t *id, bool *done)
{
    if (!memory_has_ids(on->memory, ns, 1, on->now_us))
        return false;
    struct event *ev = memory_end(on->memory, ns, topic, reason, on->now_us, on->arrival_us, id);
    *done = ev != NULL;
    if (ev)
        on->deliver(on->arg, ev);
    return true;
}

static enum err run_end(const struct memory_end_calls *on, struct store_call *call)
{
    struct slice word = argument(call, "reason");
    enum topic_end reason = END_DONE;
    uint64_t id = 0;
    bool done = false, known = !word.ptr || topic_end_parse(word, &reason) == OK;
    if (!known || !end(on, slice_of(call->ns), argument(call, "topic"), &reason, &id, &done)) {
        say(call, known ? "ERR sse_end: no id is left below 2^53"
                        : "ERR sse_end: reason: not one of end, cancelled, timeout");
        return ERR_DENIED;
    }
    say_u64(call, id);
    say(call, topic_end_name(reason));
    say(call, done ? "1" : "0");
    return OK;
}

static enum err run_ended(const struct memory_end_calls *on, struct store_call *call)
{
    for (size_t i = 1; i < call->args->count; i += 2) {
        enum topic_end reason;
        const char *topic = call->args->items[i];
        uint64_t id =
            memory_ended(on->memory, slice_of(call->ns), slice_of(topic), on->now_us, &reason);
        if (!reason)
            continue;
        say(call, topic);
        say_u64(call, id);
        say(call, topic_end_name(reason));
    }
    return OK;
}

static enum err run_due(const struct memory_end_calls *on, struct store_call *call)
{
    struct slice ns = slice_of(call->ns);
    uint64_t next_us = 0, id;
    bool done;
    for (int n = 0; n < DUE_STEP; n++) {
        enum topic_end reason = END_TIMEOUT;
        const char *topic = memory_due(on->memory, ns, on->now_us, &next_us);
        if (!topic || !end(on, ns, slice_of(topic), &reason, &id, &done))
            break;
    }
    say_u64(call, (next_us + 999) / 1000);
    return OK;
}

bool memory_end_calls_run(const struct memory_end_calls *on, struct store_call *call, enum err *e)
{
    static const struct {
        const char *name;
        enum err (*run)(const struct memory_end_calls *on, struct store_call *call);
    } functions[] = {{"sse_end", run_end}, {"sse_ended", run_ended}, {"sse_due", run_due}};
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (strcmp(call->function, functions[i].name) != 0)
            continue;
        *e = functions[i].run(on, call);
        return true;
    }
    return false;
}
