/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_remote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/mem.h"
#include "relay/core/connection_id.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"

enum {
    WAITING_MAX = 1000, /* requests of this node's workers … */
    SERVED_MAX = 1000,  /* … and of other nodes, at a time */
    TOLD_BYTES_MAX = 256 << 10,
    DETAIL_MAX = 128 << 10,
    TAG_CHARS = 8,
    ACTION_MAX = 16,
    HEARD_MAX = 1024,
};
static const double ANSWER_S = 2.0, AGAIN_S = 0.25;
/* So long ago at most a node was heard that is asked again, where nobody hears it now. */
static const double HEARD_S = 60.0;

/* What a worker of ours has asked. */
struct request {
    uint64_t number;
    struct bus_remote *remote;
    struct note_remote *note;
    double deadline; /* ev_now() */
    uint32_t tag;    /* of the node that is asked … */
    bool unheard;    /* … and does not listen: it is gone, or about to listen again */
    TAILQ_ENTRY(request) link;
    UT_hash_handle hh;
};

/* Another node that is, or was. */
struct heard {
    uint32_t tag;
    double at; /* ev_now() */
    UT_hash_handle hh;
};

/* A message on its way. @number: the request that it carries; 0: an answer. */
struct telling {
    struct store_telling store; /* first */
    struct bus_remote *remote;
    uint64_t number;
    char tag[TAG_CHARS + 1];
    struct buf text;
};

struct bus_remote {
    const struct bus_base *base;
    struct bus_outbox *outbox;
    struct store_name name;
    struct request *by_number;
    TAILQ_HEAD(, request) waiting; /* oldest first, so by deadline */
    struct heard *heard;           /* by tag */
    uint64_t last;                 /* number given */
    size_t served;                 /* with a worker, for other nodes */
    struct log_limit invalid_limit;
    ev_timer late, again;
};

/* --- what our workers ask --------------------------------------------------------------------- */

static void note_answer(struct bus_remote *r, struct note_remote *note, unsigned status,
                        const char *detail)
{
    note->status = status;
    note->detail = detail ? mem_dup(detail, strlen(detail)) : NULL;
    bus_outbox_post(r->outbox, note->worker, &note->note);
}

static void request_end(struct request *request, unsigned status, const char *detail)
{
    struct bus_remote *r = request->remote;
    HASH_DEL(r->by_number, request);
    TAILQ_REMOVE(&r->waiting, request, link);
    note_answer(r, request->note, status, detail);
    free(request);
}

static struct request *request_find(const struct bus_remote *r, uint64_t number)
{
    struct request *request;
    HASH_FIND(hh, r->by_number, &number, sizeof(number), request);
    return request;
}

#define GONE "the connection's node is gone"

static void set_late(struct bus_remote *r)
{
    const struct request *first = TAILQ_FIRST(&r->waiting);
    if (!first)
        ev_timer_stop(r->base->loop, &r->late);
    else if (!ev_is_active(&r->late))
        timer_once(r->base->loop, &r->late, first->deadline - ev_now(r->base->loop));
}

static void on_late(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct bus_remote *r = w->data;
    struct request *request;
    while ((request = TAILQ_FIRST(&r->waiting)) && request->deadline <= ev_now(loop))
        if (request->unheard)
            request_end(request, 404, GONE);
        else
            request_end(request, 504, "the connection's node did not answer in time");
    set_late(r);
}

static struct request *request_new(struct bus_remote *r, struct note_remote *note)
{
    struct request *request = mem_zero(1, sizeof(*request));
    request->remote = r;
    request->note = note;
    request->number = ++r->last;
    request->deadline = ev_now(r->base->loop) + ANSWER_S;
    HASH_ADD(hh, r->by_number, number, sizeof(request->number), request);
    TAILQ_INSERT_TAIL(&r->waiting, request, link);
    set_late(r);
    return request;
}

/* --- messages --------------------------------------------------------------------------------- */

static void heard_reset(struct bus_remote *r)
{
    struct heard *heard, *next;
    HASH_ITER (hh, r->heard, heard, next) {
        HASH_DEL(r->heard, heard);
        free(heard);
    }
}

static void note_heard(struct bus_remote *r, uint32_t tag)
{
    struct heard *heard;
    HASH_FIND(hh, r->heard, &tag, sizeof(tag), heard);
    if (!heard) {
        if (HASH_COUNT(r->heard) >= HEARD_MAX)
            heard_reset(r);
        heard = mem_zero(1, sizeof(*heard));
        heard->tag = tag;
        HASH_ADD(hh, r->heard, tag, sizeof(heard->tag), heard);
    }
    heard->at = ev_now(r->base->loop);
}

