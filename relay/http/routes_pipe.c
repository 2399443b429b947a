/* SPDX-License-Identifier: Apache-2.0 */
/* POST /topics/{topic}/pipe: a body is cut into events, which are published as they arrive, in
 * order, those that have gathered together. Each pipe has one round trip at a time; all pipes of
 * the worker begin theirs in the same turn, at most every 5 ms, so that 500 of them cost the bus
 * and Redis one read and one write and not 500. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/bus/bus.h"
#include "relay/http/routes_pipe_parts.h"
#include "relay/kit/timer.h"

enum {
    ROUND_US = 5000,
    POLL_MS = 1000,      /* a pipe that is silent asks so often whether its topic has ended */
    ROOM_WAIT_MS = 5000, /* for memory that others hold */
};
static const double TICK_S = 0.1;

TAILQ_HEAD(pipe_list, routes_pipe);

struct routes_pipes {
    struct routes *r;
    struct pipe_list open; /* all */
    struct pipe_list ready;
    uint64_t round_us; /* when the last round began */
    ev_timer round, tick;
    struct log_limit full_limit;
};

static void count(const struct routes_pipe *p, enum metric which, uint64_t n)
{
    metrics_add(p->r->node->metrics[p->r->worker], which, n);
}

/* --- life ------------------------------------------------------------------------------------- */

static void pipe_free(struct routes_pipe *p)
{
    struct routes_pipes *pipes = p->r->pipes;
    if (p->ready)
        TAILQ_REMOVE(&pipes->ready, p, ready_link);
    TAILQ_REMOVE(&pipes->open, p, link);
    routes_pipe_drop_queue(p);
    cutter_reset(&p->cutter);
    request_pipe_reset(&p->request);
    grant_unref(p->grant);
    buf_reset(&p->detail);
    free(p->ended);
    free(p);
}

static void forget(struct note_call **note)
{
    if (!*note)
        return;
    (*note)->owner = NULL;
    atomic_store_explicit(&(*note)->cancelled, true, memory_order_relaxed);
    *note = NULL;
}

/* --- publishing ------------------------------------------------------------------------------- */

static void send_queue(struct routes_pipe *p)
{
    struct note_publish *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_PUBLISH;
    note->worker = p->r->worker;
    note->owner = &p->x;
    note->request.ns = slice_dup(slice_of(p->request.ns));
    note->request.items = p->queue;
    note->request.count = p->queued;
    p->flight = note;
    p->flight_bytes = p->queued_bytes;
    p->queue = NULL;
    p->queued = p->queued_bytes = 0;
    p->sent_ms = clock_mono_ms();
    inbox_push(bus_inbox(p->r->node->bus), &note->note.item);
}

static void unready(struct routes_pipe *p)
{
    if (p->ready)
        TAILQ_REMOVE(&p->r->pipes->ready, p, ready_link);
    p->ready = false;
}

static void on_round(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct routes_pipes *pipes = w->data;
    struct routes_pipe *p;
    pipes->round_us = clock_mono_us();
    while ((p = TAILQ_FIRST(&pipes->ready))) {
        unready(p);
        send_queue(p);
    }
}

static void make_ready(struct routes_pipe *p)
{
    struct routes_pipes *pipes = p->r->pipes;
    uint64_t due_us = pipes->round_us + ROUND_US, now_us = clock_mono_us();
    if (p->ready)
        return;
    p->ready = true;
    TAILQ_INSERT_TAIL(&pipes->ready, p, ready_link);
    if (!ev_is_active(&pipes->round))
        timer_once(p->r->loop, &pipes->round,
                   due_us > now_us ? (double)(due_us - now_us) / 1e6 : 0.);
}

/* What comes next, whenever something has changed. @p may be gone after it. */
static void go_on(struct routes_pipe *p)
{
    bool closing = p->status || p->complete;
    if (p->flight || p->asked)
        return;
    if (p->answered) {
        if (!p->call)
            pipe_free(p);
    } else if (p->queued && (closing || routes_pipe_is_full(p) || !p->call)) {
        unready(p);
        send_queue(p);
    } else if (p->queued) {
        make_ready(p);
    } else {
        if (closing)
            routes_pipe_finish(p);
        if (!p->call)
            pipe_free(p);
    }
}

