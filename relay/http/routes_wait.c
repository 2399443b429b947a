/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that wait for what the bus knows: suspended, within auth.timeout, as nothing else tells
 * that nobody will answer. Each waits for one thing, and goes on as if it had never waited. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/bus/bus.h"
#include "relay/http/routes_parts.h"

static const double TICK_S = 0.1;

void routes_visit_reset(struct routes_visit *v)
{
    grant_unref(v->grant);
    route_hit_reset(&v->hit);
    free(v->secret);
    note_publish_free(v->refused);
    *v = (struct routes_visit){0};
}

bool routes_visit_is_outdated(const struct routes *r, const struct routes_visit *v)
{
    return v->rules != admission_rules(r->admission);
}

void routes_visit_anew(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    routes_visit_reset(v);
    r->begin(r, call);
}

void routes_arg_add(struct strings *args, const char *text)
{
    strings_add(args, slice_of(text));
}

void routes_arg_add_u64(struct strings *args, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    routes_arg_add(args, name);
    routes_arg_add(args, text);
}

void routes_put_ticket_args(const struct routes *r, const struct routes_visit *v,
                            struct strings *args)
{
    struct buf id = {0};
    routes_arg_add(args, v->ticket);
    routes_arg_add(args, "connection");
    connection_id_put(&id, &v->id);
    strings_add(args, buf_slice(&id));
    buf_reset(&id);
    routes_arg_add_u64(args, "grace", r->config->ticket_reconnect_grace_ms);
}

/* --- beginning to wait ------------------------------------------------------------------------ */

static struct routes_exchange *wait(struct routes *r, struct routes_visit *v)
{
    struct routes_exchange *x = mem_zero(1, sizeof(*x));
    x->routes = r;
    x->call = v->call;
    x->visit = *v;
    *v = (struct routes_visit){0};
    x->waits = true;
    x->deadline_ms = clock_mono_ms() + r->config->auth_timeout_ms;
    TAILQ_INSERT_TAIL(&r->waits, x, link);
    front_set_user(x->call, x);
    return x;
}

void routes_wait_trust(struct routes *r, struct routes_visit *v)
{
    assert(v->grant && grant_fields(v->grant)->ns);
    wait(r, v)->trusts = true;
}

static struct note_call *call_new(const struct routes *r, const char *function, const char *ns,
                                  struct strings *args)
{
    struct note_call *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_CALL;
    note->worker = r->worker;
    note->function = function;
    note->ns = slice_dup(slice_of(ns));
    note->args = *args;
    *args = (struct strings){0};
    return note;
}

void routes_wait_store(struct routes *r, struct routes_visit *v, const char *function,
                       const char *ns, struct strings *args,
                       void (*resume)(struct routes *r, struct routes_visit *v,
                                      struct note_call *answer))
{
    struct note_call *note = call_new(r, function, ns, args);
    struct routes_exchange *x = wait(r, v);
    x->store = note;
    x->resume = resume;
    note->owner = x;
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
}

struct note_call *routes_ask_store(struct routes *r, const char *function, const char *ns,
                                   struct strings *args, struct routes_exchange *owner)
{
    struct note_call *note = call_new(r, function, ns, args);
    note->owner = owner;
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
    return note;
}

static struct note_remote *remote_new(const struct routes *r, struct slice connection,
                                      const char *action, char *body)
{
    struct note_remote *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_REMOTE;
    note->worker = r->worker;
    note->connection = slice_dup(connection);
    note->action = action;
    note->body = body;
    return note;
}

void routes_wait_remote(struct routes *r, struct routes_visit *v, const char *action, char *body,
                        void (*told)(struct routes *r, struct routes_visit *v,
                                     struct note_remote *answer))
{
    struct note_remote *note = remote_new(r, v->connection, action, body);
    struct routes_exchange *x = wait(r, v);
    x->remote = note;
    x->told = told;
    note->owner = x;
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
}

void routes_wait_read(struct routes *r, struct routes_visit *v, struct note_read *read,
                      void (*looked)(struct routes *r, struct routes_visit *v,
                                     const struct note_read *answer))
{
    struct routes_exchange *x = wait(r, v);
    read->note.kind = NOTE_READ;
    read->worker = r->worker;
    read->owner = x;
    read->looks = true;
    x->read = read;
    x->looked = looked;
    inbox_push(bus_inbox(r->node->bus), &read->note.item);
}

/* A ticket's next user may be told of by Redis before its last one has heard that he has it. */
static bool end_waiting(struct routes *r, struct slice connection)
{
    struct connection_id id;
    struct routes_exchange *x;
    if (connection_id_parse(connection, &id))
        return false;
    TAILQ_FOREACH (x, &r->waits, link) {
        if (!x->store || !x->visit.ticket[0] || x->visit.id.secret != id.secret ||
            x->visit.id.slot != id.slot)
            continue;
        x->visit.replaced = true;
        return true;
    }
    return false;
}