/* Nobody has heard it, so it may be said once more: a node whose connection broke is back soon.
 * False: it is of no node that is known of. */
static bool ask_again_soon(struct request *request)
{
    struct bus_remote *r = request->remote;
    const struct heard *heard;
    HASH_FIND(hh, r->heard, &request->tag, sizeof(request->tag), heard);
    if (!heard || ev_now(r->base->loop) - heard->at > HEARD_S)
        return false;
    request->unheard = true;
    if (!ev_is_active(&r->again))
        timer_once(r->base->loop, &r->again, AGAIN_S);
    return true;
}

static void on_told(struct store_telling *store, enum err e)
{
    struct telling *telling = (struct telling *)store;
    struct request *request = request_find(telling->remote, telling->number);
    if (request && e)
        request_end(request, 503, "Redis is away, and with it the connection's node");
    else if (request && store->heard)
        note_heard(telling->remote, request->tag);
    else if (request && !ask_again_soon(request))
        request_end(request, 404, GONE);
    buf_reset(&telling->text);
    free(telling);
}

static struct telling *telling_new(struct bus_remote *r, uint64_t number, const char *tag)
{
    struct telling *telling = mem_zero(1, sizeof(*telling));
    telling->remote = r;
    telling->number = number;
    snprintf(telling->tag, sizeof(telling->tag), "%s", tag);
    return telling;
}

static void telling_send(struct telling *telling)
{
    const struct store *store = &telling->remote->base->store;
    telling->store = (struct store_telling){
        .tag = telling->tag, .text = buf_slice(&telling->text), .done = on_told};
    store->ops->tell(store->impl, &telling->store);
}

static void put_member(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, ",\"%s\":", name);
    json_put_string(b, slice_of(text));
}

static void tell_request(struct bus_remote *r, const struct request *request)
{
    const struct note_remote *note = request->note;
    char tag_text[TAG_CHARS + 1];
    snprintf(tag_text, sizeof(tag_text), "%08" PRIx32, request->tag);
    struct telling *telling = telling_new(r, request->number, tag_text);
    buf_printf(&telling->text, "{\"id\":\"%" PRIu64 "\"", request->number);
    put_member(&telling->text, "from", r->base->tag_text);
    put_member(&telling->text, "connection", note->connection);
    put_member(&telling->text, "action", note->action);
    put_member(&telling->text, "body", note->body ? note->body : "");
    buf_putc(&telling->text, '}');
    telling_send(telling);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct bus_remote *r = w->data;
    struct request *request, *next;
    for (request = TAILQ_FIRST(&r->waiting); request; request = next) {
        next = TAILQ_NEXT(request, link); /* the store may refuse at once */
        if (!request->unheard)
            continue;
        request->unheard = false;
        tell_request(r, request);
    }
}

static void tell_answer(struct bus_remote *r, const char *tag, uint64_t number, unsigned status,
                        const char *detail)
{
    struct telling *telling = telling_new(r, 0, tag);
    buf_printf(&telling->text, "{\"answer\":\"%" PRIu64 "\",\"status\":%u", number, status);
    if (detail)
        put_member(&telling->text, "detail", detail);
    buf_putc(&telling->text, '}');
    telling_send(telling);
}

/* --- to a worker of this node, and back ------------------------------------------------------- */

static void post_control(struct bus_remote *r, const struct connection_id *id,
                         struct note_control *note)
{
    note->note.kind = NOTE_CONTROL;
    bus_outbox_post(r->outbox, id->worker, &note->note);
}

static char *copy(const char *text)
{
    return mem_dup(text ? text : "", text ? strlen(text) : 0);
}

static void ask_own(struct bus_remote *r, const struct request *request,
                    const struct connection_id *id)
{
    const struct note_remote *asked = request->note;
    struct note_control *note = mem_zero(1, sizeof(*note));
    note->request = request->number;
    note->connection = copy(asked->connection);
    note->action = copy(asked->action);
    note->body = copy(asked->body);
    post_control(r, id, note);
}

void bus_remote_take(struct bus_remote *r, struct note_remote *note)
{
    struct connection_id id;
    if (connection_id_parse(slice_of(note->connection), &id) ||
        (id.tag == r->base->tag && id.worker >= bus_outbox_workers(r->outbox))) {
        note_answer(r, note, 404, "there is no such connection");
        return;
    }
    if (HASH_COUNT(r->by_number) >= WAITING_MAX) {
        note_answer(r, note, 503, "too many of such requests wait for an answer");
        return;
    }
    struct request *request = request_new(r, note);
    request->tag = id.tag;
    if (id.tag == r->base->tag)
        ask_own(r, request, &id);
    else
        tell_request(r, request);
}