/* Whether the body may be read on. */
static bool has_room(const struct routes_pipe *p, size_t len)
{
    return !routes_pipe_is_full(p) && front_body_room(p->call) >= len;
}

static void read_on(struct routes_pipe *p)
{
    if (!p->stopped || !p->call || p->complete || p->answered || !has_room(p, p->wanted))
        return;
    p->stopped = false;
    p->heard_ms = clock_mono_ms(); /* it was we who were silent */
    front_body_go_on(p->call);
}

/* --- what came of it -------------------------------------------------------------------------- */

static void count_published(struct routes_pipe *p, const struct note_publish *note)
{
    size_t done = 0;
    for (size_t i = 0; note->outcome == PUBLISH_DONE && i < note->request.count; i++) {
        if (note->ids[i] == NOTE_ID_ENDED)
            continue;
        if (p->count + done == 0)
            p->first = note->ids[i];
        p->last = note->ids[i];
        done++;
    }
    p->count += done;
    count(p, M_PIPE_EVENTS, done);
}

static void close_failed(struct routes_pipe *p, const struct note_publish *note)
{
    struct buf b = {0};
    p->status = 0; /* whatever else was wrong, this came before it */
    routes_pipe_drop_queue(p);
    p->unknown = note->outcome == PUBLISH_UNKNOWN;
    if (note->status == 409) {
        routes_pipe_close_ended(p);
        return;
    }
    buf_put_slice(&b, buf_slice(&note->detail));
    if (p->count)
        buf_printf(&b, "; this is about the last of the body's events: %llu were published before",
                   (unsigned long long)p->count);
    routes_pipe_close(p, note->status, M_PIPE_FAILED, buf_slice(&b));
    buf_reset(&b);
}

static void on_published(struct routes_pipe *p, struct note_publish *note)
{
    p->flight = NULL;
    p->flight_bytes = 0;
    count_published(p, note);
    if (note->status != 200)
        close_failed(p, note);
    note_publish_free(note);
    routes_pipe_update_held(p);
    read_on(p);
    go_on(p);
}

static void on_called(struct routes_pipe *p, struct note_call *note)
{
    bool closing = p->status || p->complete;
    if (note == p->poll) {
        p->poll = NULL;
        if (!closing && !note->error && routes_pipe_note_ended(p, &note->answer)) {
            routes_pipe_drop_queue(p);
            unready(p);
            routes_pipe_update_held(p);
        }
        go_on(p);
    } else {
        p->asked = NULL;
        routes_pipe_told(p, note);
    }
    note_call_free(note);
}

/* --- the body --------------------------------------------------------------------------------- */

static size_t stop(struct routes_pipe *p, size_t taken, size_t wanted)
{
    p->stopped = true;
    p->stopped_ms = clock_mono_ms();
    p->wanted = wanted;
    return taken;
}

size_t routes_pipe_body(struct routes_pipe *p, struct slice piece)
{
    struct slice rest = piece;
    p->heard_ms = clock_mono_ms();
    if (p->status) /* it has its end before it, and nobody wants more */
        return piece.len;
    if (!has_room(p, piece.len))
        return stop(p, 0, piece.len);
    do {
        routes_pipe_cut(p, &rest);
        go_on(p);
    } while (!p->status && rest.len && !routes_pipe_is_full(p));
    routes_pipe_update_held(p);
    if (p->status || !rest.len)
        return piece.len;
    return stop(p, piece.len - rest.len, 1);
}

void routes_pipe_whole(struct routes_pipe *p)
{
    routes_pipe_cut_end(p);
    p->complete = true;
    go_on(p);
}

