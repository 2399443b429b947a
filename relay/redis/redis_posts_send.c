/* SPDX-License-Identifier: Apache-2.0 */
/* One request's commands, and what their answers mean for it. */
#include <stdlib.h>

#include "common/mem.h"
#include "common/names.h"
#include "relay/core/publication_arguments.h"
#include "relay/core/publication_fields.h"
#include "relay/redis/redis_posts_parts.h"

/* How long Redis remembers our keys beyond publish.timeout, twice: the last attempt begins when
 * that is over, and an earlier one may still be on its way from the kernel's buffers. */
enum { OWN_KEY_SPARE_MS = 10000 };

/* --- answers --------------------------------------------------------------------------------- */

/* What Redis said is added behind @detail. */
static void refuse(struct posting *p, unsigned status, enum publish_outcome outcome,
                   const char *detail, struct slice text)
{
    struct buf *b = &p->note->detail;
    buf_clear(b);
    buf_puts(b, detail);
    buf_put_slice(b, text);
    redis_posts_answer(p, status, outcome);
}

static bool is_ended(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_ERROR &&
           slice_is(redis_reply_text(reply), "ERR sse_publish: topic: ended");
}

static void on_refused(struct posting *p, struct slice error)
{
    static const char ours[] = "ERR sse_publish: ";
    p->unknown |= p->partly;
    if (redis_error_is_missing_function(error)) {
        redis_posts_obstacle(p->posts, "the function library is not ready", "it was gone");
        p->posts->handler->library_lost(p->posts->arg);
        redis_posts_wait(p);
    } else if (redis_error_is_passing(error)) {
        redis_posts_hold(p, error);
    } else if (p->partly) {
        refuse(
            p, 503, PUBLISH_UNKNOWN,
            "Redis published only some of the batch; publish again with the same \"once\" keys: ",
            error);
    } else if (slice_has_prefix(error, slice_of(ours))) {
        refuse(p, 400, PUBLISH_NOT, "",
               (struct slice){error.ptr + sizeof(ours) - 1, error.len - sizeof(ours) + 1});
    } else if (p->unknown) {
        refuse(p, 503, PUBLISH_UNKNOWN,
               "the connection to Redis broke before it answered, and when asked again it refused; "
               "whether the event was published is not known: ",
               error);
    } else if (slice_has_prefix(error, SLICE_LIT("OOM"))) {
        refuse(p, 503, PUBLISH_NOT,
               "Redis is out of memory and refuses to publish; nothing was published: ", error);
    } else {
        refuse(p, 503, PUBLISH_NOT, "Redis refused to publish; nothing was published: ", error);
    }
}

static const struct redis_reply *answer_at(const struct posting *p, const struct redis_reply *reply,
                                           size_t i)
{
    return p->note->request.count > 1 ? redis_reply_at(reply, i) : reply;
}

static void on_accepted(struct posting *p, const struct redis_reply *reply)
{
    struct note_publish *note = p->note;
    for (size_t i = 0; i < note->request.count; i++) {
        const struct redis_reply *answer = answer_at(p, reply, i);
        int64_t id = redis_reply_number(answer);
        note->ids[i] = is_ended(answer) ? NOTE_ID_ENDED
                       : id > 0         ? (uint64_t)id
                                        : 0; /* nil: ephemeral */
        p->published |= note->ids[i] != NOTE_ID_ENDED;
    }
    if (p->published && redis_posts_confirms(p->posts))
        redis_posts_move(p, POSTING_UNCONFIRMED);
    else
        redis_posts_answer(p, 200, PUBLISH_DONE);
}

/* An id; or nil where there is none, as the event is ephemeral; or that its topic has ended. */
static bool is_outcome(const struct redis_reply *reply)
{
    enum redis_type type = redis_reply_type(reply);
    return type == REDIS_NIL || is_ended(reply) ||
           (type == REDIS_STRING && redis_reply_number(reply) > 0);
}

/* One, or for a batch an array of them. */
static bool is_answer(const struct posting *p, const struct redis_reply *reply)
{
    size_t count = p->note->request.count, found = 0;
    if (count == 1)
        return is_outcome(reply);
    for (size_t i = 0; i < redis_reply_count(reply); i++)
        found += is_outcome(redis_reply_at(reply, i));
    return found == count && redis_reply_count(reply) == count;
}

/* The first error, of EXEC itself or of a call in it. EXEC does not roll back: what else is in the
 * array has been done. That a topic has ended is none: it is what became of its event. */
static struct slice find_error(struct posting *p, const struct redis_reply *reply)
{
    struct slice error = SLICE_NONE;
    if (is_ended(reply))
        return SLICE_NONE;
    if (redis_reply_type(reply) == REDIS_ERROR)
        return p->refusal ? slice_of(p->refusal) : redis_reply_text(reply);
    for (size_t i = 0; i < redis_reply_count(reply); i++)
        if (is_ended(redis_reply_at(reply, i)))
            continue;
        else if (!error.ptr && redis_reply_type(redis_reply_at(reply, i)) == REDIS_ERROR)
            error = redis_reply_text(redis_reply_at(reply, i));
        else
            p->partly |= redis_reply_type(redis_reply_at(reply, i)) != REDIS_ERROR;
    return error;
}