void bus_remote_answer(struct bus_remote *r, struct note_control *note)
{
    struct request *request = note->from ? NULL : request_find(r, note->request);
    if (request)
        request_end(request, note->status, note->detail);
    if (note->from) {
        r->served--;
        tell_answer(r, note->from, note->request, note->status, note->detail);
    }
    note_control_free(note);
}

/* --- what other nodes say --------------------------------------------------------------------- */

static const char *member(const cJSON *tree, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, name));
}

static bool is_tag(const char *text)
{
    return text && strlen(text) == TAG_CHARS && strspn(text, "0123456789abcdef") == TAG_CHARS;
}

static bool take_answer(struct bus_remote *r, const cJSON *tree)
{
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(tree, "status");
    const char *detail = member(tree, "detail");
    uint64_t number;
    if (slice_u64(slice_of(member(tree, "answer")), UINT64_MAX, &number) ||
        !cJSON_IsNumber(status) || !(status->valuedouble >= 200 && status->valuedouble <= 599) ||
        (detail && strlen(detail) > DETAIL_MAX))
        return false;
    struct request *request = request_find(r, number);
    if (request) /* else it comes too late */
        request_end(request, (unsigned)status->valuedouble, detail);
    return true;
}

static bool take_request(struct bus_remote *r, const cJSON *tree)
{
    const char *from = member(tree, "from"), *connection = member(tree, "connection");
    const char *action = member(tree, "action"), *body = member(tree, "body");
    struct connection_id id;
    uint64_t number;
    if (slice_u64(slice_of(member(tree, "id")), UINT64_MAX, &number) || !is_tag(from) || !action ||
        strlen(action) > ACTION_MAX || !body || !connection ||
        connection_id_parse(slice_of(connection), &id) || id.tag != r->base->tag)
        return false;
    if (id.worker >= bus_outbox_workers(r->outbox)) {
        tell_answer(r, from, number, 404, "there is no such connection");
        return true;
    }
    if (r->served >= SERVED_MAX) {
        tell_answer(r, from, number, 503, "the connection's node has too much to do");
        return true;
    }
    struct note_control *note = mem_zero(1, sizeof(*note));
    note->request = number;
    note->from = copy(from);
    note->connection = copy(connection);
    note->action = copy(action);
    note->body = copy(body);
    r->served++;
    post_control(r, &id, note);
    return true;
}

void bus_remote_told(struct bus_remote *r, struct slice text)
{
    cJSON *tree = NULL;
    uint64_t held;
    bool valid =
        text.len <= TOLD_BYTES_MAX && json_parse_lenient(text, &tree) == OK &&
        (cJSON_HasObjectItem(tree, "answer") ? take_answer(r, tree) : take_request(r, tree));
    cJSON_Delete(tree);
    if (valid)
        return;
    metrics_add(r->base->metrics, M_DROPPED_INVALID, 1);
    if (log_limit_pass(&r->invalid_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "passed over a message of another relay that is not valid", "not_logged",
                log_u64(held), NULL);
}

/* --- life ------------------------------------------------------------------------------------- */

struct bus_remote *bus_remote_new(const struct bus_base *base, struct bus_outbox *outbox)
{
    struct bus_remote *r = mem_zero(1, sizeof(*r));
    r->base = base;
    r->outbox = outbox;
    r->name = (struct store_name){.subject = STORE_NODE, .ns = mem_dup(base->tag_text, TAG_CHARS)};
    TAILQ_INIT(&r->waiting);
    ev_init(&r->late, on_late);
    ev_init(&r->again, on_again);
    r->late.data = r->again.data = r;
    return r;
}

void bus_remote_listen(struct bus_remote *r)
{
    const struct store *store = &r->base->store;
    store->ops->watch(store->impl, &r->name);
}

void bus_remote_free(struct bus_remote *r)
{
    struct request *request;
    if (!r)
        return;
    while ((request = TAILQ_FIRST(&r->waiting)))
        request_end(request, 504, "this node is ending");
    ev_timer_stop(r->base->loop, &r->late);
    ev_timer_stop(r->base->loop, &r->again);
    heard_reset(r);
    free(r->name.ns);
    free(r);
}