void routes_pipe_over(struct routes_pipe *p)
{
    struct routes *r = p->r;
    p->call = NULL;
    atomic_fetch_sub(&r->node->pipes, 1);
    metrics_sub(r->node->metrics[r->worker], M_PIPES_OPEN, 1);
    if (!p->answered)
        count(p, p->status ? p->outcome : p->complete ? M_PIPE_DONE : M_PIPE_BROKEN, 1);
    if (p->asked) {
        p->asked->owner = NULL; /* an end is made all the same */
        p->request.ends = false;
    }
    p->asked = NULL;
    forget(&p->poll);
    if (atomic_load(&r->node->draining))
        routes_pipe_drop_queue(p); /* nobody may be there any more to publish it */
    go_on(p);
}

/* --- opening ---------------------------------------------------------------------------------- */

static bool is_full(const struct routes *r)
{
    size_t open = atomic_load(&r->node->pipes), most = r->node->max_others / 2;
    return open >= r->config->pipe_max_open || open >= (most ? most : 1);
}

static void refuse_full(struct routes *r, struct routes_visit *v)
{
    uint64_t held;
    metrics_add(r->node->metrics[r->worker], M_PIPE_FULL, 1);
    if (log_limit_pass(&r->pipes->full_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "too many pipes at a time; refusing some", "pipes",
                log_u64(atomic_load(&r->node->pipes)), "not_logged", log_u64(held), NULL);
    routes_refuse_later(r, v, 1,
                        SLICE_LIT("this node has as many pipes as it may (pipe.max_open, and half "
                                  "of the connections that are not streams); try again"));
}

static void open_pipe(struct routes *r, struct routes_visit *v, struct request_pipe *request)
{
    struct routes_pipe *p = mem_zero(1, sizeof(*p));
    p->r = r;
    p->call = v->call;
    p->grant = v->grant ? grant_ref(v->grant) : NULL;
    p->request = *request;
    p->x = (struct routes_exchange){
        .routes = r, .call = v->call, .pipe = p, .published = on_published, .called = on_called};
    cutter_init(&p->cutter, request->kind, r->config->max_event_bytes);
    p->opened_ms = p->heard_ms = p->sent_ms = clock_mono_ms();
    TAILQ_INSERT_TAIL(&r->pipes->open, p, link);
    atomic_fetch_add(&r->node->pipes, 1);
    count(p, M_PIPES_OPEN, 1);
    if (!ev_is_active(&r->pipes->tick))
        ev_timer_again(r->loop, &r->pipes->tick);
    front_set_user(v->call, &p->x);
    front_body_go_on(v->call);
}

void routes_serve_pipe(struct routes *r, struct routes_visit *v)
{
    struct request_view view = *front_view(v->call);
    struct request_pipe request;
    struct problem problem = {0};
    view.grant = v->grant;
    if (!routes_pass_origin(r, v, "publish"))
        return;
    if (request_parse_pipe(&view, r->config, v->topic, &request, &problem)) {
        metrics_add(r->node->metrics[r->worker], M_PIPE_REFUSED, 1);
        routes_refuse(r, v, problem.status, buf_slice(&problem.detail));
        buf_reset(&problem.detail);
    } else if (!front_is_piped(v->call)) {
        request_pipe_reset(&request);
        metrics_add(r->node->metrics[r->worker], M_PIPE_REFUSED, 1);
        routes_refuse(r, v, 411,
                      SLICE_LIT("a pipe needs a body: send Transfer-Encoding: chunked (or, in "
                                "HTTP/1.0, which has no such thing, Content-Length)"));
    } else if (atomic_load(&r->node->draining)) {
        request_pipe_reset(&request);
        routes_refuse_later(r, v, 1, SLICE_LIT("this node ends; another one will take the body"));
    } else if (is_full(r)) {
        request_pipe_reset(&request);
        refuse_full(r, v);
    } else {
        open_pipe(r, v, &request);
    }
}

/* --- time ------------------------------------------------------------------------------------- */

/* @then_ms may be later: something was done in this turn. */
static uint64_t passed_ms(uint64_t then_ms, uint64_t now_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

static void poll_end(struct routes_pipe *p, uint64_t now_ms)
{
    struct strings args = {0};
    uint64_t since_ms = p->sent_ms > p->polled_ms ? p->sent_ms : p->polled_ms;
    if (p->poll || p->flight || p->queued || passed_ms(since_ms, now_ms) < POLL_MS)
        return;
    p->polled_ms = now_ms;
    routes_arg_add(&args, "topic");
    routes_arg_add(&args, p->request.event.topics.items[0]);
    p->poll = routes_ask_store(p->r, "sse_ended", p->request.ns, &args, &p->x);
}

/* Memory that others hold comes free without a word. */
static void check_stopped(struct routes_pipe *p, uint64_t now_ms)
{
    read_on(p);
    if (p->stopped && !p->queued && !p->flight && passed_ms(p->stopped_ms, now_ms) >= ROOM_WAIT_MS)
        routes_pipe_close(p, 503, M_PIPE_FULL,
                          SLICE_LIT("this node holds as many bytes of request bodies as it may "
                                    "(publish.max_held_bytes); try again"));
}

static void check_time(struct routes_pipe *p, uint64_t now_ms)
{
    const struct config *config = p->r->config;
    if (p->grant && admission_check_revoked(p->r->admission, p->grant) == ERR_DENIED)
        routes_pipe_close(p, 401, M_PIPE_REFUSED, SLICE_LIT("revoked"));
    else if (passed_ms(p->opened_ms, now_ms) >= config->pipe_max_ms)
        routes_pipe_close(p, 408, M_PIPE_TIMEOUT,
                          SLICE_LIT("the pipe has been open for as long as it may (pipe.max)"));
    else if (!p->stopped && passed_ms(p->heard_ms, now_ms) >= config->pipe_silence_ms)
        routes_pipe_close(p, 408, M_PIPE_TIMEOUT,
                          SLICE_LIT("the body has been silent for too long (pipe.silence)"));
}

static void pipe_tick(struct routes_pipe *p, uint64_t now_ms)
{
    if (p->asked && now_ms >= p->asked_until_ms) {
        forget(&p->asked);
        routes_pipe_told(p, NULL);
    }
    if (!p->call || p->answered || p->status || p->complete)
        return;
    check_stopped(p, now_ms);
    check_time(p, now_ms);
    if (p->status)
        go_on(p);
    else
        poll_end(p, now_ms);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct routes_pipes *pipes = w->data;
    struct routes_pipe *p, *next;
    uint64_t now_ms = clock_mono_ms();
    for (p = TAILQ_FIRST(&pipes->open); p; p = next) {
        next = TAILQ_NEXT(p, link);
        pipe_tick(p, now_ms);
    }
    if (TAILQ_EMPTY(&pipes->open))
        ev_timer_stop(loop, w);
}

void routes_pipe_drain(struct routes *r)
{
    struct routes_pipe *p, *next;
    for (p = TAILQ_FIRST(&r->pipes->open); p; p = next) {
        next = TAILQ_NEXT(p, link);
        if (!p->call || p->answered || p->complete)
            continue;
        routes_pipe_close(p, 503, M_PIPE_DRAIN,
                          SLICE_LIT("this node ends, and with it the pipe; the rest of the body is "
                                    "not published"));
        go_on(p);
    }
}

void routes_pipe_start(struct routes *r)
{
    struct routes_pipes *pipes = r->pipes = mem_zero(1, sizeof(*pipes));
    pipes->r = r;
    TAILQ_INIT(&pipes->open);
    TAILQ_INIT(&pipes->ready);
    ev_init(&pipes->round, on_round);
    ev_init(&pipes->tick, on_tick);
    pipes->tick.repeat = TICK_S;
    pipes->round.data = pipes->tick.data = pipes;
}

void routes_pipe_stop(struct routes *r)
{
    struct routes_pipe *p;
    while ((p = TAILQ_FIRST(&r->pipes->open)))
        pipe_free(p);
    ev_timer_stop(r->loop, &r->pipes->round);
    ev_timer_stop(r->loop, &r->pipes->tick);
    free(r->pipes);
    r->pipes = NULL;
}
