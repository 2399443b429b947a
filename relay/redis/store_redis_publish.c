/* Publish requests that Redis has not answered: which wait, for how long, in which order. Each is
 * answered within publish.timeout, and none is sent once it has been answered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/kit/log.h"
#include "relay/core/publication_arguments.h"
#include "relay/redis/store_redis_parts.h"
#include "relay/kit/timer.h"

static const double AGAIN_S = 0.1; /* after an answer that said "not now" */
/* At the end of a drain, for the answers that are on their way; less than the node's own grace. */
enum { END_GRACE_US = 2000000 };

/* --- the lists ------------------------------------------------------------------------------- */

static void list_insert(struct posting_list *list, struct posting *p)
{
    struct posting *before = TAILQ_LAST(list, posting_list);
    while (before && before->number > p->number)
        before = TAILQ_PREV(before, posting_list, link);
    if (before)
        TAILQ_INSERT_AFTER(list, before, p, link);
    else
        TAILQ_INSERT_HEAD(list, p, link);
}

void store_redis_posts_move(struct posting *p, enum posting_state state)
{
    struct store_redis_posts *posts = &p->store->posts;
    if (p->state != POSTING_LOOSE)
        TAILQ_REMOVE(&posts->lists[p->state], p, link);
    posts->waiting -= p->state == POSTING_WAITING;
    p->state = state;
    posts->waiting += p->state == POSTING_WAITING;
    if (p->state != POSTING_LOOSE)
        list_insert(&posts->lists[p->state], p);
    metrics_set(p->store->metrics, M_PUBLISH_WAITING, posts->waiting);
}

void store_redis_posts_answer(struct posting *p, unsigned status, enum publish_outcome outcome)
{
    struct store_redis *s = p->store;
    struct note_publish *note = p->note;
    bool due = p->state == POSTING_SENT;
    store_redis_posts_move(p, POSTING_LOOSE);
    s->posts.count--;
    s->posts.bytes -= p->bytes;
    note->status = status;
    note->outcome = outcome;
    p->note = NULL;
    if (!due)
        store_redis_posting_free(p);
    bus_published(s->bus, note);
}

/* --- giving up ------------------------------------------------------------------------------- */

static void put_ids(struct buf *b, const struct note_publish *note)
{
    for (size_t i = 0; i < note->request.count && i < 3; i++)
        buf_printf(b, "%s%llu", i ? ", " : "", (unsigned long long)note->ids[i]);
    buf_puts(b, note->request.count > 3 ? ", …" : "");
}

static void give_up(struct posting *p, const char *when)
{
    struct store_redis *s = p->store;
    struct buf *b = &p->note->detail;
    const char *obstacle = s->posts.obstacle[0] ? s->posts.obstacle : "Redis cannot be reached";
    buf_clear(b);
    if (p->published) {
        buf_puts(b, "published as ");
        put_ids(b, p->note);
        buf_printf(b,
                   ", but not confirmed %s: %lld of %llu replicas have it; it is lost if the "
                   "primary fails before they do",
                   when, (long long)s->posts.confirmed,
                   (unsigned long long)s->config->publish_wait_replicas);
        store_redis_posts_answer(p, 504, PUBLISH_DONE);
    } else if (p->unknown || p->state == POSTING_SENT) {
        buf_printf(b,
                   "whether the event was published is not known: it was sent, but Redis did not "
                   "answer %s (%s); publish again with the same \"once\" key, or without one at "
                   "the risk of a second event",
                   when, p->unknown ? obstacle : "it is there, but silent");
        store_redis_posts_answer(p, 503, PUBLISH_UNKNOWN);
    } else {
        buf_printf(b, "nothing was published: Redis did not take it %s (%s)", when, obstacle);
        store_redis_posts_answer(p, 503, PUBLISH_NOT);
    }
}

static uint64_t due_us(const struct posting *p)
{
    const struct store_redis *s = p->store;
    uint64_t timeout_us = s->config->publish_timeout_ms * 1000;
    uint64_t end_us = s->posts.end_us ? s->posts.end_us : UINT64_MAX;
    uint64_t due = p->arrived_us + timeout_us;
    if (p->state == POSTING_SENT && !timeout_us)
        due = UINT64_MAX; /* told not to wait: it is answered, or its connection breaks */
    if (p->state > POSTING_WAITING && s->posts.end_us)
        end_us = (p->arrived_us > end_us ? p->arrived_us : end_us) + END_GRACE_US;
    return end_us < due ? end_us : due;
}