void routes_tell_store(struct routes *r, const char *function, const char *ns, struct strings *args)
{
    inbox_push(bus_inbox(r->node->bus), &call_new(r, function, ns, args)->note.item);
}

void routes_tell_remote(struct routes *r, struct slice connection, const char *action,
                        const char *body)
{
    struct note_remote *note = remote_new(r, connection, action, slice_dup(slice_of(body)));
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
}

/* --- going on --------------------------------------------------------------------------------- */

static void forget(struct routes *r, struct routes_exchange *x)
{
    if (x->waits)
        TAILQ_REMOVE(&r->waits, x, link);
    x->waits = false;
    if (x->store) {
        x->store->owner = NULL;
        atomic_store_explicit(&x->store->cancelled, true, memory_order_relaxed);
    }
    if (x->remote) {
        x->remote->owner = NULL;
        atomic_store_explicit(&x->remote->cancelled, true, memory_order_relaxed);
    }
    if (x->read) {
        x->read->owner = NULL;
        atomic_store_explicit(&x->read->cancelled, true, memory_order_relaxed);
    }
    x->store = NULL;
    x->remote = NULL;
    x->read = NULL;
}

/* The exchange ends, and leaves the visit. */
static struct routes_visit finish(struct routes *r, struct routes_exchange *x)
{
    struct routes_visit v = x->visit;
    forget(r, x);
    front_set_user(v.call, NULL);
    free(x);
    return v;
}

void routes_wait_over(struct routes *r, struct routes_exchange *x)
{
    forget(r, x);
    routes_visit_reset(&x->visit);
}

/* Who had the ticket before is gone, whether his node knows that or not. */
void routes_end_previous(struct routes *r, const char *connection)
{
    if (!connection[0])
        return;
    metrics_add(r->node->metrics[r->worker], M_TICKETS_REPLACED, 1);
    routes_tell_remote(r, slice_of(connection), "end", "{\"reason\":\"replaced\"}");
}

/* A ticket that was taken although nobody waits any more goes back as if it had not been. */
static void return_ticket(struct routes *r, const struct note_call *note)
{
    const struct strings *answer = &note->answer;
    if (strcmp(note->function, "sse_ticket_take") != 0 ||
        strings_have(&note->args, SLICE_LIT("peek")) || note->error || !answer->count ||
        strcmp(answer->items[0], "ok") != 0)
        return;
    struct strings args = {0};
    if (answer->count > 2)
        routes_end_previous(r, answer->items[2]);
    for (size_t i = 0; i < 3 && i < note->args.count; i++) /* the hash, and by whom */
        routes_arg_add(&args, note->args.items[i]);
    routes_arg_add_u64(&args, "grace", r->config->ticket_reconnect_grace_ms);
    routes_arg_add_u64(&args, "unused", 1);
    routes_tell_store(r, "sse_ticket_end", note->ns, &args);
}

void routes_take_call(struct routes *r, struct note_call *note)
{
    struct routes_exchange *x = note->owner;
    if (x && x->pipe) {
        x->called(x->pipe, note);
        return;
    }
    if (!x) {
        return_ticket(r, note);
    } else {
        void (*resume)(struct routes *, struct routes_visit *, struct note_call *) = x->resume;
        x->store = NULL;
        struct routes_visit v = finish(r, x);
        if (v.refused || !note->error || note->error == ERR_DENIED)
            resume(r, &v, note);
        else
            routes_refuse_undecided(r, &v);
        routes_visit_reset(&v);
    }
    note_call_free(note);
}

/* --- ends, again ------------------------------------------------------------------------------ */

enum { RETRIES_MAX = 10000, TRIES_MAX = 5, FIRST_RETRY_MS = 1000 };

/* An end that is to be asked for once more. */
struct routes_retry {
    struct note_remote *note;
    uint64_t due_ms;
    TAILQ_ENTRY(routes_retry) link;
};

static void retry_free(struct routes *r, struct routes_retry *retry)
{
    TAILQ_REMOVE(&r->retries, retry, link);
    r->retry_count--;
    free(retry);
}

/* Pub/sub promises nothing: a node whose subscriber connection has just broken hears no end, and
 * seems to be gone. So it is asked again a few times: a ticket has one stream. */
static bool retry_later(struct routes *r, struct note_remote *note)
{
    uint64_t held;
    if (note->status == 200 || strcmp(note->action, "end") != 0 || ++note->tries > TRIES_MAX)
        return false;
    if (r->retry_count >= RETRIES_MAX) {
        if (log_limit_pass(&r->retry_limit, clock_mono_us(), &held))
            log_put(LOG_WARN, "too many streams to end on nodes that do not answer", "not_logged",
                    log_u64(held), NULL);
        return false;
    }
    struct routes_retry *retry = mem_zero(1, sizeof(*retry));
    retry->note = note;
    retry->due_ms = clock_mono_ms() + ((uint64_t)FIRST_RETRY_MS << (note->tries - 1));
    free(note->detail);
    note->detail = NULL;
    TAILQ_INSERT_TAIL(&r->retries, retry, link);
    r->retry_count++;
    return true;
}

