#include <stdlib.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/store_redis_parts.h"

/* @text: what Redis said, added behind @detail. */
static void answer(struct posting *posting, unsigned status, const char *detail, struct slice text)
{
    struct note_publish *note = posting->note;
    note->status = status;
    buf_clear(&note->detail);
    buf_puts(&note->detail, detail);
    buf_put_slice(&note->detail, text);
    bus_published(posting->store->bus, note);
    free(posting);
}

static void answer_error(struct posting *posting, const struct redis_reply *reply)
{
    if (posting->partly) {
        answer(
            posting, 503,
            "Redis published only some of the batch; publish again with the same \"once\" keys: ",
            redis_reply_text(reply));
        return;
    }
    struct slice text = redis_reply_text(reply);
    static const char ours[] = "ERR sse_publish: ";
    if (redis_reply_is_error(reply, "OOM"))
        answer(posting, 503,
               "Redis is out of memory and refuses to publish; nothing was published: ", text);
    else if (redis_reply_is_error(reply, "READONLY"))
        answer(posting, 503, "this Redis is a read-only replica; nothing was published: ", text);
    else if (redis_reply_is_error(reply, ours))
        answer(posting, 400, "",
               (struct slice){text.ptr + sizeof(ours) - 1, text.len - sizeof(ours) + 1});
    else
        answer(posting, 503, "Redis refused to publish: ", text);
}

static void park(struct posting *posting)
{
    struct store_redis *s = posting->store;
    TAILQ_INSERT_TAIL(&s->parked, posting, link);
    store_redis_library_lost(s);
}

static const struct redis_reply *find_error(const struct redis_reply *reply)
{
    if (redis_reply_type(reply) == REDIS_ERROR)
        return reply;
    for (size_t i = 0; i < redis_reply_count(reply); i++)
        if (redis_reply_type(redis_reply_at(reply, i)) == REDIS_ERROR)
            return redis_reply_at(reply, i);
    return NULL;
}

static bool has_success(const struct redis_reply *reply)
{
    for (size_t i = 0; i < redis_reply_count(reply); i++)
        if (redis_reply_type(redis_reply_at(reply, i)) != REDIS_ERROR)
            return true;
    return false;
}

/* @reply: one id, or EXEC's array of them; nil where the event is ephemeral. */
static void on_posted(void *arg, const struct redis_reply *reply)
{
    struct posting *posting = arg;
    struct note_publish *note = posting->note;
    if (!reply) {
        answer(posting, 503,
               "the connection to Redis broke before it answered: whether the event was "
               "published is not known; publish again with the same \"once\" key",
               SLICE_NONE);
        return;
    }
    const struct redis_reply *error = find_error(reply);
    if (error && store_redis_is_missing_function(error)) {
        park(posting);
        return;
    }
    posting->partly = error && redis_reply_count(reply) > 0 && has_success(reply);
    if (error) {
        answer_error(posting, error);
        return;
    }
    bool many = note->request.count > 1;
    for (size_t i = 0; i < note->request.count; i++) {
        int64_t id = redis_reply_number(many ? redis_reply_at(reply, i) : reply);
        note->ids[i] = id > 0 ? (uint64_t)id : 0;
    }
    answer(posting, 200, "", SLICE_NONE);
}

static bool send_item(struct store_redis *s, struct slice key, const struct publication *item,
                      redis_done done, void *arg)
{
    struct slice *argv = mem_alloc((4 + item->args.count) * sizeof(*argv));
    argv[0] = SLICE_LIT("FCALL");
    argv[1] = SLICE_LIT("sse_publish");
    argv[2] = SLICE_LIT("1");
    argv[3] = key;
    for (size_t i = 0; i < item->args.count; i++)
        argv[4 + i] = slice_of(item->args.items[i]);
    bool sent = redis_conn_send(s->commands, argv, 4 + item->args.count, done, arg);
    free(argv);
    return sent;
}

static void posting_send(struct posting *posting)
{
    static const struct slice multi = SLICE_LIT("MULTI"), exec = SLICE_LIT("EXEC");
    struct store_redis *s = posting->store;
    struct publish_request *request = &posting->note->request;
    if (!redis_conn_is_up(s->commands) || !s->library_ready) {
        answer(posting, 503, "Redis cannot be reached; nothing was published", SLICE_NONE);
        return;
    }
    struct buf key = {0};
    name_put_key(&key, s->config->prefix, slice_of(request->ns));
    bool sent = true;
    if (request->count == 1) {
        sent = send_item(s, buf_slice(&key), &request->items[0], on_posted, posting);
    } else {
        redis_conn_send(s->commands, &multi, 1, NULL, NULL);
        for (size_t i = 0; i < request->count; i++)
            send_item(s, buf_slice(&key), &request->items[i], NULL, NULL);
        sent = redis_conn_send(s->commands, &exec, 1, on_posted, posting);
    }
    buf_reset(&key);
    if (!sent)
        answer(posting, 503, "Redis cannot be reached; nothing was published", SLICE_NONE);
}

void store_redis_publish(void *impl, struct note_publish *note)
{
    struct posting *posting = mem_zero(1, sizeof(*posting));
    posting->store = impl;
    posting->note = note;
    note->ids = mem_zero(note->request.count, sizeof(*note->ids));
    posting_send(posting);
}

void store_redis_publish_parked(struct store_redis *s)
{
    struct posting_list parked = TAILQ_HEAD_INITIALIZER(parked);
    TAILQ_CONCAT(&parked, &s->parked, link);
    struct posting *posting;
    while ((posting = TAILQ_FIRST(&parked))) {
        TAILQ_REMOVE(&parked, posting, link);
        posting_send(posting);
    }
}

void store_redis_refuse_parked(struct store_redis *s)
{
    struct posting *posting;
    while ((posting = TAILQ_FIRST(&s->parked))) {
        TAILQ_REMOVE(&s->parked, posting, link);
        answer(posting, 503, "Redis cannot be reached; nothing was published", SLICE_NONE);
    }
}