static void expire(struct posting *p)
{
    struct store_redis *s = p->store;
    uint64_t held;
    metrics_add(s->metrics, M_PUBLISH_TIMED_OUT, 1);
    if (log_limit_pass(&s->posts.expired_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "gave up a publish request that waited for Redis", "reason",
                s->posts.obstacle, "not_logged", log_u64(held), NULL);
    bool ending = s->posts.end_us && s->posts.end_us <= clock_mono_us();
    const char *timeout = s->config->publish_timeout_ms ? "within publish.timeout" : "at once";
    give_up(p, ending ? "before this node ends" : timeout);
}

/* The lists are in order of arrival, so their heads are due first. */
static void set_due_timer(struct store_redis *s)
{
    struct store_redis_posts *posts = &s->posts;
    uint64_t first = UINT64_MAX, now = clock_mono_us();
    for (int i = POSTING_WAITING; i < POSTING_STATES; i++) {
        struct posting *p = TAILQ_FIRST(&posts->lists[i]);
        if (p && due_us(p) < first)
            first = due_us(p);
    }
    ev_timer_stop(s->loop, &posts->due);
    if (first == UINT64_MAX)
        return;
    ev_now_update(s->loop);
    timer_once(s->loop, &posts->due, first > now ? (double)(first - now) / 1e6 : 0.);
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct store_redis *s = w->data;
    uint64_t now = clock_mono_us();
    for (int i = POSTING_WAITING; i < POSTING_STATES; i++) {
        struct posting *p;
        while ((p = TAILQ_FIRST(&s->posts.lists[i])) && due_us(p) <= now)
            expire(p);
    }
    set_due_timer(s);
}

/* Set for the oldest, it comes too early for those after it, never too late. */
static void watch_due(struct store_redis *s)
{
    if (!ev_is_active(&s->posts.due))
        set_due_timer(s);
}

/* --- waiting --------------------------------------------------------------------------------- */

void store_redis_posts_obstacle(struct store_redis *s, const char *what, const char *why)
{
    snprintf(s->posts.obstacle, sizeof(s->posts.obstacle), "%s: %s", what, why);
}

static bool is_reachable(const struct store_redis *s)
{
    return redis_conn_is_up(s->posts.conn) && s->library_ready;
}

static bool can_send(const struct store_redis *s)
{
    return is_reachable(s) && !s->posts.held && !s->posts.wait_out;
}

static void tell_waiting(struct store_redis *s)
{
    uint64_t held;
    s->posts.outage = true;
    if (s->posts.told || !log_limit_pass(&s->posts.wait_limit, clock_mono_us(), &held))
        return;
    s->posts.told = true;
    log_put(LOG_WARN, "publish requests wait for Redis", "reason", s->posts.obstacle, "not_logged",
            log_u64(held), NULL);
}

void store_redis_posts_wait(struct posting *p)
{
    struct store_redis *s = p->store;
    if (s->posts.ended) {
        give_up(p, "before this node ended");
    } else if ((p->unknown || p->published) && !p->keyed) {
        give_up(p, "before the connection broke");
    } else if (due_us(p) <= clock_mono_us()) {
        expire(p);
    } else {
        tell_waiting(s);
        store_redis_posts_move(p, POSTING_WAITING);
        watch_due(s);
    }
}

void store_redis_posts_hold(struct posting *p, struct slice error)
{
    struct store_redis *s = p->store;
    char *why = slice_dup(error);
    store_redis_posts_obstacle(s, "Redis says", why);
    free(why);
    s->posts.held = true;
    ev_timer_again(s->loop, &s->posts.again);
    store_redis_posts_wait(p);
}

/* A call in the hands of the bus is suspended: nobody else looks at its socket. A peer that closed
 * only its sending half looks the same; it is told that nothing was published. */
static bool has_hung_up(const struct note_publish *note)
{
    char byte;
    ssize_t n = recv(note->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static bool send_or_wait(struct posting *p)
{
    if (store_redis_posting_send(p)) {
        watch_due(p->store);
        return true;
    }
    store_redis_posts_wait(p);
    return false;
}

/* False: the connection is gone. */
static bool send_waiting(struct posting *p)
{
    struct store_redis *s = p->store;
    store_redis_posts_move(p, POSTING_LOOSE);
    if (has_hung_up(p->note)) {
        give_up(p, "before its client hung up");
        return true;
    }
    metrics_add(s->metrics, M_PUBLISH_RETRIED, p->unknown || p->published);
    bool sent = send_or_wait(p);
    s->posts.waited += sent;
    return sent;
}

static void send_all_waiting(struct store_redis *s)
{
    struct posting_list *waiting = &s->posts.lists[POSTING_WAITING];
    char ns[NAME_NS_MAX + 1] = "";
    struct posting *p;
    while (can_send(s) && (p = TAILQ_FIRST(waiting))) {
        /* Redis may have lost the retention settings meanwhile. */
        if (s->posts.outage && strcmp(ns, p->note->request.ns) != 0) {
            snprintf(ns, sizeof(ns), "%s", p->note->request.ns);
            store_redis_open(s, ns, 0, false);
        }
        if (!send_waiting(p))
            break;
    }
    if (!TAILQ_EMPTY(waiting))
        return;
    if (s->posts.told && s->posts.waited)
        log_put(LOG_INFO, "publish requests that waited for Redis are sent", "count",
                log_u64(s->posts.waited), NULL);
    s->posts.told = s->posts.outage = false;
    s->posts.waited = 0;
}

/* Where replicas must confirm, posts go out at the end of the turn, all together. */
void store_redis_posts_release(struct store_redis *s)
{
    if (!s->posts.ended && !store_redis_waits(s))
        send_all_waiting(s);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct store_redis *s = w->data;
    struct posting *first = TAILQ_FIRST(&s->posts.lists[POSTING_WAITING]);
    s->posts.wait_paused = false;
    if (!s->posts.held || !first) {
        s->posts.held = false;
        ev_timer_stop(loop, w);
    } else if (is_reachable(s) && !s->posts.wait_out) {
        send_waiting(first); /* its answer ends the hold, or says "not now" again */
    }
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct store_redis *s = w->data;
    if (!s->posts.waiting && TAILQ_EMPTY(&s->posts.lists[POSTING_SENT]) &&
        TAILQ_EMPTY(&s->posts.lists[POSTING_UNCONFIRMED]))
        return;
    send_all_waiting(s);
    store_redis_wait_send(s);
}

/* --- in ------------------------------------------------------------------------------------- */

static struct posting *posting_new(struct store_redis *s, struct note_publish *note)
{
    struct posting *p = mem_zero(1, sizeof(*p));
    p->store = s;
    p->note = note;
    p->number = ++s->posts.last_number;
    p->arrived_us = clock_mono_us();
    p->keyed = s->config->publish_timeout_ms > 0;
    for (size_t i = 0; i < note->request.count; i++)
        p->bytes += publication_bytes(&note->request.items[i]);
    note->ids = mem_zero(note->request.count, sizeof(*note->ids));
    s->posts.count++;
    s->posts.bytes += p->bytes;
    return p;
}

/* Bounds what is not answered, whether it waits or was sent to a Redis that is silent. One alone
 * always fits. */
static bool is_over_bound(const struct store_redis *s)
{
    return s->posts.count > s->config->publish_max_waiting ||
           (s->posts.count > 1 && s->posts.bytes > s->config->publish_max_waiting_bytes);
}

void store_redis_publish(void *impl, struct note_publish *note)
{
    struct store_redis *s = impl;
    struct posting *p = posting_new(s, note);
    if (is_over_bound(s)) {
        buf_puts(&note->detail, "nothing was published: too much waits for Redis already "
                                "(publish.max_waiting, publish.max_waiting_bytes)");
        store_redis_posts_answer(p, 503, PUBLISH_NOT);
    } else if (store_redis_waits(s) && is_reachable(s) && !s->posts.held) {
        store_redis_posts_move(p, POSTING_WAITING); /* for the end of the turn, or of a WAIT */
        watch_due(s);
    } else if (can_send(s) && !s->posts.waiting) {
        send_or_wait(p);
    } else {
        store_redis_posts_wait(p);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

void store_redis_posts_init(struct store_redis *s)
{
    struct store_redis_posts *posts = &s->posts;
    uint64_t random[2];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        abort(); /* Linux fills up to 256 bytes whole */
    snprintf(posts->token, sizeof(posts->token), "%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
    for (int i = 0; i < POSTING_STATES; i++)
        TAILQ_INIT(&posts->lists[i]);
    store_redis_posts_obstacle(s, "Redis cannot be reached", "not connected yet");
    ev_init(&posts->due, on_due);
    ev_init(&posts->again, on_again);
    posts->again.repeat = AGAIN_S;
    ev_prepare_init(&posts->turn_end, on_turn_end);
    posts->due.data = posts->again.data = posts->turn_end.data = s;
    store_redis_wait_init(s);
}

void store_redis_posts_start(struct store_redis *s)
{
    if (!store_redis_waits(s))
        return;
    redis_conn_start(s->posts.conn);
    ev_prepare_start(s->loop, &s->posts.turn_end);
}

void store_redis_posts_configure(struct store_redis *s)
{
    set_due_timer(s);
}

void store_redis_posts_drain(void *impl)
{
    struct store_redis *s = impl;
    s->posts.end_us = clock_mono_us() + s->config->drain_ms * 1000;
    set_due_timer(s);
}

void store_redis_posts_end(struct store_redis *s)
{
    s->posts.ended = true;
    for (int i = POSTING_WAITING; i < POSTING_STATES; i++) {
        struct posting *p;
        while ((p = TAILQ_FIRST(&s->posts.lists[i])))
            give_up(p, "before this node ended");
    }
    ev_timer_stop(s->loop, &s->posts.due);
    ev_timer_stop(s->loop, &s->posts.again);
    ev_prepare_stop(s->loop, &s->posts.turn_end);
    store_redis_wait_end(s);
}