static void retry_due(struct routes *r, uint64_t now_ms)
{
    struct routes_retry *retry, *next;
    for (retry = TAILQ_FIRST(&r->retries); retry; retry = next) {
        next = TAILQ_NEXT(retry, link);
        if (retry->due_ms > now_ms)
            continue;
        inbox_push(bus_inbox(r->node->bus), &retry->note->note.item);
        retry_free(r, retry);
    }
}

static void drop_retries(struct routes *r)
{
    struct routes_retry *retry;
    while ((retry = TAILQ_FIRST(&r->retries))) {
        note_remote_free(retry->note);
        retry_free(r, retry);
    }
}

void routes_take_remote(struct routes *r, struct note_remote *note)
{
    struct routes_exchange *x = note->owner;
    if (x) {
        void (*told)(struct routes *, struct routes_visit *, struct note_remote *) = x->told;
        x->remote = NULL;
        struct routes_visit v = finish(r, x);
        told(r, &v, note);
        routes_visit_reset(&v);
    } else if (retry_later(r, note)) {
        return;
    }
    note_remote_free(note);
}

void routes_take_control(struct routes *r, struct note_control *note)
{
    if (!fanout_control(r->fanout, note, admission_revoked(r->admission)))
        return;
    bool ends = slice_is(slice_of(note->action), "end");
    if (note->status == 404 && ends && end_waiting(r, slice_of(note->connection)))
        note->status = 200;
    inbox_push(bus_inbox(r->node->bus), &note->note.item);
}

static void go_on_looked(struct routes *r, struct routes_exchange *x,
                         const struct note_read *answer)
{
    void (*looked)(struct routes *, struct routes_visit *, const struct note_read *) = x->looked;
    struct routes_visit v = finish(r, x);
    looked(r, &v, answer);
    routes_visit_reset(&v);
}

void routes_take_read(struct routes *r, struct note_read *note)
{
    struct routes_exchange *x = note->owner;
    if (x) {
        x->read = NULL;
        go_on_looked(r, x, note->events ? note : NULL);
    }
    note_read_free(note);
}

/* Those that waited for the namespace begin anew. They are taken out of the list first, as some may
 * come to wait again. */
static void go_on(struct routes *r, struct slice ns)
{
    struct routes_waits turn = TAILQ_HEAD_INITIALIZER(turn);
    struct routes_exchange *x, *next;
    for (x = TAILQ_FIRST(&r->waits); x; x = next) {
        next = TAILQ_NEXT(x, link);
        if (!x->trusts || !slice_is(ns, grant_fields(x->visit.grant)->ns))
            continue;
        TAILQ_REMOVE(&r->waits, x, link);
        x->waits = false;
        TAILQ_INSERT_TAIL(&turn, x, link);
    }
    while ((x = TAILQ_FIRST(&turn))) {
        TAILQ_REMOVE(&turn, x, link);
        struct routes_visit v = finish(r, x);
        routes_visit_anew(r, &v);
    }
}

void routes_take_revoked(struct routes *r, struct note_revoked *note)
{
    admission_take_revoked(r->admission, note);
    fanout_revoke(r->fanout, note);
    if (note->loaded)
        go_on(r, slice_of(note->ns));
    note_revoked_free(note);
}

/* --- time ------------------------------------------------------------------------------------- */

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct routes *r = w->data;
    uint64_t now_ms = clock_mono_ms();
    struct routes_exchange *x;
    while ((x = TAILQ_FIRST(&r->waits)) && x->deadline_ms <= now_ms) {
        if (x->read) {
            go_on_looked(r, x, NULL);
            continue;
        }
        void (*resume)(struct routes *, struct routes_visit *, struct note_call *) = x->resume;
        struct routes_visit v = finish(r, x);
        if (v.refused)
            resume(r, &v, NULL);
        else
            routes_refuse_undecided(r, &v);
        routes_visit_reset(&v);
    }
    retry_due(r, now_ms);
    admission_tick(r->admission);
}

void routes_wait_start(struct routes *r)
{
    TAILQ_INIT(&r->waits);
    TAILQ_INIT(&r->retries);
    ev_timer_init(&r->tick, on_tick, TICK_S, TICK_S);
    r->tick.data = r;
    ev_timer_start(r->loop, &r->tick);
}

void routes_wait_stop(struct routes *r)
{
    ev_timer_stop(r->loop, &r->tick);
    drop_retries(r);
}