void redis_posts_take(struct posting *p, const struct redis_reply *reply)
{
    struct redis_posts *posts = p->posts;
    struct slice error = reply ? find_error(p, reply) : SLICE_NONE;
    bool answered = reply && !(error.ptr && redis_error_is_passing(error));
    posts->held &= !answered;
    if (!p->note) {
        redis_posts_forget(p);
        return;
    }
    redis_posts_move(p, POSTING_LOOSE);
    if (!reply) {
        p->unknown = true;
        redis_posts_obstacle(posts, "Redis cannot be reached", "the connection broke");
        redis_posts_wait(p);
    } else if (error.ptr) {
        on_refused(p, error);
    } else if (!is_answer(p, reply)) {
        refuse(p, 503, PUBLISH_UNKNOWN,
               "Redis gave an answer that does not belong to the question; whether the event was "
               "published is not known",
               SLICE_NONE);
    } else {
        on_accepted(p, reply);
    }
}

/* MULTI's own answer, and those of the calls in it. A call that was not queued has been done: then
 * MULTI was refused. */
static void on_queued(void *arg, const struct redis_reply *reply)
{
    struct posting *p = arg;
    if (!reply)
        return;
    struct slice text = redis_reply_text(reply);
    if (redis_reply_type(reply) == REDIS_ERROR && !p->refusal)
        p->refusal = slice_dup(text);
    else if (!slice_is(text, "OK") && !slice_is(text, "QUEUED"))
        p->partly |= redis_reply_type(reply) != REDIS_ERROR;
}

/* --- commands -------------------------------------------------------------------------------- */

/* An event whose publisher gave no `once` key gets one of ours, so that it may be sent again when
 * the connection breaks before the answer comes. The tilde is for people who look into Redis; what
 * keeps it apart from publishers' own is the random token. */
static void put_own_key(const struct posting *p, size_t i, struct buf *key, struct buf *ttl)
{
    const struct redis_posts *posts = p->posts;
    buf_printf(key, "~%s-%llx", posts->token, (unsigned long long)p->number);
    if (p->note->request.count > 1)
        buf_printf(key, ".%zx", i);
    buf_put_u64(ttl, 2 * posts->config->publish_timeout_ms + OWN_KEY_SPARE_MS);
}

static bool send_item(struct posting *p, size_t i, struct slice space, redis_done done)
{
    const struct publication *item = &p->note->request.items[i];
    struct buf key = {0}, ttl = {0};
    struct publication_arguments arguments;
    publication_put_arguments(item, &arguments);
    struct slice *argv = mem_alloc((8 + arguments.count) * sizeof(*argv));
    size_t argc = 0;
    argv[argc++] = SLICE_LIT("FCALL");
    argv[argc++] = SLICE_LIT("sse_publish");
    argv[argc++] = SLICE_LIT("1");
    argv[argc++] = space;
    for (size_t j = 0; j < arguments.count; j++)
        argv[argc++] = arguments.items[j];
    if (p->keyed && !publication_has(item, FIELD_ONCE)) {
        put_own_key(p, i, &key, &ttl);
        argv[argc++] = SLICE_LIT("once");
        argv[argc++] = buf_slice(&key);
        argv[argc++] = SLICE_LIT("once_ttl");
        argv[argc++] = buf_slice(&ttl);
    }
    bool sent = redis_conn_send(p->posts->conn, argv, argc, done, p);
    free(argv);
    buf_reset(&key);
    buf_reset(&ttl);
    return sent;
}

bool redis_posts_send(struct posting *p, redis_done done)
{
    static const struct slice multi = SLICE_LIT("MULTI"), exec = SLICE_LIT("EXEC");
    struct redis_posts *posts = p->posts;
    const struct publication_request *request = &p->note->request;
    struct buf space = {0};
    if (!redis_conn_is_up(posts->conn))
        return false;
    free(p->refusal);
    p->refusal = NULL;
    p->partly = false;
    name_put_key(&space, posts->config->prefix, slice_of(request->ns));
    bool sent;
    if (request->count == 1) {
        sent = send_item(p, 0, buf_slice(&space), done);
    } else {
        sent = redis_conn_send(posts->conn, &multi, 1, on_queued, p);
        for (size_t i = 0; sent && i < request->count; i++)
            sent = send_item(p, i, buf_slice(&space), on_queued);
        sent = sent && redis_conn_send(posts->conn, &exec, 1, done, p);
    }
    buf_reset(&space);
    if (sent)
        redis_posts_move(p, POSTING_SENT);
    return sent;
}
